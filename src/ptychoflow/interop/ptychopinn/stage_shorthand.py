"""PtychoPINN's flat fields for stages, learning rate and grouping, translated to our nested settings and back."""

from collections.abc import Callable, Mapping
from typing import Any

from ...config import Shorthand, Training
from ...training.schedule import RAMPS, total_epochs
from .network_shorthand import (
    PARTS,
    SETTINGS_OF_WORDS,
    Dormant,
    export_layers,
    export_merging,
    export_optimizer,
    export_probe_mask,
    export_scan_density,
    layers,
    merging,
    optimizer,
    probe_mask,
    scan_density,
)
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
    **PARTS,
}
"""Parts of the shorthand, and our settings that each determines."""
POOL_OF_QUADRANTS = 30
"""PtychoPINN's default of ``K_quadrant``."""
SHAPE = ("physics_weight_schedule", "stage_3_lr_factor")
DEFAULT = Training()


def settings_of(ours: str) -> tuple[str, ...]:
    """Return our settings that a key of the table determines: itself, or those of its part of the shorthand."""
    part, _, word = ours.partition(".")
    if ours in SETTINGS_OF_WORDS:
        return SETTINGS_OF_WORDS[ours]
    return (GROUPING[word],) if part == "grouping" else MAKES.get(part, (ours,))


def settings_from_parts(
    parts: Mapping[str, Any], idle: frozenset[str] = frozenset(), notes: list[str] | None = None
) -> dict[str, Any]:
    """Translate the shorthand to our settings, under dotted keys.

    Args:
        parts: values under ``stages.*``, ``schedule.*``, ``grouping.*`` and so on, and ordinary settings.
        idle: keys of ``parts`` that hold PtychoPINN's default, and so are permitted where they have no effect.
        notes: takes what has no effect here and there; refused without it.

    Raises:
        ValueError: for fields that contradict each other or have no effect.
    """
    plain = {key: value for key, value in parts.items() if key.partition(".")[0] not in MAKES}
    dormant = Dormant(parts, idle, notes)
    plain |= _stages({key: value for key, value in parts.items() if key.startswith("stages.")}, dormant)
    epochs = sum(stage["epochs"] for stage in plain.get("training.stages", ())) or total_epochs(DEFAULT.stages)
    plain |= _rate(parts, dormant, epochs) | _grouping(parts, dormant)
    for translate in (layers, merging, optimizer, probe_mask, scan_density):
        plain |= translate(parts, plain, dormant)
    if parts.get("groups.object_big") is False:
        size = plain.get("network.group_size", 1)
        if size != 1:
            raise ValueError(f"object_big false means groups of one pattern, got groups of {size}: set C 1")
        plain["network.group_size"] = 1
    amplitudes, size = parts.get("groups.amplitudes", 1), plain.get("network.group_size", 1)
    if amplitudes not in (1, size) and "groups.amplitudes" not in idle:
        raise ValueError(f"decoder_last_amp_channels is {amplitudes} for groups of {size}: expected 1 or {size}")
    return plain


