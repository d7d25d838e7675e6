"""The reference's shorthand for a training: stages, schedule and overlap as flat words, and as our settings."""

from collections.abc import Mapping
from typing import Any

from ...config import Shorthand, Training
from ...training.schedule import RAMPS, total_epochs
from .value_codecs import UntranslatableError

CONSTANT_RATE = ("Default", "MultiStage", "Adaptive")
GROUPING = {
    "K": "training.grouping.k_nearest",
    "K_quadrant": "training.grouping.k_nearest",
    "neighbor_function": "training.grouping.method",
    "min_neighbor_distance": "training.grouping.min_distance_px",
    "max_neighbor_distance": "training.grouping.max_distance_px",
}
MAKES = {
    "stages": ("training.stages", "training.supervision"),
    "schedule": ("training.warmup_fraction", "training.final_lr_fraction"),
    "groups": ("network.group_size",),
    "grouping": tuple(dict.fromkeys(GROUPING.values())),
}
"""The parts of the shorthand and the settings of ours that each makes."""
POOL_OF_QUADRANTS = 30
"""What the reference takes for ``K_quadrant`` where none is given."""
SHAPE = ("physics_weight_schedule", "stage_3_lr_factor")
DEFAULT = Training()


def settings_of(ours: str) -> tuple[str, ...]:
    """The settings that a key of the table stands for: itself, or what its part of the shorthand makes."""
    part, _, word = ours.partition(".")
    return (GROUPING[word],) if part == "grouping" else MAKES.get(part, (ours,))


