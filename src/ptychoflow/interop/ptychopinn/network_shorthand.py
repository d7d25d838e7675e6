"""PtychoPINN's flat fields for network, optimiser, probe mask and simulated scans, to our settings and back."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...config import Network, Packing, Training
from .value_codecs import UntranslatableError

PARTS = {
    "layers": (
        "network.base_channels",
        "network.depth",
        "network.head",
        "network.amplitude_activation",
        "network.fourier_modes",
    ),
    "merging": ("network.output", "network.patch_weighting"),
    "optimizer": ("training.adam_betas", "training.momentum"),
    "mask": ("packing.probe_mask_px",),
    "scan": ("simulation.trajectory.name", "simulation.trajectory.step_px", "simulation.trajectory.jitter_px"),
}
"""Parts of the shorthand, and our settings that each determines."""
SETTINGS_OF_WORDS = {
    "layers.n_filters_scale": ("network.base_channels", "network.depth"),
    "layers.cnn_output_mode": ("network.head",),
    "layers.amp_activation": ("network.amplitude_activation",),
    "layers.fno_modes": ("network.fourier_modes",),
    "layers.fno_width": ("network.base_channels",),
    "layers.fno_blocks": ("network.depth",),
    "optimizer.adam_beta1": ("training.adam_betas",),
    "optimizer.adam_beta2": ("training.adam_betas",),
    "optimizer.momentum": ("training.momentum",),
    "groups.amplitudes": ("network.group_size",),
}
"""Our settings that a single word of a part determines."""
IMPLIED = {"layers.cnn_output_mode": "polar", "merging.patch_weighting": "central"}
"""What a side of PtychoPINN that lacks the word always does."""
CNN_WORDS = ("n_filters_scale", "amp_activation", "cnn_output_mode")
FNO_WORDS = {"fno_modes": "network.fourier_modes", "fno_width": "network.base_channels", "fno_blocks": "network.depth"}
SIZE, OBJECT = 64, (250, 250)
"""PtychoPINN's defaults of ``N`` and ``image_size``, px."""
BOTTLENECK = 128
"""Channels of the smallest features of its CNN for ``n_filters_scale`` 1; they have 8 x 8 px."""
JITTER = 0.3
"""Largest deviation of its simulated positions from a raster, relative to the step."""


class Dormant:
    """Fields that have no effect beside the others: refused, or noted where a whole file is migrated.

    Args:
        parts: values by key.
        idle: keys that hold PtychoPINN's default, and so are permitted anywhere.
        notes: takes the fields; they are refused without it.
    """

    def __init__(self, parts: Mapping[str, Any], idle: frozenset[str], notes: list[str] | None) -> None:
        self.parts, self.idle, self.notes = parts, idle, notes

    def check(self, fields: Sequence[str], part: str, needs: str) -> None:
        """Refuse or note fields of a part that were chosen.

        Args:
            fields: that have no effect.
            part: of the shorthand.
            needs: what they need to have one.

        Raises:
            ValueError: for the fields that were chosen.
        """
        chosen = [field for field in fields if f"{part}.{field}" in self.parts and f"{part}.{field}" not in self.idle]
        if not chosen:
            return
        if self.notes is None:
            names = " and ".join(chosen)
            raise ValueError(f"{names} has no effect without {needs}: remove it, or set {needs}")
        self.notes += [f"{field}: no effect without {needs}, as in PtychoPINN" for field in chosen]


def layers(parts: Mapping[str, Any], plain: Mapping[str, Any], dormant: Dormant) -> dict[str, Any]:
    """Return our settings of the network; fields of the CNN have no effect on a Fourier operator, and vice versa."""
    words = _words(parts, "layers")
    if plain.get("network.architecture", "cnn") == "fno":
        dormant.check(CNN_WORDS, "layers", "architecture cnn")
        return {ours: words[word] for word, ours in FNO_WORDS.items() if word in words}
    dormant.check([*FNO_WORDS], "layers", "architecture fno")
    chosen = {word for word in CNN_WORDS if word in words}
    if not chosen:
        return {}
    settings: dict[str, Any] = {"network.architecture": "cnn"}
    if "n_filters_scale" in chosen:
        depth = depth_of(plain.get("simulation.size", SIZE))
        channels = BOTTLENECK * words["n_filters_scale"] / 2 ** (depth - 1)
        settings |= {"network.base_channels": int(channels), "network.depth": depth}
    if chosen & {"amp_activation", "cnn_output_mode"}:
        settings["network.head"] = words.get("cnn_output_mode", "polar")
        if settings["network.head"] == "polar":
            settings["network.amplitude_activation"] = words.get("amp_activation", "silu")
        else:
            dormant.check(["amp_activation"], "layers", "cnn_output_mode amp_phase")
    return settings


def depth_of(size: int) -> int:
    """Return the number of encoder blocks of PtychoPINN's CNN for patterns of ``size`` px: it ends at 8 x 8 px."""
    return min(max(int(math.log2(max(size, 16) / 8)), 1), 5)


