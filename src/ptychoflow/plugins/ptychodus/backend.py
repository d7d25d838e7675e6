"""Backend for ptychodus in place of its PtychoPINN-Torch backend, called by the modules in ``shim``.

Its panels have ninety-one settings. Those with a counterpart are translated by :mod:`ptychoflow.interop.ptychopinn`; a
change of any other logs a warning. The size is that of the patterns, whatever ``model_size`` is; ``cuda`` means the
available accelerator.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...config import MeasuredGeometry, Source
from ...interop.ptychopinn.config_translation import from_torch
from ...io.ptychodus_product import half_pixel

if TYPE_CHECKING:
    from lightning import Callback

    from ...api import PtychoModel, ReconstructionResult
    from ...core.scan import Scan

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoints/model.ckpt"
TRAINING_LOSS, VALIDATION_LOSS = "loss", "validation/data_error"
ACTING = {
    "data_config": (
        *("C", "K", "neighbor_function", "min_neighbor_distance", "max_neighbor_distance", "K_quadrant"),
        *("x_bounds", "y_bounds"),
    ),
    "model_config": ("mode", "loss_function", "n_filters_scale"),
    "training_config": (
        *("epochs", "batch_size", "learning_rate", "gradient_clip_val", "nll", "device"),
        *("scheduler", "warmup_epochs", "min_lr_ratio"),
    ),
    "inference_config": ("patch_weighting", "middle_trim"),
}
"""Fields that have an effect."""
FOLLOWING = {
    "data_config": ("N", "grid_size"),
    "model_config": ("decoder_last_amp_channels", "C_model", "C_forward"),
    "training_config": ("num_workers", "strategy", "framework", "orchestrator", "notes", "model_name"),
    "inference_config": ("batch_size",),
}
"""Fields that follow from others or change no result; no warning is logged for them."""
CHANNELS_PER_SCALE = 16
"""Channels of our network for ``n_filters_scale`` 1."""
SCHEDULES = {"Default": "Default", "Cosine": "WarmupCosine"}
WITHOUT_LENGTHS = MeasuredGeometry(energy_ev=8000.0, detector_distance_m=1.0, detector_pixel_m=75e-6)
"""Training archives have positions in pixels and no lengths, which then do not matter."""


def settings_of(configs: Any) -> dict[str, dict[str, Any]]:
    """Translate ptychodus's configs to sections of ours; a change without effect logs a warning.

    Args:
        configs: has ``data_config``, ``model_config``, ``training_config`` and ``inference_config``.

    Raises:
        ConfigError: for choices that contradict each other or are out of range.
    """
    chosen: dict[str, dict[str, Any]] = {}
    idle: list[str] = []
    for section, acting in ACTING.items():
        config = getattr(configs, section)
        fields = vars(config)
        chosen[section] = {name: fields[name] for name in acting}
        others = [f for f in dataclasses.fields(config) if f.name not in (*acting, *FOLLOWING[section])]
        idle += [f"{f.name} {fields[f.name]!r}" for f in others if fields[f.name] != f.default]
    idle += _rename_schedule(chosen)
    if idle:
        logger.warning("settings without effect in ptychoflow: %s", ", ".join(idle))
    scale = chosen["model_config"].pop("n_filters_scale")  # of PtychoPINN's CNN; the network here is ours
    sections = from_torch(chosen)
    sections.setdefault("network", {})["base_channels"] = CHANNELS_PER_SCALE * scale
    return {name: sections.get(name, {}) for name in ("network", "training", "runtime", "inference", "stitching")}


def train_on(folder: Path, output: Path, configs: Any, callbacks: "Sequence[Callback]" = ()) -> None:
    """Train on the scans in a folder: a standard directory of ptychodus, or its training archives.

    Args:
        folder: where ``diffraction.h5`` and ``product.h5`` are, or ``.npz`` files.
        output: a folder for the checkpoint, :data:`CHECKPOINT`.
        configs: as for :func:`settings_of`.
        callbacks: Lightning's callbacks.

    Raises:
        FileNotFoundError: if the folder holds no scan.
        ValueError: if a scan is damaged, or does not suit the settings.
    """
    from ...api import PtychoDataLoader
    from ...api.config import ConfigManager
    from ...commands.train import train
    from ...io.atomic import write_json
    from ...io.json_file import read_json
    from ...io.provenance import sha256
    from ...models.checkpoint import read_model, write_model

    sections = settings_of(configs)
    supervised = sections["training"].get("supervision") == "ground_truth"
    scans = training_scans(folder, supervised)
    for scan in scans:
        if scan.size != configs.data_config.N:
            logger.warning(
                "%s has patterns of %d px: model_size %d is ignored", scan.name, scan.size, configs.data_config.N
            )
    ours: Any = ConfigManager(**{name: sections[name] for name in ("network", "training", "runtime")})
    path = output / CHECKPOINT
    with PtychoDataLoader(scans, ours).folders() as folders:
        train(folders, path, ours.network, ours.training, ours.runtime, ours.tracking, callbacks=callbacks)
    model = read_model(path)
    kept = {"mode": configs.model_config.mode, **{name: sections[name] for name in ("inference", "stitching")}}
    write_model(path, dataclasses.replace(model, metadata=model.metadata | {"ptychodus": kept}))
    log = path.with_suffix(".json")
    write_json(log, read_json(log) | {"checkpoint_sha256": sha256(path)})


def training_scans(folder: Path, labelled: bool) -> "list[Scan]":
    """Read the scans to train on.

    Args:
        folder: where ``diffraction.h5`` and ``product.h5`` are, or ``.npz`` files.
        labelled: True to take the object in each as the ground truth.

    Raises:
        FileNotFoundError: if the folder holds no scan.
        ValueError: if one is damaged, or lacks an object to train on.
    """
    from ...readers.registry import read_scan_of

    settings: dict[str, Any] = {"object_is_ground_truth": labelled}
    if (folder / "diffraction.h5").is_file():
        scans = [read_scan_of(folder, Source(file=str(folder), **settings))]
    else:
        archives = sorted(folder.glob("*.npz"))
        if not archives:
            raise FileNotFoundError(f"diffraction.h5 or .npz files not found in {folder}: export training data there")
        settings |= {"format": "ptychopinn_npz", "domain": "counts", "geometry": WITHOUT_LENGTHS}
        scans = [read_scan_of(path, Source(file=str(path), **settings)) for path in archives]
    uniform = [scan.name for scan in scans if scan.truth is not None and np.ptp(np.abs(scan.truth.object)) == 0]
    if labelled and uniform:
        raise ValueError(f"the object of {', '.join(uniform)} is uniform: reconstruct it first, or train Unsupervised")
    return scans


def configs_of(path: Path) -> tuple[dict, dict, dict, dict]:
    """Return the fields of ptychodus's configs kept in a checkpoint: data, model, training, inference.

    Raises:
        FileNotFoundError: if the checkpoint is missing.
        ValueError: if it is not a ptychoflow checkpoint.
    """
    from ...models.checkpoint import read_model

    model = read_model(path)
    kept = model.metadata.get("ptychodus", {})
    patches = model.network.settings.group_size
    inference = {"patch_weighting": "uniform"} if kept.get("stitching", {}).get("weighting") == "uniform" else {}
    if "patch_crop_px" in kept.get("inference", {}):
        inference["middle_trim"] = kept["inference"]["patch_crop_px"]
    return {"N": model.size, "C": patches}, {"mode": kept.get("mode", "Unsupervised")}, {}, inference


def reconstruct(
    network: "PtychoModel", patterns: np.ndarray, probe: np.ndarray, positions: np.ndarray, configs: Any
) -> np.ndarray:
    """Reconstruct the object of a scan.

    Args:
        network: trained on patterns of the same size.
        patterns: counts, ``(n, N, N)``.
        probe: modes in any unit, ``(M, N, N)``.
        positions: ``(y, x)`` in the frame of an object's pixels, a patch's centre at ``(N - 1) / 2``, ``(n, 2)``.
        configs: as for :func:`settings_of`.

    Returns:
        Object, complex64, ``(H, W)``, on the pixel grid of the positions.

    Raises:
        ValueError: if the patterns are not of the size that the network was trained on.
    """
    from ...api import InferenceEngine
    from ...api.config import ConfigManager
    from ...preprocessing.probe_guess import in_photons

    size = patterns.shape[-1]
    if patterns.shape[-2:] != (network.model.size,) * 2:
        raise ValueError(
            f"got patterns of {patterns.shape[-2]} x {size} px, the network was trained on {network.model.size} x "
            f"{network.model.size} px: crop them, or train on patterns of this size"
        )
    sections = settings_of(configs)
    ours = ConfigManager(**{name: sections[name] for name in ("inference", "stitching", "runtime")})
    modes = in_photons(probe.reshape(-1, size, size), float(patterns.mean(0, dtype=np.float64).sum()))
    result = InferenceEngine(network, ours).predict_and_stitch(
        patterns, positions=positions + half_pixel(size), probe=modes
    )
    return on_grid(result, positions, size)


def on_grid(result: "ReconstructionResult", positions: np.ndarray, size: int) -> np.ndarray:
    """Resample a reconstruction to the grid whose pixel ``[0, 0]`` lies at position 0.

    ptychodus puts the middle of the result where the middle of its object was. Its size is not passed, but an object
    that was made for the scan has its middle in the middle of the positions.

    Args:
        result: the reconstruction.
        positions: ``(y, x)``, px, ``(n, 2)``.
        size: side N of the patterns, px.

    Returns:
        Object, complex64, ``(H, W)``, 1 where it is unknown.
    """
    from scipy.ndimage import shift

    low, high = positions.min(0), positions.max(0)
    centred = np.round(low + high + 1).astype(int)
    needed = np.ceil(high - low + size - 1e-6).astype(int)
    fits = np.abs(low + high + 1 - centred) < 0.5
    shape = np.where(fits & (centred >= needed - 1), centred, needed)
    first = np.where(shape == centred, 0.0, (low + high) / 2 - (shape - 1) / 2)
    whole = np.floor(np.asarray(result.origin) - first).astype(int)
    subpixel_shift = np.asarray(result.origin) - first - whole
    moved = shift(result.image - 1, subpixel_shift, order=3, mode="constant") + 1  # empty space, 1, all around
    canvas = np.ones(shape, np.complex64)
    into = [slice(max(0, w), max(0, min(n, w + m))) for w, n, m in zip(whole, shape, moved.shape)]
    out_of = [slice(part.start - w, part.stop - w) for part, w in zip(into, whole)]
    canvas[tuple(into)] = moved[tuple(out_of)]
    return canvas


def _rename_schedule(chosen: dict[str, dict[str, Any]]) -> list[str]:
    """Rename ptychodus's fields to PtychoPINN's in place; return the ones without a counterpart."""
    training, inference = chosen["training_config"], chosen["inference_config"]
    scheduler, warmup, least = (training.pop(name) for name in ("scheduler", "warmup_epochs", "min_lr_ratio"))
    training["scheduler"] = SCHEDULES.get(scheduler, "Default")
    if training["scheduler"] == "WarmupCosine":
        training |= {"lr_warmup_epochs": warmup, "lr_min_ratio": least}
    if inference["middle_trim"] == 32:  # the default of ptychodus: without it the illumination decides
        del inference["middle_trim"]
    return [] if scheduler in SCHEDULES else [f"scheduler {scheduler!r}"]