def settings_from_parts(said: Mapping[str, Any], idle: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Our settings out of the words of the shorthand, under dotted keys.

    Args:
        said: values under ``stages.*``, ``schedule.*``, ``groups.*`` and the settings that are no parts.
        idle: keys of ``said`` that hold the reference's default, and so may stand where they do nothing.

    Raises:
        ValueError: for words that contradict each other or would do nothing.
    """
    plain = {key: value for key, value in said.items() if key.partition(".")[0] not in MAKES}
    plain |= _stages({key: value for key, value in said.items() if key.startswith("stages.")}, idle)
    epochs = sum(stage["epochs"] for stage in plain.get("training.stages", ())) or total_epochs(DEFAULT.stages)
    plain |= _rate(said, idle, epochs) | _grouping(said, idle)
    if said.get("groups.object_big") is False:
        size = plain.get("network.group_size", 1)
        if size != 1:
            raise ValueError(f"object_big false means patterns on their own, but a group holds {size}: say C 1")
        plain["network.group_size"] = 1
    return plain


def parts_from_settings(training: Training, group_size: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The words of the shorthand for a training, and for those of our settings that they do not reach, the reason."""
    parts: dict[str, Any] = {"groups.object_big": group_size > 1}
    unsupported: dict[str, str] = {}
    for part, say in (("stages", _say_stages), ("schedule", _say_rate), ("grouping", _say_grouping)):
        try:
            parts |= say(training)
        except UntranslatableError as reason:
            unsupported |= dict.fromkeys(MAKES[part], str(reason))
    return parts, unsupported


def _stages(said: dict[str, Any], idle: frozenset[str]) -> dict[str, Any]:
    epochs = said.get("stages.epochs")
    lengths = [said.get(f"stages.stage_{n}_epochs", 0) for n in (1, 2, 3)]
    _check_lengths([*lengths, *([] if epochs is None else [epochs])])
    alone = epochs or total_epochs(DEFAULT.stages)
    if said.get("stages.mode") == "supervised":
        if any(lengths):
            raise ValueError("mode Supervised has no stages: leave stage_1_epochs to stage_3_epochs out, say epochs")
        only = {"epochs": alone, "physics_weight": 0.0}
        return {"training.supervision": "ground_truth", "training.stages": [only, *_fine_tuning(said, idle, 0.0)]}
    last = _fine_tuning(said, idle, 1.0)
    if not any(lengths):
        _check_dormant(said, idle, SHAPE, "stages", "stage_2_epochs or stage_3_epochs")
        chosen = epochs or "stages.mode" in said or last
        return {"training.stages": [{"epochs": alone, "physics_weight": 1.0}, *last]} if chosen else {}
    shapeless = () if lengths[1] else SHAPE[:1] if lengths[2] else SHAPE
    _check_dormant(said, idle, shapeless, "stages", "a stage that they shape")
    if epochs not in (None, sum(lengths)) and "stages.epochs" not in idle:
        raise ValueError(f"epochs {epochs} but the stages add up to {sum(lengths)}: make them agree")
    return {"training.supervision": "amplitude", "training.stages": [*_staged(said, lengths), *last]}


def _staged(said: dict[str, Any], lengths: list[int]) -> list[dict]:
    ramp = said.get("stages.physics_weight_schedule", "cosine")
    if ramp not in RAMPS:
        raise ValueError(f"physics_weight_schedule {ramp!r} is unknown, expected one of {', '.join(RAMPS)}")
    words = {f"stage_{n}_epochs": length for n, length in enumerate(lengths, 1)}
    words |= {"physics_weight_schedule": ramp} if lengths[1] else {}
    words |= {"stage_3_lr_factor": said.get("stages.stage_3_lr_factor", 0.1)} if any(lengths[1:]) else {}
    return [stage.model_dump(exclude_unset=True) for stage in Shorthand(**words).stages()]


def _fine_tuning(said: dict[str, Any], idle: frozenset[str], weight: float) -> list[dict]:
    epochs = said.get("stages.epochs_fine_tune", 0)
    _check_lengths([epochs])
    if not epochs:
        _check_dormant(said, idle, ("fine_tune_gamma",), "stages", "epochs_fine_tune")
        return []
    gamma = said.get("stages.fine_tune_gamma", 0.1)
    return [{"epochs": epochs, "physics_weight": weight, "lr_factor": gamma, "freeze_encoder": True}]


def _rate(said: Mapping[str, Any], idle: frozenset[str], epochs: int) -> dict[str, Any]:
    optimizer = said.get("schedule.optimizer", "adamw")
    if optimizer not in ("adam", "adamw"):
        raise ValueError(f"optimizer {optimizer!r} is not here: AdamW trains, say adamw")
    if optimizer == "adam" and said.get("training.weight_decay", 0):
        raise ValueError("optimizer 'adam' decays weights through the gradient, AdamW does not: say adamw")
    scheduler = said.get("schedule.scheduler")
    if scheduler == "WarmupCosine":
        warm = said.get("schedule.lr_warmup_epochs", 0)
        if not 0 <= warm < epochs:
            raise ValueError(f"lr_warmup_epochs is {warm} of {epochs} epochs: expected fewer than all")
        return {
            "training.warmup_fraction": warm / epochs,
            "training.final_lr_fraction": said.get("schedule.lr_min_ratio", 0.1),
        }
    _check_dormant(said, idle, ("lr_warmup_epochs", "lr_min_ratio"), "schedule", "scheduler WarmupCosine")
    if scheduler is None:
        return {}
    if scheduler not in CONSTANT_RATE:
        raise ValueError(
            f"scheduler {scheduler!r} is not here: say WarmupCosine with lr_warmup_epochs and lr_min_ratio, or Default"
        )
    return {"training.warmup_fraction": 0.0, "training.final_lr_fraction": 1.0}


def _grouping(said: Mapping[str, Any], idle: frozenset[str]) -> dict[str, Any]:
    words = {key.partition(".")[2]: value for key, value in said.items() if key.startswith("grouping.")}
    method = words.get("neighbor_function", "nearest")
    distances = ("min_neighbor_distance", "max_neighbor_distance")
    if method == "quadrant":
        asleep = {"K": "Nearest or Min_dist"}
        words = {"K_quadrant": POOL_OF_QUADRANTS} | words
    else:
        asleep = {"K_quadrant": "4_quadrant"}
    if method == "nearest":
        asleep |= dict.fromkeys(distances, "Min_dist or 4_quadrant")
    for word, methods in asleep.items():
        _check_dormant(said, idle, (word,), "grouping", f"neighbor_function {methods}")
    return {GROUPING[word]: value for word, value in words.items() if word not in asleep}


def _check_lengths(lengths: list[int]) -> None:
    for epochs in lengths:
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
            raise ValueError(f"{epochs!r} epochs, expected a whole number of at least 0")


def _check_dormant(said: Mapping, idle: frozenset, fields: tuple, part: str, wakes: str) -> None:
    """Refuse words that would do nothing."""
    dormant = [field for field in fields if f"{part}.{field}" in said and f"{part}.{field}" not in idle]
    if dormant:
        raise ValueError(f"{' and '.join(dormant)} would do nothing without {wakes}: leave out, or say {wakes}")


def _say_stages(training: Training) -> dict[str, Any]:
    stages, supervision = list(training.stages), training.supervision
    last = stages.pop() if stages[-1].freeze_encoder and len(stages) > 1 else None
    parts = {"stages.mode": "pinn", "stages.epochs": total_epochs(stages)}
    if last is not None:
        if last.physics_weight != (0 if supervision == "ground_truth" else 1):
            raise UntranslatableError("fine-tuning there goes on with the counts, or with the truth where that was all")
        parts |= {"stages.epochs_fine_tune": last.epochs, "stages.fine_tune_gamma": last.lr_factor}
    if any(stage.freeze_encoder for stage in stages):
        raise UntranslatableError("the encoder there is frozen at the end alone")
    only = stages[0] if len(stages) == 1 and stages[0].lr_factor == 1 else None
    if only is not None and only.physics_weight == 1:
        return parts
    if only is not None and only.physics_weight == 0 and supervision == "ground_truth":
        return parts | {"stages.mode": "supervised"}
    if supervision != "amplitude":
        raise UntranslatableError(
            f"a supervision of {supervision!r} in a staged training has no word there, 'amplitude' has"
        )
    lengths, ramp, factor = [0, 0, 0], "cosine", 0.1
    for stage in stages:
        place = {0.0: 0, 1.0: 2}.get(stage.physics_weight, 1 if isinstance(stage.physics_weight, str) else None)
        if place is None or any(lengths[place:]) or (place == 0 and stage.lr_factor != 1):
            raise UntranslatableError("stages there are at most three: guide, ramp, physics")
        lengths[place] = stage.epochs
        if place:
            ramp = stage.physics_weight if place == 1 else ramp
            if place == 2 and lengths[1] and stage.lr_factor != factor:
                raise UntranslatableError("ramp and physics share one lr_factor there")
            factor = stage.lr_factor
    named = {f"stages.stage_{n}_epochs": length for n, length in enumerate(lengths, 1)}
    return parts | named | {"stages.physics_weight_schedule": ramp, "stages.stage_3_lr_factor": factor}


def _say_rate(training: Training) -> dict[str, Any]:
    if training.warmup_fraction == 0 and training.final_lr_fraction == 1:
        return {"schedule.scheduler": "Default", "schedule.optimizer": "adamw"}
    epochs = training.warmup_fraction * total_epochs(training.stages)
    if abs(epochs - round(epochs)) > 1e-9:
        raise UntranslatableError(f"a warm-up of {epochs:.3g} epochs has no word there, whole epochs have")
    return {
        "schedule.scheduler": "WarmupCosine",
        "schedule.lr_warmup_epochs": round(epochs),
        "schedule.lr_min_ratio": training.final_lr_fraction,
        "schedule.optimizer": "adamw",
    }


def _say_grouping(training: Training) -> dict[str, Any]:
    grouping = training.grouping
    if grouping.method == "nearest":
        return {"grouping.K": grouping.k_nearest}
    if grouping.max_distance_px is None:
        raise UntranslatableError("there is always a greatest distance there: say max_distance_px")
    return {
        "grouping.neighbor_function": grouping.method,
        "grouping.K_quadrant" if grouping.method == "quadrant" else "grouping.K": grouping.k_nearest,
        "grouping.min_neighbor_distance": grouping.min_distance_px,
        "grouping.max_neighbor_distance": grouping.max_distance_px,
    }