def merging(parts: Mapping[str, Any], plain: Mapping[str, Any], dormant: Dormant) -> dict[str, Any]:
    """Return the output that the weighting of merged patches needs; single patterns are not merged."""
    weighting = _words(parts, "merging").get("patch_weighting")
    if weighting is None:
        return {}
    if plain.get("network.group_size") == 1:
        dormant.check(("patch_weighting",), "merging", "groups of several patterns")
        return {}
    return {"network.output": "patches", "network.patch_weighting": weighting}


def optimizer(parts: Mapping[str, Any], plain: Mapping[str, Any], dormant: Dormant) -> dict[str, Any]:
    """Return the settings of the optimiser."""
    words = _words(parts, "optimizer")
    if plain.get("training.optimizer") == "sgd":
        dormant.check(("adam_beta1", "adam_beta2"), "optimizer", "optimizer adam or adamw")
        return {"training.momentum": words["momentum"]} if "momentum" in words else {}
    dormant.check(("momentum",), "optimizer", "optimizer sgd")
    if not words.keys() & {"adam_beta1", "adam_beta2"}:
        return {}
    return {"training.adam_betas": (words.get("adam_beta1", 0.9), words.get("adam_beta2", 0.999))}


def probe_mask(parts: Mapping[str, Any], plain: Mapping[str, Any], dormant: Dormant) -> dict[str, Any]:
    """Return the disc that the probe is multiplied with: half the side of the patterns unless a diameter is given."""
    words = _words(parts, "mask")
    if not words.get("probe_mask", False):
        dormant.check(("probe_mask_diameter",), "mask", "probe_mask")
        return {"packing.probe_mask_px": None} if "probe_mask" in words else {}
    return {"packing.probe_mask_px": words.get("probe_mask_diameter", plain.get("simulation.size", SIZE) / 2)}


def scan_density(parts: Mapping[str, Any], plain: Mapping[str, Any], dormant: Dormant) -> dict[str, Any]:
    """Return the raster on which a number of patterns covers an object, each moved by up to 0.3 steps."""
    count = _words(parts, "scan").get("diff_per_object")
    if count is None:
        return {}
    if not isinstance(count, int) or isinstance(count, bool) or count < 4:
        raise ValueError(f"diff_per_object is {count!r}, expected a whole number of at least 4")
    size, shape = plain.get("simulation.size", SIZE), plain.get("simulation.object.size", OBJECT)
    height, width = (side - size for side in shape)
    if min(height, width) <= 0:
        raise ValueError(f"image_size {shape} holds no pattern of {size} px: raise it")
    step = math.sqrt(height * width) / (math.ceil(math.sqrt(count)) - 1)
    return {
        "simulation.trajectory.name": "jittered_raster",
        "simulation.trajectory.step_px": round(step, 4),
        "simulation.trajectory.jitter_px": round(JITTER * step, 4),
    }


def export_layers(network: Network, size: int) -> dict[str, Any]:
    """Return PtychoPINN's words for the layers of a network."""
    if network.architecture == "unet":
        raise UntranslatableError("PtychoPINN has no such network")
    if network.architecture == "fno":
        if network.head != "complex":
            raise UntranslatableError("PtychoPINN supports only head complex for a Fourier operator")
        return {f"layers.{word}": getattr(network, ours.partition(".")[2]) for word, ours in FNO_WORDS.items()}
    scale = network.base_channels * 2 ** (network.depth - 1) / BOTTLENECK
    if network.depth != depth_of(size) or scale != int(scale):
        raise UntranslatableError(
            f"PtychoPINN supports only depth {depth_of(size)} and multiples of {BOTTLENECK} channels at 8 x 8 px for "
            f"patterns of {size} px"
        )
    if network.head == "amplitude_phase":
        raise UntranslatableError("PtychoPINN supports only head polar or complex")
    words = {"layers.n_filters_scale": int(scale), "layers.cnn_output_mode": network.head}
    return words | ({"layers.amp_activation": network.amplitude_activation} if network.head == "polar" else {})


def export_merging(network: Network) -> dict[str, Any]:
    """Return PtychoPINN's word for the weighting of merged patches, where they are merged."""
    return {"merging.patch_weighting": network.patch_weighting} if network.output == "patches" else {}


def export_optimizer(training: Training) -> dict[str, Any]:
    """Return PtychoPINN's words for the settings of the optimiser."""
    if training.optimizer == "sgd":
        return {"optimizer.momentum": training.momentum}
    return dict(zip(("optimizer.adam_beta1", "optimizer.adam_beta2"), training.adam_betas, strict=True))


def export_probe_mask(packing: Packing) -> dict[str, Any]:
    """Return PtychoPINN's words for the mask of the probe."""
    if packing.probe_mask_px is None:
        return {"mask.probe_mask": False}
    return {"mask.probe_mask": True, "mask.probe_mask_diameter": packing.probe_mask_px}


def export_scan_density() -> dict[str, Any]:
    """Raise: PtychoPINN counts patterns and does not give a step."""
    raise UntranslatableError("PtychoPINN simulates a number of patterns (diff_per_object), not a step")


def _words(parts: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {key.partition(".")[2]: value for key, value in parts.items() if key.startswith(f"{part}.")}