def parts_from_settings(sections: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Translate our settings to the shorthand.

    Args:
        sections: every section by name.

    Returns:
        Values of the shorthand, and the reason for each of our settings that it does not support.
    """
    training = sections["training"]
    parts: dict[str, Any] = {"groups.object_big": sections["network"].group_size > 1}
    unsupported: dict[str, str] = {}
    exports: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
        ("stages", lambda: _export_stages(training)),
        ("schedule", lambda: _export_rate(training)),
        ("grouping", lambda: _export_grouping(training)),
        ("layers", lambda: export_layers(sections["network"], sections["simulation"].size)),
        ("merging", lambda: export_merging(sections["network"])),
        ("optimizer", lambda: export_optimizer(training)),
        ("mask", lambda: export_probe_mask(sections["packing"])),
        ("scan", export_scan_density),
    )
    for part, export in exports:
        try:
            parts |= export()
        except UntranslatableError as reason:
            unsupported |= dict.fromkeys(MAKES[part], str(reason))
    return parts, unsupported


def _stages(parts: dict[str, Any], dormant: Dormant) -> dict[str, Any]:
    epochs = parts.get("stages.epochs")
    lengths = [parts.get(f"stages.stage_{n}_epochs", 0) for n in (1, 2, 3)]
    _check_lengths({f"stage_{n}_epochs": length for n, length in enumerate(lengths, 1)})
    _check_lengths({} if epochs is None else {"epochs": epochs})
    alone = epochs or total_epochs(DEFAULT.stages)
    if parts.get("stages.mode") == "supervised":
        if any(lengths):
            raise ValueError("mode Supervised has no stages: leave stage_1_epochs to stage_3_epochs out, set epochs")
        only = {"epochs": alone, "physics_weight": 0.0}
        return {"training.supervision": "ground_truth", "training.stages": [only, *_fine_tuning(parts, dormant, 0.0)]}
    last = _fine_tuning(parts, dormant, 1.0)
    if not any(lengths):
        dormant.check(SHAPE, "stages", "stage_2_epochs or stage_3_epochs")
        chosen = epochs or "stages.mode" in parts or last
        return {"training.stages": [{"epochs": alone, "physics_weight": 1.0}, *last]} if chosen else {}
    shapeless = () if lengths[1] else SHAPE[:1] if lengths[2] else SHAPE
    dormant.check(shapeless, "stages", "a stage that they shape")
    if epochs not in (None, sum(lengths)) and "stages.epochs" not in dormant.idle:
        raise ValueError(f"epochs {epochs} but the stages add up to {sum(lengths)}: make them agree")
    return {"training.supervision": "amplitude", "training.stages": [*_staged(parts, lengths), *last]}


def _staged(parts: dict[str, Any], lengths: list[int]) -> list[dict]:
    ramp = parts.get("stages.physics_weight_schedule", "cosine")
    if ramp not in RAMPS:
        raise ValueError(f"physics_weight_schedule {ramp!r} is unknown, expected one of {', '.join(RAMPS)}")
    words = {f"stage_{n}_epochs": length for n, length in enumerate(lengths, 1)}
    words |= {"physics_weight_schedule": ramp} if lengths[1] else {}
    words |= {"stage_3_lr_factor": parts.get("stages.stage_3_lr_factor", 0.1)} if any(lengths[1:]) else {}
    return [stage.model_dump(exclude_unset=True) for stage in Shorthand(**words).stages()]


def _fine_tuning(parts: dict[str, Any], dormant: Dormant, weight: float) -> list[dict]:
    epochs = parts.get("stages.epochs_fine_tune", 0)
    _check_lengths({"epochs_fine_tune": epochs})
    if not epochs:
        dormant.check(("fine_tune_gamma",), "stages", "epochs_fine_tune")
        return []
    gamma = parts.get("stages.fine_tune_gamma", 0.1)
    return [{"epochs": epochs, "physics_weight": weight, "lr_factor": gamma, "freeze_encoder": True}]


def _rate(parts: Mapping[str, Any], dormant: Dormant, epochs: int) -> dict[str, Any]:
    scheduler = parts.get("schedule.scheduler")
    if scheduler == "WarmupCosine":
        warm = parts.get("schedule.lr_warmup_epochs", 0)
        if not 0 <= warm < epochs:
            raise ValueError(f"lr_warmup_epochs is {warm} of {epochs} epochs: expected fewer than all")
        return {
            "training.warmup_fraction": warm / epochs,
            "training.final_lr_fraction": parts.get("schedule.lr_min_ratio", 0.1),
        }
    dormant.check(("lr_warmup_epochs", "lr_min_ratio"), "schedule", "scheduler WarmupCosine")
    if scheduler is None:
        return {}
    if scheduler not in CONSTANT_RATE:
        raise ValueError(
            f"scheduler {scheduler!r} is unknown: set WarmupCosine with lr_warmup_epochs and lr_min_ratio, or Default"
        )
    return {"training.warmup_fraction": 0.0, "training.final_lr_fraction": 1.0}


def _grouping(parts: Mapping[str, Any], dormant: Dormant) -> dict[str, Any]:
    words = {key.partition(".")[2]: value for key, value in parts.items() if key.startswith("grouping.")}
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
        dormant.check((word,), "grouping", f"neighbor_function {methods}")
    return {GROUPING[word]: value for word, value in words.items() if word not in asleep}


def _check_lengths(lengths: dict[str, Any]) -> None:
    for field, epochs in lengths.items():
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
            raise ValueError(f"{field} is {epochs!r}, expected a whole number of at least 0")


def _export_stages(training: Training) -> dict[str, Any]:
    stages, supervision = list(training.stages), training.supervision
    last = stages.pop() if stages[-1].freeze_encoder and len(stages) > 1 else None
    parts = {"stages.mode": "pinn", "stages.epochs": total_epochs(stages)}
    if last is not None:
        if last.physics_weight != (0 if supervision == "ground_truth" else 1):
            raise UntranslatableError("PtychoPINN supports only fine-tuning with the last stage's loss")
        parts |= {"stages.epochs_fine_tune": last.epochs, "stages.fine_tune_gamma": last.lr_factor}
    if any(stage.freeze_encoder for stage in stages):
        raise UntranslatableError("PtychoPINN supports only a last stage with a frozen encoder")
    only = stages[0] if len(stages) == 1 and stages[0].lr_factor == 1 else None
    if only is not None and only.physics_weight == 1:
        return parts
    if only is not None and only.physics_weight == 0 and supervision == "ground_truth":
        return parts | {"stages.mode": "supervised"}
    if supervision != "amplitude":
        raise UntranslatableError(
            f"PtychoPINN supports only supervision 'amplitude' in a staged training, got {supervision!r}"
        )
    lengths, factor = [0, 0, 0], 0.1
    ramp: float | str = "cosine"
    places: dict[float | str, int] = {0.0: 0, 1.0: 2, **dict.fromkeys(RAMPS, 1)}
    for stage in stages:
        place = places.get(stage.physics_weight)
        if place is None or any(lengths[place:]) or (place == 0 and stage.lr_factor != 1):
            raise UntranslatableError("PtychoPINN supports only three stages: supervised, ramp, physics")
        lengths[place] = stage.epochs
        if place:
            ramp = stage.physics_weight if place == 1 else ramp
            if place == 2 and lengths[1] and stage.lr_factor != factor:
                raise UntranslatableError("PtychoPINN supports only one lr_factor for the ramp and physics stages")
            factor = stage.lr_factor
    named = {f"stages.stage_{n}_epochs": length for n, length in enumerate(lengths, 1)}
    return parts | named | {"stages.physics_weight_schedule": ramp, "stages.stage_3_lr_factor": factor}


def _export_rate(training: Training) -> dict[str, Any]:
    if training.warmup_fraction == 0 and training.final_lr_fraction == 1:
        return {"schedule.scheduler": "Default"}
    epochs = training.warmup_fraction * total_epochs(training.stages)
    if abs(epochs - round(epochs)) > 1e-9:
        raise UntranslatableError(f"PtychoPINN supports only whole epochs of warm-up, got {epochs:.3g}")
    return {
        "schedule.scheduler": "WarmupCosine",
        "schedule.lr_warmup_epochs": round(epochs),
        "schedule.lr_min_ratio": training.final_lr_fraction,
    }


def _export_grouping(training: Training) -> dict[str, Any]:
    grouping = training.grouping
    if grouping.method == "nearest":
        return {"grouping.K": grouping.k_nearest}
    if grouping.max_distance_px is None:
        raise UntranslatableError("PtychoPINN supports only groups with a greatest distance: set max_distance_px")
    return {
        "grouping.neighbor_function": grouping.method,
        "grouping.K_quadrant" if grouping.method == "quadrant" else "grouping.K": grouping.k_nearest,
        "grouping.min_neighbor_distance": grouping.min_distance_px,
        "grouping.max_neighbor_distance": grouping.max_distance_px,
    }
