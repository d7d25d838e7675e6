"""The reference's configs and ours: every field known, nothing accepted and ignored, there and back the same."""

import dataclasses
import json
import os
import random
import re
from pathlib import Path

import pytest

from ptychoflow.config import Config, ConfigError, load_config
from ptychoflow.interop.ptychopinn.config_translation import (
    SECTIONS,
    from_legacy,
    from_reference_json,
    from_tensorflow,
    from_torch,
    to_legacy,
    to_tensorflow,
    to_torch,
    update_legacy_dict,
)
from ptychoflow.interop.ptychopinn.field_map import ROWS
from ptychoflow.interop.ptychopinn.flat_config import (
    DIVERGENT_DEFAULTS,
    KEY_MAPPINGS,
    flat,
    legacy_names,
    same,
    tensorflow_form,
    tensorflow_names,
    torch_names,
    torch_to_tensorflow,
)
from ptychoflow.interop.ptychopinn.stage_shorthand import MAKES

MAPPED_TORCH = {key: (row, name) for key, (row, name) in torch_names().items() if row.ours is not None}
REFUSED = [
    *((side, key, row, name) for side, names in {"torch": torch_names(), "legacy": legacy_names()}.items()
      for key, (row, name) in names.items() if row.ours is None),
    *((kind, key, row, name) for kind in ("training", "inference")
      for key, (row, name) in tensorflow_names(kind).items() if row.ours is None),
]  # fmt: skip
DEFAULTS = {name: schema() for name, schema in SECTIONS.items()}
KNOWN = flat({name: section.model_dump() for name, section in DEFAULTS.items()})


def _take(side: str, key: str, value: object, chosen: bool = False) -> dict:
    """What one field of the reference becomes."""
    if side == "torch":
        section, _, field = key.partition(".")
        return from_torch({section: {field: value}}, chosen=chosen)
    if side == "legacy":
        return from_legacy({key: value})
    return from_tensorflow({key: value} | ({"model_path": None} if side == "inference" else {}))


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_setting_the_table_names_exists():
    assembled = tuple(f"{part}." for part in (*MAKES, "arguments"))
    ours = {row.ours for row in ROWS if row.ours and not row.ours.startswith(assembled)}
    assert ours <= KNOWN.keys()


def test_every_setting_a_reason_recommends_exists():
    named = {key for row in ROWS for key in re.findall(r"`([a-z_]+\.[a-z_.]+)", row.because)}
    assert not [key for key in named if not any(known == key or known.startswith(f"{key}.") for known in KNOWN)]


def test_a_row_without_a_setting_has_a_reason():
    assert all(row.because for row in ROWS if row.ours is None)
    assert not any(row.agrees for row in ROWS if row.ours is not None)


def test_every_divergence_of_defaults_is_decided():
    plain = {
        row.tensorflow.field: (
            row.torch.codec.inward(row.torch.default),
            row.tensorflow.codec.inward(row.tensorflow.default),
        )
        for row in ROWS
        if row.torch and row.tensorflow and row.torch.default is not None and row.tensorflow.default is not None
    }
    assert {field for field, (torch, tensorflow) in plain.items() if torch != tensorflow} == DIVERGENT_DEFAULTS.keys()


# --- nothing is accepted and ignored ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "key", "row", "name"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_a_field_without_a_counterpart_is_refused_with_its_reason(side, key, row, name):
    for value in (12345, "something else", True, False, [7, 8]):
        try:
            plain = name.codec.inward(tuple(value) if isinstance(value, list) else value)
        except ValueError:
            plain = value
        if any(same(plain, agreeing) for agreeing in (*row.agrees, name.default)):
            continue
        with pytest.raises(ConfigError, match=re.escape(key)):
            _take(side, key, value)


