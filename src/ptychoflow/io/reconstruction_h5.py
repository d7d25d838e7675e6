"""The file of a reconstruction: a ptychodus product (HDF5) with our arrays under ``/ptychoflow``."""

import json
from pathlib import Path

import h5py
import numpy as np

from ..core.instrument import Instrument
from ..core.reconstruction import Reconstruction
from .atomic import atomic_file, size_of
from .metadata import parse_metadata
from .ptychodus_product import Product, fill_hdf5, half_pixel
from .regular_file import check_regular
from .safe_hdf5 import Hdf5, read_hdf5
from .scan_cxi import geometry_from

OURS = "ptychoflow"
"""Group of the arrays that a product of ptychodus has no place for."""
KIND, REMEDY = "ptychoflow reconstruction", "make it again"


def write_reconstruction(path: Path, reconstruction: Reconstruction) -> None:
    """Write a ptychodus product (HDF5) with our arrays under ``/ptychoflow``, atomically."""
    with atomic_file(path, size_of(reconstruction)) as partial, h5py.File(partial, "w") as file:
        fill_hdf5(file, product_of(reconstruction))
        _write_ours(file.create_group(OURS), reconstruction)


def product_of(reconstruction: Reconstruction) -> Product:
    """Convert a reconstruction to a ptychodus product.

    ptychodus counts patch centres from ``(N - 1) / 2`` and we from ``N // 2``. The object's centre takes up the half
    pixel, so that positions are ours times the pixel size.
    """
    geometry, history, metadata = reconstruction.geometry, reconstruction.history, reconstruction.metadata
    pixel = geometry.pixel_size_m
    half = half_pixel(reconstruction.probe.shape[-1])
    middle = [o + (side - 1) / 2 + half for o, side in zip(reconstruction.origin, reconstruction.object.shape)]
    y, x = reconstruction.positions.T * pixel
    losses = zip(history["epoch"], history["error"]) if "error" in history else ()
    photons, probe_scale = float(np.sum(np.abs(reconstruction.probe) ** 2)), reconstruction.probe_scale
    return Product(
        probe=_coherent_probe(reconstruction),
        object=_layers(reconstruction),
        indexes=np.arange(len(y)),
        y_m=y,
        x_m=x,
        pixel_m=pixel,
        centre_m=(middle[0] * pixel, middle[1] * pixel),
        name=reconstruction.name,
        comments="written by ptychoflow" + (f"; partial: {metadata['partial']}" if "partial" in metadata else ""),
        distance_m=geometry.detector_distance_m,
        energy_ev=geometry.energy_ev,
        far_field=not geometry.near_field,
        photons=photons,
        photon_counts=None if probe_scale is None else photons * np.asarray(probe_scale, np.float64) ** 2,
        opr_weights=_opr_weights(reconstruction.instrument),
        losses=np.array([*losses], np.float64).reshape(-1, 2),
        layer_spacing_m=np.full(_layers(reconstruction).shape[0] - 1, reconstruction.slice_spacing_m),
    )


def _layers(reconstruction: Reconstruction) -> np.ndarray:
    """Return the slices of a thick object, or a thin one as its only layer, ``(L, H, W)``."""
    thin = reconstruction.slices is None
    return np.asarray(reconstruction.object[None] if thin else reconstruction.slices, np.complex64)


def _coherent_probe(reconstruction: Reconstruction) -> np.ndarray:
    """Return the probe and its variations as coherent modes; they vary the first incoherent one, ``(1 + K, M, N, N)``.

    pty-chi adds up ``sum_k opr_weights[j, k] probe[k, 0]``, whose first weight is that of the probe itself.
    """
    probe = reconstruction.probe.astype(np.complex64)
    variations = reconstruction.instrument.probe_variations
    if variations is None:
        return probe[None]
    varied = np.zeros((len(variations), *probe.shape), np.complex64)
    varied[:, 0] = variations
    return np.concatenate([probe[None], varied])


def _opr_weights(instrument: Instrument) -> np.ndarray | None:
    weights = instrument.variation_weights
    return None if weights is None else np.insert(np.asarray(weights, np.float64), 0, 1.0, axis=1)


