"""PtychoPINN's flat fields for stages, learning rate and grouping, translated to our nested settings and back."""

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
"""Parts of the shorthand, and our settings that each determines."""
POOL_OF_QUADRANTS = 30
"""PtychoPINN's default of ``K_quadrant``."""
SHAPE = ("physics_weight_schedule", "stage_3_lr_factor")
DEFAULT = Training()


def settings_of(ours: str) -> tuple[str, ...]:
    """Return our settings that a key of the table determines: itself, or those of its part of the shorthand."""
    part, _, word = ours.partition(".")
    return (GROUPING[word],) if part == "grouping" else MAKES.get(part, (ours,))


def settings_from_parts(parts: Mapping[str, Any], idle: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Translate the shorthand to our settings, under dotted keys.

    Args:
        parts: values under ``stages.*``, ``schedule.*``, ``grouping.*``, ``groups.*``, and ordinary settings.
        idle: keys of ``parts`` that hold PtychoPINN's default, and so are permitted where they have no effect.

    Raises:
        ValueError: for fields that contradict each other or have no effect.
    """
    plain = {key: value for key, value in parts.items() if key.partition(".")[0] not in MAKES}
    plain |= _stages({key: value for key, value in parts.items() if key.startswith("stages.")}, idle)
    epochs = sum(stage["epochs"] for stage in plain.get("training.stages", ())) or total_epochs(DEFAULT.stages)
    plain |= _rate(parts, idle, epochs) | _grouping(parts, idle)
    if parts.get("groups.object_big") is False:
        size = plain.get("network.group_size", 1)
        if size != 1:
            raise ValueError(f"object_big false means groups of one pattern, got groups of {size}: set C 1")
        plain["network.group_size"] = 1
    return plain


def parts_from_settings(training: Training, group_size: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Translate a training to the shorthand.

    Args:
        training: settings.
        group_size: patterns of a group.

    Returns:
        Values of the shorthand, and the reason for each of our settings that it does not support.
    """
    parts: dict[str, Any] = {"groups.object_big": group_size > 1}
    unsupported: dict[str, str] = {}
    for part, export in (("stages", _export_stages), ("schedule", _export_rate), ("grouping", _export_grouping)):
        try:
            parts |= export(training)
        except UntranslatableError as reason:
            unsupported |= dict.fromkeys(MAKES[part], str(reason))
    return parts, unsupported


def _stages(parts: dict[str, Any], idle: frozenset[str]) -> dict[str, Any]:
    epochs = parts.get("stages.epochs")
    lengths = [parts.get(f"stages.stage_{n}_epochs", 0) for n in (1, 2, 3)]
    _check_lengths([*lengths, *([] if epochs is None else [epochs])])
    alone = epochs or total_epochs(DEFAULT.stages)
    if parts.get("stages.mode") == "supervised":
        if any(lengths):
            raise ValueError("mode Supervised has no stages: leave stage_1_epochs to stage_3_epochs out, set epochs")
        only = {"epochs": alone, "physics_weight": 0.0}
        return {"training.supervision": "ground_truth", "training.stages": [only, *_fine_tuning(parts, idle, 0.0)]}
    last = _fine_tuning(parts, idle, 1.0)
    if not any(lengths):
        _check_dormant(parts, idle, SHAPE, "stages", "stage_2_epochs or stage_3_epochs")
        chosen = epochs or "stages.mode" in parts or last
        return {"training.stages": [{"epochs": alone, "physics_weight": 1.0}, *last]} if chosen else {}
    shapeless = () if lengths[1] else SHAPE[:1] if lengths[2] else SHAPE
    _check_dormant(parts, idle, shapeless, "stages", "a stage that they shape")
    if epochs not in (None, sum(lengths)) and "stages.epochs" not in idle:
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


def _fine_tuning(parts: dict[str, Any], idle: frozenset[str], weight: float) -> list[dict]:
    epochs = parts.get("stages.epochs_fine_tune", 0)
    _check_lengths([epochs])
    if not epochs:
        _check_dormant(parts, idle, ("fine_tune_gamma",), "stages", "epochs_fine_tune")
        return []
    gamma = parts.get("stages.fine_tune_gamma", 0.1)
    return [{"epochs": epochs, "physics_weight": weight, "lr_factor": gamma, "freeze_encoder": True}]


def _rate(parts: Mapping[str, Any], idle: frozenset[str], epochs: int) -> dict[str, Any]:
    optimizer = parts.get("schedule.optimizer", "adamw")
    if optimizer not in ("adam", "adamw"):
        raise ValueError(f"optimizer {optimizer!r} is not supported: AdamW trains, set adamw")
    if optimizer == "adam" and parts.get("training.weight_decay", 0):
        raise ValueError("optimizer 'adam' decays weights through the gradient, AdamW does not: set adamw")
    scheduler = parts.get("schedule.scheduler")
    if scheduler == "WarmupCosine":
        warm = parts.get("schedule.lr_warmup_epochs", 0)
        if not 0 <= warm < epochs:
            raise ValueError(f"lr_warmup_epochs is {warm} of {epochs} epochs: expected fewer than all")
        return {
            "training.warmup_fraction": warm / epochs,
            "training.final_lr_fraction": parts.get("schedule.lr_min_ratio", 0.1),
        }
    _check_dormant(parts, idle, ("lr_warmup_epochs", "lr_min_ratio"), "schedule", "scheduler WarmupCosine")
    if scheduler is None:
        return {}
    if scheduler not in CONSTANT_RATE:
        raise ValueError(
            f"scheduler {scheduler!r} is unknown: set WarmupCosine with lr_warmup_epochs and lr_min_ratio, or Default"
        )
    return {"training.warmup_fraction": 0.0, "training.final_lr_fraction": 1.0}


def _grouping(parts: Mapping[str, Any], idle: frozenset[str]) -> dict[str, Any]:
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
        _check_dormant(parts, idle, (word,), "grouping", f"neighbor_function {methods}")
    return {GROUPING[word]: value for word, value in words.items() if word not in asleep}


def _check_lengths(lengths: list[int]) -> None:
    for epochs in lengths:
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
            raise ValueError(f"{epochs!r} epochs, expected a whole number of at least 0")


def _check_dormant(parts: Mapping, idle: frozenset, fields: tuple, part: str, wakes: str) -> None:
    """Refuse fields that have no effect."""
    dormant = [field for field in fields if f"{part}.{field}" in parts and f"{part}.{field}" not in idle]
    if dormant:
        raise ValueError(f"{' and '.join(dormant)} has no effect without {wakes}: remove it, or set {wakes}")


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
        return {"schedule.scheduler": "Default", "schedule.optimizer": "adamw"}
    epochs = training.warmup_fraction * total_epochs(training.stages)
    if abs(epochs - round(epochs)) > 1e-9:
        raise UntranslatableError(f"PtychoPINN supports only whole epochs of warm-up, got {epochs:.3g}")
    return {
        "schedule.scheduler": "WarmupCosine",
        "schedule.lr_warmup_epochs": round(epochs),
        "schedule.lr_min_ratio": training.final_lr_fraction,
        "schedule.optimizer": "adamw",
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
