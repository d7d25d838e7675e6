"""What ptychodus asks of its PtychoPINN-Torch backend, done with our engine; ``facade`` stands in front of it.

Its panels have ninety-one settings. Those with a meaning here act through the table in :mod:`.names`; a change to any
other is warned of. Patterns decide the size, whatever ``model_size`` says; ``cuda`` means what there is.
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
"""Fields that act here."""
FOLLOWING = {
    "data_config": ("N", "grid_size"),
    "model_config": ("decoder_last_amp_channels", "C_model", "C_forward"),
    "training_config": ("num_workers", "strategy", "framework", "orchestrator", "notes", "model_name"),
    "inference_config": ("batch_size",),
}
"""Fields that follow from others or change no result: nothing is said of them."""
SCHEDULES = {"Default": "Default", "Cosine": "WarmupCosine"}
WITHOUT_LENGTHS = MeasuredGeometry(energy_ev=8000.0, detector_distance_m=1.0, detector_pixel_m=75e-6)
"""Training archives have positions in pixels and no lengths, which then do not matter."""


def settings_of(configs: Any) -> dict[str, dict[str, Any]]:
    """Sections of ours from ptychodus's configs, a change that cannot act warned of.

    Args:
        configs: has ``data_config``, ``model_config``, ``training_config`` and ``inference_config``.

    Raises:
        ConfigError: for choices that contradict each other or are out of range.
    """
    said, idle = {}, []
    for section, acting in ACTING.items():
        config = getattr(configs, section)
        fields = vars(config)
        said[section] = {name: fields[name] for name in acting}
        others = [f for f in dataclasses.fields(config) if f.name not in (*acting, *FOLLOWING[section])]
        idle += [f"{f.name} {fields[f.name]!r}" for f in others if fields[f.name] != f.default]
    idle += _reworded(said)
    if idle:
        logger.warning("no effect here: %s", ", ".join(idle))
    sections = from_torch(said)
    return {name: sections.get(name, {}) for name in ("network", "training", "runtime", "inference", "stitching")}


def train_on(folder: Path, output: Path, configs: Any, callbacks: "Sequence[Callback]" = ()) -> None:
    """Train on what is in a folder: a standard directory of ptychodus, or its training archives.

    Args:
        folder: where ``diffraction.h5`` and ``product.h5`` are, or ``.npz`` files.
        output: a folder for the checkpoint, :data:`CHECKPOINT`.
        configs: as for :func:`settings_of`.
        callbacks: Lightning's callbacks.

    Raises:
        FileNotFoundError: if there is nothing to train on.
        ValueError: if it is damaged, or does not suit the settings.
    """
    from ...api import PtychoDataLoader
    from ...api.config import ConfigManager
    from ...commands.train import train
    from ...models.checkpoint import read_model, write_model

    sections = settings_of(configs)
    supervised = sections["training"].get("supervision") == "ground_truth"
    scans = training_scans(folder, supervised)
    for scan in scans:
        if scan.size != configs.data_config.N:
            logger.warning(
                "%s has patterns of %d px: model_size %d is left alone", scan.name, scan.size, configs.data_config.N
            )
    ours = ConfigManager(**{name: sections[name] for name in ("network", "training", "runtime")})
    path = output / CHECKPOINT
    with PtychoDataLoader(scans, ours).folders() as folders:
        train(folders, path, ours.network, ours.training, ours.runtime, ours.tracking, callbacks=callbacks)
    model = read_model(path)
    told = {"mode": configs.model_config.mode, **{name: sections[name] for name in ("inference", "stitching")}}
    write_model(path, dataclasses.replace(model, metadata=model.metadata | {"ptychodus": told}))


def training_scans(folder: Path, labelled: bool) -> "list[Scan]":
    """Scans to train on; with ``labelled`` the object in each is the truth.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if one is damaged, or has no object to be trained on.
    """
    from ...readers.registry import read_scan_of

    told: dict[str, Any] = {"object_is_ground_truth": labelled}
    if (folder / "diffraction.h5").is_file():
        found = [read_scan_of(folder, Source(file=str(folder), **told))]
    else:
        archives = sorted(folder.glob("*.npz"))
        if not archives:
            raise FileNotFoundError(f"{folder} holds neither diffraction.h5 nor .npz files: export training data there")
        told |= {"format": "ptychopinn_npz", "domain": "counts", "geometry": WITHOUT_LENGTHS}
        found = [read_scan_of(path, Source(file=str(path), **told)) for path in archives]
    flat = [scan.name for scan in found if labelled and np.ptp(np.abs(scan.truth.object)) == 0]
    if flat:
        raise ValueError(f"the object of {', '.join(flat)} is empty: reconstruct it first, or train Unsupervised")
    return found


def configs_of(path: Path) -> tuple[dict, dict, dict, dict]:
    """Fields of ptychodus's configs that a checkpoint tells of: data, model, training, inference.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no model of ours.
    """
    from ...models.checkpoint import read_model

    model = read_model(path)
    told = model.metadata.get("ptychodus", {})
    patches = model.network.settings.group_size
    inference = {"patch_weighting": "uniform"} if told.get("stitching", {}).get("weighting") == "uniform" else {}
    if "patch_crop_px" in told.get("inference", {}):
        inference["middle_trim"] = told["inference"]["patch_crop_px"]
    return {"N": model.size, "C": patches}, {"mode": told.get("mode", "Unsupervised")}, {}, inference


def reconstruct(
    network: "PtychoModel", patterns: np.ndarray, probe: np.ndarray, positions: np.ndarray, configs: Any
) -> np.ndarray:
    """The object of a scan.

    Args:
        network: trained on patterns as large.
        patterns: counts, ``(n, N, N)``.
        probe: modes in any unit, ``(M, N, N)``.
        positions: ``(y, x)`` in the frame of an object's pixels, a patch's centre at ``(N - 1) / 2``, ``(n, 2)``.
        configs: as for :func:`settings_of`.

    Returns:
        Complex64, ``(H, W)``, on the grid of the object that the positions were counted on.

    Raises:
        ValueError: if the patterns are not of the size that the network was trained on.
    """
    from ...api import InferenceEngine
    from ...api.config import ConfigManager
    from ...preprocessing.probe_guess import in_photons

    size = patterns.shape[-1]
    if patterns.shape[-2:] != (network.model.size,) * 2:
        raise ValueError(
            f"the network was trained on patterns of {network.model.size} x {network.model.size} px, these have "
            f"{patterns.shape[-2]} x {size}: crop them to that, or train on patterns like these"
        )
    sections = settings_of(configs)
    ours = ConfigManager(**{name: sections[name] for name in ("inference", "stitching", "runtime")})
    modes = in_photons(probe.reshape(-1, size, size), float(patterns.mean(0, dtype=np.float64).sum()))
    found = InferenceEngine(network, ours).predict_and_stitch(
        patterns, positions=positions + half_pixel(size), probe=modes
    )
    return on_grid(found, positions, size)


def on_grid(found: "ReconstructionResult", positions: np.ndarray, size: int) -> np.ndarray:
    """What was found, on the grid whose pixel ``[0, 0]`` lies at position 0, as large as the object it was counted on.

    ptychodus puts the middle of the result where the middle of its object was. It does not tell how large that was, but
    an object that was made for the scan has its middle in the middle of the positions.
    """
    from scipy.ndimage import shift

    low, high = positions.min(0), positions.max(0)
    told = np.round(low + high + 1).astype(int)
    needed = np.ceil(high - low + size - 1e-6).astype(int)
    fits = np.abs(low + high + 1 - told) < 0.5
    shape = np.where(fits & (told >= needed - 1), told, needed)
    first = np.where(shape == told, 0.0, (low + high) / 2 - (shape - 1) / 2)
    whole = np.floor(np.asarray(found.origin) - first).astype(int)
    rest = np.asarray(found.origin) - first - whole
    moved = shift(found.image - 1, rest, order=3, mode="constant") + 1  # empty space, 1, all around
    canvas = np.ones(shape, np.complex64)
    into = [slice(max(0, w), max(0, min(n, w + m))) for w, n, m in zip(whole, shape, moved.shape)]
    out_of = [slice(part.start - w, part.stop - w) for part, w in zip(into, whole)]
    canvas[tuple(into)] = moved[tuple(out_of)]
    return canvas


def _reworded(said: dict[str, dict[str, Any]]) -> list[str]:
    """Put fields into the words of the table; returns what has none there."""
    training, inference = said["training_config"], said["inference_config"]
    scheduler, warmup, least = (training.pop(name) for name in ("scheduler", "warmup_epochs", "min_lr_ratio"))
    training["scheduler"] = SCHEDULES.get(scheduler, "Default")
    if training["scheduler"] == "WarmupCosine":
        training |= {"lr_warmup_epochs": warmup, "lr_min_ratio": least}
    if inference["middle_trim"] == 32:  # nobody's choice: without it the light decides
        del inference["middle_trim"]
    return [] if scheduler in SCHEDULES else [f"scheduler {scheduler!r}"]