def read_reconstruction(path: Path) -> Reconstruction:
    """Read a reconstruction that :func:`write_reconstruction` wrote.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged or another program wrote it.
    """
    check_regular(Path(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"reconstruction not found: {path}")
    return read_hdf5(Path(path), _reconstruction_from, KIND, REMEDY)


def _write_ours(group: h5py.Group, reconstruction: Reconstruction) -> None:
    group.attrs.update({"format": 2, "metadata": json.dumps(reconstruction.metadata), "origin": reconstruction.origin})
    group.attrs.update(reconstruction.geometry.lengths())
    if reconstruction.slices is not None:
        group.attrs["slice_spacing_m"] = reconstruction.slice_spacing_m
    group["positions"] = reconstruction.positions
    group.create_dataset("weight", data=np.asarray(reconstruction.weight, np.float32), compression="lzf")
    group.create_dataset("coverage", data=reconstruction.coverage, compression="lzf")
    if reconstruction.component is not None:
        group.create_dataset("component", data=reconstruction.component, compression="lzf")
    for name, column in reconstruction.history.items():
        group[f"history/{name}"] = np.asarray(column, np.float64)
    instrument = reconstruction.instrument
    if instrument.background is not None:
        background = group.create_dataset("background", data=instrument.background.astype(np.float32))
        background.attrs["unit"] = "photons"
    if instrument.point_spread_px:
        group.attrs["point_spread_px"] = instrument.point_spread_px
    if reconstruction.probe_scale is not None:
        group["probe_scale"] = reconstruction.probe_scale.astype(np.float32)
    if reconstruction.phase_uncertainty is not None:
        phase_std = group.create_dataset("phase_uncertainty", data=reconstruction.phase_uncertainty, compression="lzf")
        phase_std.attrs["unit"] = "rad"
    if reconstruction.snapshots is not None:
        group.create_dataset("snapshots", data=reconstruction.snapshots.astype(np.complex64), compression="lzf")


def _reconstruction_from(file: Hdf5) -> Reconstruction:
    geometry = geometry_from(file, OURS, "@detector_object_distance_m")
    if OURS not in file or geometry is None:
        raise ValueError(f"{file.path} is not a ptychoflow reconstruction or is damaged: {REMEDY}")
    origin = np.asarray(file.attribute(OURS, "origin"))
    if origin.shape != (2,) or origin.dtype.kind not in "uif":
        raise ValueError(f"{file.path}: the origin of the object is {origin}, expected (y, x): {REMEDY}")
    y, x = origin.tolist()
    layers = file.array("object", 3, kinds="c")
    thick, spacing = len(layers) > 1, file.number(f"{OURS}@slice_spacing_m")
    return Reconstruction(
        object=layers.prod(0) if thick else layers[0],
        slices=layers if thick else None,
        slice_spacing_m=(spacing or 0.0) if thick else 0.0,
        origin=(float(y), float(x)),
        probe=file.array("probe", 4, kinds="c")[0],
        positions=file.array(f"{OURS}/positions", 2, kinds="f"),
        geometry=geometry,
        weight=file.array(f"{OURS}/weight", 2, kinds="f"),
        coverage=file.array(f"{OURS}/coverage", 2, kinds="b"),
        probe_scale=_optional(file, "probe_scale", 1, "f"),
        phase_uncertainty=_optional(file, "phase_uncertainty", 2, "f"),
        instrument=_instrument_from(file),
        name=file.text("@name"),
        history={name: file.array(f"{OURS}/history/{name}", 1, kinds="f").tolist() for name in _columns(file)},
        snapshots=_optional(file, "snapshots", 3, "c"),
        component=_optional(file, "component", 2, "i"),
        metadata=parse_metadata(file.text(f"{OURS}@metadata"), str(file.path), REMEDY),
    )


def _instrument_from(file: Hdf5) -> Instrument:
    varies = "opr_weights" in file
    weights = file.array("opr_weights", 2, kinds="f")[:, 1:].astype(np.float32) if varies else None
    return Instrument(
        probe_variations=file.array("probe", 4, kinds="c")[1:, 0] if varies else None,
        variation_weights=weights,
        background=_optional(file, "background", 2, "f"),
        point_spread_px=file.number(f"{OURS}@point_spread_px") or 0.0,
    )


def _columns(file: Hdf5) -> list[str]:
    return file.names(f"{OURS}/history")


def _optional(file: Hdf5, name: str, dimensions: int, kinds: str) -> np.ndarray | None:
    """Return an array that a reconstruction may lack."""
    return file.array(f"{OURS}/{name}", dimensions, kinds=kinds) if f"{OURS}/{name}" in file else None
