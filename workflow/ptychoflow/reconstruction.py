"""A reconstruction: the object that was found, and its file, a ptychodus product with our measures beside it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from .files import whole_file
from .scan import Geometry


@dataclass(frozen=True)
class Reconstruction:
    """An object, what it was reconstructed with and how far to trust each pixel.

    Attributes:
        object: complex transmission, complex64, ``(H, W)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px, as in :class:`ptychoflow.scan.Truth`.
        probe: modes, sqrt(photons), complex64, ``(M, N, N)``.
        positions: px, ``(J, 2)``, refined where they were.
        geometry: lengths.
        weight: light that each pixel received, photons, or the sum of stitching weights, float32, ``(H, W)``.
        coverage: True where the object is known, ``(H, W)``.
        name: ``model/scan``.
        history: one row per epoch: ``epoch``, ``seconds``, ``error`` and other plain numbers, as columns.
        snapshots: the object at some of those epochs, ``(K, H, W)``; their epochs in ``facts["snapshot_epochs"]``.
        facts: counts of patches, timing, settings, provenance: plain data.
    """

    object: np.ndarray
    origin: tuple[float, float]
    probe: np.ndarray
    positions: np.ndarray
    geometry: Geometry
    weight: np.ndarray
    coverage: np.ndarray
    name: str = "reconstruction"
    history: dict[str, list[float]] = field(default_factory=dict)
    snapshots: np.ndarray | None = None
    facts: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("weight", "coverage"):
            if getattr(self, name).shape != self.object.shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, the object {self.object.shape}")
        if not np.isfinite(self.object).all():
            raise ValueError("the reconstructed object holds NaN or infinity")


def write_reconstruction(path: Path, reconstruction: Reconstruction) -> None:
    """Write a ptychodus product (HDF5) with our arrays under ``/ptychoflow``, whole or not at all.

    Attributes carry their names of ptychodus 1.7.0 and of earlier versions, so that all of them open the file.
    ptychodus counts patch centres from ``(N - 1) / 2`` and we from ``N // 2``: the object's centre holds the half,
    so that positions are ours times the pixel size.
    """
    geometry, pixel = reconstruction.geometry, reconstruction.geometry.pixel_size_m
    height, width = reconstruction.object.shape
    size = reconstruction.probe.shape[-1]
    half = size // 2 - (size - 1) / 2
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update({"name": reconstruction.name, "comments": "written by ptychoflow"})
        file.attrs["detector_object_distance_m"] = geometry.detector_distance_m
        file.attrs["photon_energy_eV"] = file.attrs["probe_energy_eV"] = geometry.energy_ev
        file.attrs["probe_photon_count"] = float(np.sum(np.abs(reconstruction.probe) ** 2))
        file.attrs.update({"exposure_time_s": 0.0, "tomography_angle_deg": 0.0})
        file.attrs.update({"mass_attenuation_m2_per_kg": 0.0, "mass_attenuation_m2_kg": 0.0})
        file["probe_position_indexes"] = np.arange(len(reconstruction.positions))
        file["probe_position_y_m"] = reconstruction.positions[:, 0] * pixel
        file["probe_position_x_m"] = reconstruction.positions[:, 1] * pixel
        probe = file.create_dataset("probe", data=reconstruction.probe.astype(np.complex64)[None])
        probe.attrs.update({"pixel_width_m": pixel, "pixel_height_m": pixel})
        image = file.create_dataset("object", data=reconstruction.object.astype(np.complex64)[None])
        image.attrs.update({"pixel_width_m": pixel, "pixel_height_m": pixel})
        image.attrs["center_y_m"] = (reconstruction.origin[0] + (height - 1) / 2 + half) * pixel
        image.attrs["center_x_m"] = (reconstruction.origin[1] + (width - 1) / 2 + half) * pixel
        file["object_layer_spacing_m"] = np.zeros(0)
        if "error" in reconstruction.history:
            file["loss_epochs"] = np.asarray(reconstruction.history["epoch"], np.int64)
            file["loss_values"] = np.asarray(reconstruction.history["error"], np.float64)
        _write_ours(file.create_group("ptychoflow"), reconstruction)


def read_reconstruction(path: Path) -> Reconstruction:
    """Read a reconstruction that :func:`write_reconstruction` wrote.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged or another program's.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no reconstruction {path}")
    try:
        with h5py.File(path, "r") as file:
            return _reconstruction_from(file)
    except (KeyError, OSError) as error:
        raise ValueError(f"{path} is no ptychoflow reconstruction or is damaged ({error}): make it again") from None


def _write_ours(group: h5py.Group, reconstruction: Reconstruction) -> None:
    group.attrs.update({"format": 1, "facts": json.dumps(reconstruction.facts), "origin": reconstruction.origin})
    group.attrs.update(
        {"wavelength_m": reconstruction.geometry.wavelength_m, "pixel_size_m": reconstruction.geometry.pixel_size_m}
    )
    group["positions"] = reconstruction.positions
    group.create_dataset("weight", data=reconstruction.weight.astype(np.float32), compression="lzf")
    group.create_dataset("coverage", data=reconstruction.coverage, compression="lzf")
    for name, column in reconstruction.history.items():
        group[f"history/{name}"] = np.asarray(column, np.float64)
    if reconstruction.snapshots is not None:
        group.create_dataset("snapshots", data=reconstruction.snapshots.astype(np.complex64), compression="lzf")


def _reconstruction_from(file: h5py.File) -> Reconstruction:
    ours = file["ptychoflow"]
    return Reconstruction(
        object=file["object"][0],
        origin=tuple(float(v) for v in ours.attrs["origin"]),
        probe=file["probe"][0],
        positions=ours["positions"][()],
        geometry=Geometry(
            float(ours.attrs["pixel_size_m"]),
            float(ours.attrs["wavelength_m"]),
            float(file.attrs["detector_object_distance_m"]),
        ),
        weight=ours["weight"][()],
        coverage=ours["coverage"][()],
        name=str(file.attrs["name"]),
        history={name: column[()].tolist() for name, column in ours.get("history", {}).items()},
        snapshots=ours["snapshots"][()] if "snapshots" in ours else None,
        facts=json.loads(ours.attrs["facts"]),
    )
