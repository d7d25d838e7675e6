"""The file of a reconstruction: a ptychodus product (HDF5) with our arrays under ``/ptychoflow``."""

import json
from pathlib import Path

import h5py
import numpy as np

from ..core.instrument import Instrument
from ..core.reconstruction import Reconstruction
from ..core.scan import Geometry
from .atomic import atomic_file, size_of
from .ptychodus_product import Product, fill_hdf5, half_pixel

ENDINGS = (".h5", ".hdf5")
"""Suffixes of the file of a reconstruction."""


def write_reconstruction(path: Path, reconstruction: Reconstruction) -> None:
    """Write a ptychodus product (HDF5) with our arrays under ``/ptychoflow``, atomically."""
    with atomic_file(path, size_of(reconstruction)) as partial, h5py.File(partial, "w") as file:
        fill_hdf5(file, product_of(reconstruction))
        _write_ours(file.create_group("ptychoflow"), reconstruction)


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
        object=np.asarray(reconstruction.object, np.complex64)[None],
        indexes=np.arange(len(y)),
        y_m=y,
        x_m=x,
        pixel_m=pixel,
        centre_m=(middle[0] * pixel, middle[1] * pixel),
        name=reconstruction.name,
        comments="written by ptychoflow" + (f"; partial: {metadata['partial']}" if "partial" in metadata else ""),
        distance_m=geometry.detector_distance_m,
        energy_ev=geometry.energy_ev,
        photons=photons,
        photon_counts=None if probe_scale is None else photons * np.asarray(probe_scale, np.float64) ** 2,
        opr_weights=_opr_weights(reconstruction.instrument),
        losses=np.array([*losses], np.float64).reshape(-1, 2),
    )


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
    if not Path(path).is_file():
        raise FileNotFoundError(f"reconstruction not found: {path}")
    try:
        with h5py.File(path, "r") as file:
            return _reconstruction_from(file)
    except (KeyError, OSError) as error:
        raise ValueError(f"{path} is not a ptychoflow reconstruction or is damaged ({error}): make it again") from None


def _write_ours(group: h5py.Group, reconstruction: Reconstruction) -> None:
    group.attrs.update({"format": 2, "metadata": json.dumps(reconstruction.metadata), "origin": reconstruction.origin})
    group.attrs.update(
        {"wavelength_m": reconstruction.geometry.wavelength_m, "pixel_size_m": reconstruction.geometry.pixel_size_m}
    )
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


def _reconstruction_from(file: h5py.File) -> Reconstruction:
    ours = file["ptychoflow"]
    y, x = ours.attrs["origin"]
    return Reconstruction(
        object=file["object"][0],
        origin=(float(y), float(x)),
        probe=file["probe"][0],
        positions=ours["positions"][()],
        geometry=Geometry(
            float(ours.attrs["pixel_size_m"]),
            float(ours.attrs["wavelength_m"]),
            float(file.attrs["detector_object_distance_m"]),
        ),
        weight=ours["weight"][()],
        coverage=ours["coverage"][()],
        probe_scale=ours["probe_scale"][()] if "probe_scale" in ours else None,
        phase_uncertainty=ours["phase_uncertainty"][()] if "phase_uncertainty" in ours else None,
        instrument=_instrument_from(file),
        name=str(file.attrs["name"]),
        history={name: column[()].tolist() for name, column in ours.get("history", {}).items()},
        snapshots=ours["snapshots"][()] if "snapshots" in ours else None,
        component=ours["component"][()] if "component" in ours else None,
        metadata=json.loads(ours.attrs["metadata"]),
    )


def _instrument_from(file: h5py.File) -> Instrument:
    ours = file["ptychoflow"]
    varies = "opr_weights" in file
    return Instrument(
        probe_variations=file["probe"][1:, 0] if varies else None,
        variation_weights=file["opr_weights"][:, 1:].astype(np.float32) if varies else None,
        background=ours["background"][()] if "background" in ours else None,
        point_spread_px=float(ours.attrs.get("point_spread_px", 0.0)),
    )