@pytest.mark.parametrize(("side", "key", "row", "name"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_its_default_passes_in_a_whole_config_and_as_a_choice_only_where_it_describes_us(side, key, row, name):
    assert _take(side, key, name.default) == {}
    if side == "torch" and name.default is not None:
        if any(same(name.codec.inward(name.default), agreeing) for agreeing in row.agrees):
            assert _take(side, key, name.default, chosen=True) == {}
        else:
            with pytest.raises(ConfigError, match=re.escape(row.because)):
                _take(side, key, name.default, chosen=True)


@pytest.mark.parametrize("field", ["gaussian_smoothing_sigma", "probe_scale", "pad_object"])
def test_mandated_fields_never_pass_in_silence(field):
    section = "data_config" if field == "probe_scale" else "model_config"
    with pytest.raises(ConfigError, match=field):
        _take("torch", f"{section}.{field}", False if field == "pad_object" else 2.5, chosen=True)
    with pytest.raises(ConfigError, match=field):
        _take("legacy", field, False if field == "pad_object" else 2.5)


TWO_VALUES = {
    "data_config": {
        "nphotons": (1e3, 1e4), "N": (32, 64), "grid_size": ([1, 1], [3, 3]), "C": (1, 9), "K": (5, 8),
        "subsample_seed": (1, 2), "neighbor_function": ("Nearest", "4_quadrant"), "K_quadrant": (20, 40),
        "min_neighbor_distance": (1.0, 2.0), "max_neighbor_distance": (5.0, 6.0),
        "x_bounds": ([0.1, 0.9], [0.2, 0.9]), "y_bounds": ([0.1, 0.9], [0.2, 0.9])},
    "model_config": {
        "C_model": (1, 9), "C_forward": (1, 9), "object_big": (False, True), "mode": ("Supervised", "Unsupervised"),
        "n_filters_scale": (1, 2), "loss_function": ("MAE", "Poisson"), "architecture": ("fno", "cnn"),
        "fno_modes": (4, 12), "cnn_output_mode": ("amp_phase", "real_imag"), "cbam_encoder": (True, False)},
    "training_config": {
        "nll": (False, True), "torch_loss_mode": ("mae", "poisson"), "device": ("cpu", "cuda"), "n_devices": (1, 2),
        "learning_rate": (0.1, 0.2), "epochs": (2, 3), "batch_size": (4, 8), "scheduler": ("Default", "WarmupCosine"),
        "lr_warmup_epochs": (1, 2), "lr_min_ratio": (0.1, 0.5), "optimizer": ("adamw", "sgd"), "num_workers": (1, 2),
        "gradient_clip_val": (0.5, 5.0), "weight_decay": (0.0, 0.1), "stage_1_epochs": (1, 2), "stage_2_epochs": (1, 2),
        "stage_3_epochs": (1, 2), "epochs_fine_tune": (1, 2), "fine_tune_gamma": (0.5, 0.1),
        "physics_weight_schedule": ("linear", "cosine"), "stage_3_lr_factor": (0.5, 0.1),
        "experiment_name": ("a", "b"), "notes": ("a", "b"), "model_name": ("a", "b"), "output_dir": ("a", "b"),
        "train_data_file": ("a", "b"), "test_data_file": ("a", "b"), "n_groups": (64, 128)},
    "inference_config": {
        "middle_trim": (16, 32), "batch_size": (8, 64), "patch_weighting": ("uniform", "probe")},
    "datagen_config": {
        "object_class": ("polyhedra", "dead_leaves"), "image_size": ([300, 300], [500, 400]),
        "beamstop_diameter": (3, 4)},
}  # fmt: skip
NEEDED_BESIDE = {
    "K_quadrant": {"neighbor_function": "4_quadrant"},
    "min_neighbor_distance": {"neighbor_function": "Min_dist"},
    "max_neighbor_distance": {"neighbor_function": "4_quadrant"},
    "lr_warmup_epochs": {"scheduler": "WarmupCosine", "epochs": 10},
    "lr_min_ratio": {"scheduler": "WarmupCosine"},
    "physics_weight_schedule": {"stage_2_epochs": 3},
    "stage_3_lr_factor": {"stage_3_epochs": 3},
    "fine_tune_gamma": {"epochs_fine_tune": 3},
    "fno_modes": {"architecture": "fno"},
}
"""What a setting needs beside it to do anything."""


def _outcome(section: str, fields: dict) -> object:
    try:
        return from_torch({section: fields}, chosen=True)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("key", MAPPED_TORCH)
def test_two_values_of_a_field_never_come_to_the_same(key):
    section, _, field = key.partition(".")
    one, other = (_outcome(section, {field: v} | NEEDED_BESIDE.get(field, {})) for v in TWO_VALUES[section][field])
    assert one != other


@pytest.mark.parametrize("optimizer", ["sgd", "lion"])
def test_another_optimizer_is_refused(optimizer):
    with pytest.raises(ConfigError, match="AdamW trains"):
        _take("torch", "training_config.optimizer", optimizer)


def test_every_problem_is_told_at_once_and_can_be_left_out():
    profile = {"model_config": {"eca_encoder": True, "Cc": 4}, "data_config": {"probe_scale": 2.0, "N": 32}}
    with pytest.raises(ConfigError, match=r"eca_encoder True.*model_config\.Cc: unknown.*probe_scale 2\.0"):
        from_torch(profile, chosen=True)
    taken = from_torch(profile, ignore=["model_config", "data_config.probe_scale"])
    assert taken == {"simulation": {"size": 32}}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: from_torch({"training_config": {"learning_rat": 1e-3}}),
            "did you mean training_config.learning_rate?",
        ),
        (lambda: from_torch({"trainig_config": {}}), "did you mean training_config?"),
        (lambda: from_tensorflow({"nepoch": 3}), "did you mean nepochs?"),
        (lambda: from_legacy({"probe.bigg": True}), "did you mean probe.big?"),
        (lambda: from_torch({}, ignore=["data_config.probe_scal"]), "did you mean data_config.probe_scale?"),
        (lambda: to_torch({}, ignore=["network.base_chanels"]), "did you mean network.base_channels?"),
        (lambda: to_torch({"netwrk": {}}), "did you mean network?"),
        (lambda: tensorflow_form("training", n_group=3), "did you mean n_groups?"),
        (
            lambda: torch_to_tensorflow("training", {"data_config": {"nphoton": 1}}),
            "did you mean data_config.nphotons?",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(call, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("data_config", {"C": 4, "grid_size": [3, 3]}, "data_config.C and data_config.grid_size contradict each other"),
        ("data_config", {"grid_size": [2, 3]}, "expected a square"),
        ("data_config", {"nphotons": "many"}, "simulation.photons_per_pattern.*from data_config.nphotons"),
        ("data_config", {"neighbor_function": "Furthest"}, "expected one of 'Nearest'"),
        ("data_config", {"neighbor_function": "4_quadrant", "K": 8}, "K has no effect"),
        ("data_config", {"K_quadrant": 60}, "K_quadrant has no effect"),
        ("data_config", {"min_neighbor_distance": 1.0}, "min_neighbor_distance has no effect"),
        ("model_config", {"object_big": False, "C_model": 4}, "object_big false means groups of one pattern"),
        ("model_config", {"n_filters_scale": 0.5}, "expected a whole number"),
        ("training_config", {"epochs": 9, "stage_1_epochs": 5}, "epochs 9 but the stages add up to 5"),
        ("training_config", {"epochs": 2.5}, "2.5 epochs, expected a whole number"),
        ("training_config", {"stage_3_lr_factor": 0.5}, "stage_3_lr_factor has no effect"),
        ("training_config", {"stage_2_epochs": 2, "physics_weight_schedule": "steep"}, "'steep' is unknown"),
        ("training_config", {"scheduler": "Exponential"}, "set WarmupCosine"),
        ("training_config", {"lr_warmup_epochs": 2}, "lr_warmup_epochs has no effect"),
        ("training_config", {"scheduler": "WarmupCosine", "lr_warmup_epochs": 9, "epochs": 3}, "fewer than all"),
        ("training_config", {"optimizer": "adam", "weight_decay": 0.1}, "set adamw"),
    ],
)  # fmt: skip
def test_contradictions_are_told(section, fields, message):
    with pytest.raises(ConfigError, match=message):
        from_torch({section: fields}, chosen=True)


def test_supervised_stages_are_told():
    with pytest.raises(ConfigError, match="mode Supervised has no stages"):
        from_torch({"model_config": {"mode": "Supervised"}, "training_config": {"stage_1_epochs": 5}})


# --- what the words mean ---------------------------------------------------------------------------------------------


def test_stages_keep_their_meaning():
    sections = from_torch(
        {"training_config": {"stage_1_epochs": 4, "stage_2_epochs": 3, "stage_3_epochs": 2, "stage_3_lr_factor": 0.2,
                             "physics_weight_schedule": "exponential"}}
    )  # fmt: skip
    training = Config.model_fields["training"].annotation(**sections["training"])
    assert [(s.epochs, s.physics_weight, s.lr_factor) for s in training.stages] == [
        (4, 0.0, 1.0), (3, "exponential", 0.2), (2, 1.0, 0.2)]  # fmt: skip
    assert training.supervision == "amplitude"


def test_supervised_is_training_on_the_truth_alone():
    sections = from_torch({"model_config": {"mode": "Supervised"}, "training_config": {"epochs": 7}})
    assert sections == {"training": {"supervision": "ground_truth", "stages": [{"epochs": 7, "physics_weight": 0.0}]}}


def test_unsupervised_is_training_on_the_counts_alone():
    for sections in (
        from_torch({"model_config": {"mode": "Unsupervised"}}),
        from_torch({"training_config": {"epochs": 4}}),
    ):
        (stage,) = sections["training"]["stages"]
        assert stage["physics_weight"] == 1.0


def test_in_a_whole_config_a_choice_goes_before_a_default():
    data = {key.partition(".")[2]: name.default for key, (_, name) in torch_names().items() if key.startswith("data_")}
    assert from_torch({"data_config": data | {"C": 9}})["network"] == {"group_size": 9}


def test_the_published_profile_is_taken_over_but_for_what_it_must_be_told(tmp_path):
    """The reference's one published end-to-end parameter set (its field values are facts)."""
    profile = {
        "data_config": {
            "N": 64, "normalize": "Batch", "n_subsample": 1, "C": 4, "neighbor_function": "4_quadrant",
            "probe_scale": 1.0, "x_bounds": [0.05, 0.95], "y_bounds": [0.05, 0.95], "min_neighbor_distance": 1.0,
            "max_neighbor_distance": 4.0, "K_quadrant": 60, "scan_pattern": "Isotropic"},
        "model_config": {
            "loss_function": "Poisson", "amp_activation": "silu", "decoder_last_c_outer_fraction": 0.125,
            "decoder_last_amp_channels": 4, "cbam_encoder": True},
        "training_config": {
            "learning_rate": 1e-3, "n_devices": 2, "batch_size": 16, "epochs": 40, "epochs_fine_tune": 10,
            "fine_tune_gamma": 0.5, "gradient_clip_val": 5.0, "stage_1_epochs": 40, "stage_2_epochs": 0,
            "stage_3_epochs": 0, "stage_3_lr_factor": 0.01},
        "datagen_config": {"object_class": "dead_leaves", "objects_per_probe": 4},
    }  # fmt: skip
    (tmp_path / "hxn.json").write_text(json.dumps(profile))
    with pytest.raises(ConfigError) as caught:
        from_reference_json(tmp_path / "hxn.json")
    refused = re.findall(r"(\w+_config\.\w+) [^;]*?:", str(caught.value))
    assert "model_config.amp_activation" in refused and "data_config.probe_scale" in refused
    sections = from_reference_json(tmp_path / "hxn.json", ignore=[*refused, "training_config.stage_3_lr_factor"])
    assert sections["training"] == {
        "learning_rate": 1e-3, "batch_size": 16, "gradient_clip": 5.0, "supervision": "amplitude",
        "physics_loss": "poisson", "stages": [{"epochs": 40, "physics_weight": 0.0},
                   {"epochs": 10, "physics_weight": 1.0, "lr_factor": 0.5, "freeze_encoder": True}],
        "grouping": {"method": "quadrant", "k_nearest": 60, "min_distance_px": 1.0, "max_distance_px": 4.0,
                     "x_bounds": (0.05, 0.95), "y_bounds": (0.05, 0.95)}}  # fmt: skip
    assert sections["network"] == {"group_size": 4, "attention": True} and sections["runtime"] == {"devices": 2}


# --- there and back --------------------------------------------------------------------------------------------------


def _random_grouping(rng: random.Random) -> dict:
    """Any way of grouping on the torch side; TensorFlow has words for the nearest alone."""
    grouping = {"k_nearest": rng.randint(1, 20)}
    if rng.random() < 0.4:
        grouping |= {"method": rng.choice(["min_distance", "quadrant"]), "min_distance_px": rng.choice([0.0, 1.5]),
                     "max_distance_px": rng.choice([2.0, 30.0])}  # fmt: skip
    return grouping | {f"{rng.choice('xy')}_bounds": (0.0, rng.choice([0.5, 1.0]))}


def _random_sections(rng: random.Random) -> dict:
    """Settings that the reference has words for, each as likely at its default as not."""
    supervised = rng.random() < 0.3
    lengths = [rng.randint(0, 4) for _ in range(3)]
    factor = rng.choice([0.01, 0.5])
    ramp = rng.choice(["linear", "cosine", "exponential"])
    staged = [
        {"epochs": lengths[0], "physics_weight": 0.0},
        {"epochs": lengths[1], "physics_weight": ramp, "lr_factor": factor},
        {"epochs": lengths[2], "physics_weight": 1.0, "lr_factor": factor},
    ]
    stages = [stage for stage in staged if stage["epochs"]] or [{"epochs": rng.randint(1, 60)}]
    fine = {"epochs": rng.randint(1, 9), "lr_factor": rng.choice([0.1, 0.5]), "freeze_encoder": True}
    fine_tuned = [fine] if any(lengths) and rng.random() < 0.5 else []
    training = {"stages": stages + fine_tuned} | ({"supervision": "amplitude"} if any(lengths) else {})
    if supervised:
        training = {"stages": [{"epochs": rng.randint(1, 60), "physics_weight": 0.0}], "supervision": "ground_truth"}
    epochs = sum(stage["epochs"] for stage in training["stages"])
    rate = {"warmup_fraction": rng.randrange(epochs) / epochs, "final_lr_fraction": rng.choice([0.1, 0.03])}
    sections = {
        "simulation": {"photons_per_pattern": 10 ** rng.uniform(3, 9), "size": rng.choice([64, 128, 256]),
                       "object": {"name": rng.choice(["dead_leaves", "polyhedra"]), "size": rng.randint(100, 900)}},
        "network": {"group_size": rng.choice([1, 4, 9, 16]), "base_channels": rng.choice([16, 32, 64])}
        | rng.choice([{}, {"architecture": "cnn"}, {"architecture": "fno", "fourier_modes": rng.randint(2, 20)}]),
        "training": training | rng.choice([rate, {"warmup_fraction": 0.0, "final_lr_fraction": 1.0}]) | {
            "learning_rate": 10 ** rng.uniform(-5, -1), "batch_size": 2 ** rng.randint(0, 9),
            "physics_loss": rng.choice(["poisson", "mae"]), "gradient_clip": rng.choice([0.5, 1.0, 5.0]),
            "weight_decay": rng.choice([0.0, 0.01]), "seed": rng.randint(0, 99),
            "groups_per_epoch": rng.choice([None, 128]), "grouping": _random_grouping(rng)},
        "inference": {"patch_crop_px": rng.choice([None, 16, 32])},
        "stitching": {"weighting": rng.choice(["illumination", "uniform"])},
        "runtime": {"accelerator": rng.choice(["auto", "cpu"]), "devices": rng.randint(1, 4),
                    "workers": rng.randint(0, 4), "inference_batch_size": rng.randint(1, 999)},
        "tracking": {"experiment": rng.choice(["a", "b c"])},
    }  # fmt: skip
    return {name: section for name, section in sections.items() if rng.random() < 0.8}


def _all_sections(sections: dict) -> dict:
    return {name: SECTIONS[name](**sections.get(name, {})) for name in SECTIONS}


@pytest.mark.parametrize("seed", range(60))
def test_torch_there_and_back_is_the_identity(seed):
    sections = _random_sections(random.Random(seed))
    profile = json.loads(json.dumps(to_torch(sections, train_data="a.npz", model_name="m")))
    back = from_torch(profile, chosen=True)
    assert back.pop("arguments") == {"train_data": "a.npz", "model_name": "m"}
    assert _all_sections(back) == _all_sections(sections)
    assert to_torch(back) == to_torch(sections)


@pytest.mark.parametrize("seed", range(60))
def test_tensorflow_and_legacy_there_and_back_are_the_identity(seed):
    sections = _random_sections(random.Random(seed))
    training = sections.get("training", {})
    if "method" in training.get("grouping", {}) or training.get("supervision") == "amplitude":
        with pytest.raises(ConfigError, match=r"training\.(stages|grouping)"):
            to_tensorflow(sections, ignore=["training.learning_rate", "simulation.object"])
        return
    if "grouping" in training:
        training["grouping"] = {"k_nearest": training["grouping"]["k_nearest"]}
    sections = {name: sections[name] for name in ("simulation", "network", "training") if name in sections}
    for there, back in ((to_tensorflow, from_tensorflow), (to_legacy, from_legacy)):
        returned = back(there(sections, ignore=["training.learning_rate", "simulation.object"], output="here"))
        assert returned.pop("arguments") == {"output": "here"}
        for name, defaults in (("training", "learning_rate"), ("simulation", "object")):
            if name in sections and defaults in sections[name]:
                returned.setdefault(name, {})[defaults] = sections[name][defaults]
        assert _all_sections(returned) == _all_sections(sections)


@pytest.mark.parametrize(
    ("section", "changes", "key"),
    [
        ("network", {"depth": 2}, "network.depth"),
        ("network", {"group_size": 3}, "network.group_size 3: PtychoPINN supports only square grids of patterns"),
        ("network", {"base_channels": 24}, "network.base_channels 24"),
        ("training", {"physics_loss": "amplitude"}, "training.physics_loss 'amplitude'"),
        ("training", {"stages": [{"epochs": 3, "physics_weight": 0.5}], "supervision": "amplitude"}, "training.stages"),
        (
            "training",
            {"stages": [{"epochs": 3, "physics_weight": 0.0}]},
            "only supervision 'amplitude'",
        ),
        ("training", {"stages": [{"epochs": 3}, {"epochs": 3, "physics_weight": 0.0}]}, "training.stages"),
        ("training", {"warmup_fraction": 0.1, "stages": [{"epochs": 5}]}, "PtychoPINN supports only whole epochs"),
        ("refinement", {"epochs": 7}, "refinement.epochs"),
        ("arguments", {"colour": "red"}, "arguments.colour"),
    ],
)
def test_a_choice_that_has_no_word_there_is_refused_not_lost(section, changes, key):
    with pytest.raises(ConfigError, match=re.escape(key)):
        to_torch({section: changes})
    if section in SECTIONS:
        to_torch({section: changes}, ignore=[section])


def test_a_default_that_has_no_word_there_is_told(caplog):
    to_tensorflow({})
    assert "training.warmup_fraction" in caplog.text


def test_sizes_and_batches_that_tensorflow_refuses_are_refused_here():
    with pytest.raises(ConfigError, match=r"simulation\.size 96.*training\.batch_size 12: expected a power of two"):
        to_tensorflow({"simulation": {"size": 96}, "training": {"batch_size": 12}})


def test_a_whole_config_is_taken_by_its_sections():
    config = load_config(
        {"scans": {"a": {"simulation": {}}}, "methods": {"flat": {"initial_object": "uniform", "reconstruct": ["a"]}},
         "network": {"group_size": 9}}
    )  # fmt: skip
    assert to_legacy(config)["gridsize"] == 3


# --- the legacy dictionary -------------------------------------------------------------------------------------------


def test_none_is_skipped_and_everything_else_overwrites():
    cfg = {"N": 7, "kept": 1, "n_images": 5}
    update_legacy_dict(cfg, {"model": {"N": 64}, "n_images": None, "output_dir": Path("a/b")})
    assert cfg == {"N": 64, "kept": 1, "n_images": 5, "output_prefix": "a/b"}


def test_nothing_else_is_touched():
    config = {"model": {"N": 64}, "nepochs": 3}
    first: dict = {}
    update_legacy_dict(first, config)
    second: dict = {}
    update_legacy_dict(second, {"nepochs": 4})
    assert config == {"model": {"N": 64}, "nepochs": 3} and second == {"nepochs": 4} and "N" not in second


def test_dataclasses_are_as_good_as_dictionaries():
    @dataclasses.dataclass
    class Model:
        N: int = 64
        object_big: bool = True

    @dataclasses.dataclass
    class Training:
        model: Model = dataclasses.field(default_factory=Model)
        nepochs: int = 3
        train_data_file: Path = Path("a.npz")

    cfg: dict = {}
    update_legacy_dict(cfg, Training())
    assert cfg == {"N": 64, "object.big": True, "nepochs": 3, "train_data_file_path": "a.npz"}
    assert from_tensorflow(Training())["training"] == {"stages": [{"epochs": 3, "physics_weight": 1.0}]}
    with pytest.raises(ConfigError, match="expected a dataclass or a dictionary"):
        update_legacy_dict(cfg, 3)


def test_our_sections_are_written_too():
    cfg = {"sentinel": 1}
    update_legacy_dict(cfg, {"training": {"batch_size": 8}, "arguments": {"output": Path("x")}})
    assert cfg["batch_size"] == 8 and cfg["output_prefix"] == "x" and cfg["sentinel"] == 1


# --- parity with the reference ---------------------------------------------------------------------------------------

SECTION_OF = {
    "DataConfig": "data_config",
    "ModelConfig": "model_config",
    "TrainingConfig": "training_config",
    "InferenceConfig": "inference_config",
    "DatagenConfig": "datagen_config",
}


@pytest.fixture(scope="module")
def oracle() -> dict:
    """What the reference itself answers; a test that asks for it is skipped where it is not at hand."""
    folder = os.environ.get("PTYCHOFLOW_DATA")
    path = Path(folder or ".").parent / "oracles" / "legacy_config.json"
    if not folder or not path.is_file():
        pytest.skip("oracles/legacy_config.json not found beside PTYCHOFLOW_DATA")
    return json.loads(path.read_text())


def _plain(default: object) -> object:
    return tuple(default) if isinstance(default, list) else () if default == "<factory>" else default


def test_every_torch_field_is_known_with_its_default(oracle):
    theirs = {
        f"{SECTION_OF[name]}.{field}": _plain(details["default"])
        for name, fields in oracle["torch_fields"].items()
        for field, details in fields.items()
    }
    assert theirs == {key: name.default for key, (_, name) in torch_names().items()}


@pytest.mark.parametrize(("name", "kind"), [("TrainingConfig", "training"), ("InferenceConfig", "inference")])
def test_every_tensorflow_field_is_known_with_its_default(oracle, name, kind):
    fields = oracle["tensorflow_fields"]
    theirs = {field: details["default"] for part in ("ModelConfig", name) for field, details in fields[part].items()}
    theirs.pop("model")
    assert theirs == {field: name.default for field, (_, name) in tensorflow_names(kind).items()}


def test_the_keys_that_differ_are_the_reference_s(oracle):
    assert oracle["key_mappings"] == KEY_MAPPINGS


def test_every_legacy_case_is_equal(oracle):
    for case in oracle["legacy_cases"]:
        kind = {"TrainingConfig": "training", "InferenceConfig": "inference"}[case["class"]]
        cfg = {"sentinel_untouched": 1}
        update_legacy_dict(cfg, tensorflow_form(kind, case["model"], **case["kwargs"]))
        assert cfg == case["legacy"]


def test_every_bridge_case_is_equal_and_every_error_an_error(oracle):
    for case in oracle["bridge_cases"]:
        torch = {"data_config": case["data"], "model_config": case["model"], "training_config": case["training"]}
        arguments = ("training", torch, case["model_overrides"], case["training_overrides"])
        if "error" in case:
            with pytest.raises(ValueError):
                torch_to_tensorflow(*arguments)
        else:
            form = torch_to_tensorflow(*arguments)
            assert form.pop("model") == case["tf_model"]
            assert form == case["tf_training"]


@pytest.mark.parametrize("kind", ["training", "inference"])
def test_missing_paths_are_an_error(kind):
    with pytest.raises(ConfigError, match="n_groups: missing"):
        torch_to_tensorflow(kind, {}, overrides={"train_data_file": "a", "model_path": "m", "test_data_file": "b"})
