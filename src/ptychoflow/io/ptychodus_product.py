"""The ptychodus product: a reconstruction in ptychodus's terms, and its HDF5, NPZ and CXI files."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core.scan import ELEMENTARY_CHARGE_C
from ..runtime.memory import check_memory
from .atomic import atomic_file, size_of
from .product_kinds import CREATOR

NUMBERS = {
    "distance_m": ("detector_object_distance_m",),
    "energy_ev": ("photon_energy_eV", "probe_energy_eV"),
    "photons": ("probe_photon_count",),
    "exposure_s": ("exposure_time_s",),
    "mass_attenuation_m2_per_kg": ("mass_attenuation_m2_per_kg", "mass_attenuation_m2_kg"),
    "tomography_angle_deg": ("tomography_angle_deg",),
    "tilt_angle_deg": ("tilt_angle_deg",),
    "focus_m": ("focus_object_distance_m",),
}
"""Fields and their names in versions of ptychodus, newest first."""


@dataclass(frozen=True)
class Product:
    """A reconstruction in ptychodus's terms.

    Attributes:
        probe: probe modes, ``(K, M, N, N)``: K coherent, M incoherent.
        object: object layers, complex transmission, ``(L, H, W)``.
        indexes: scan index of each position, which pairs it with its pattern, ``(J,)``.
        y_m: y of the positions, m, ``(J,)``.
        x_m: x of the positions, m, ``(J,)``.
        pixel_m: side of an object pixel, m.
        centre_m: position ``(y, x)`` of the middle of the object, pixel ``((H - 1) / 2, (W - 1) / 2)``, m.
        photon_counts: photons at each position, ``(J,)``.
        focus_m: distance from focus to object, m.
        far_field: True for far-field patterns.
        polarization: ``left_circular``, ``right_circular`` or empty.
        opr_weights: weights of the coherent modes, ``(J, K)``.
        losses: epoch and loss, ``(E, 2)``.
        layer_spacing_m: distance between neighbouring layers, m, ``(L - 1,)``.
    """

    probe: np.ndarray
    object: np.ndarray
    indexes: np.ndarray
    y_m: np.ndarray
    x_m: np.ndarray
    pixel_m: float
    centre_m: tuple[float, float]
    name: str = "Unnamed"
    comments: str = ""
    distance_m: float = 0.0
    energy_ev: float = 0.0
    photons: float = 0.0
    exposure_s: float = 0.0
    mass_attenuation_m2_per_kg: float = 0.0
    tomography_angle_deg: float = 0.0
    tilt_angle_deg: float = 0.0
    focus_m: float = 0.0
    far_field: bool = True
    polarization: str = ""
    photon_counts: np.ndarray | None = None
    opr_weights: np.ndarray | None = None
    losses: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    layer_spacing_m: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        counts = {len(self.indexes), len(self.y_m), len(self.x_m)}
        if len(counts) != 1:
            raise ValueError(f"the product holds {len(self.indexes)} indexes, {len(self.y_m)} y and {len(self.x_m)} x")
        if self.probe.shape[-1] != self.probe.shape[-2]:
            raise ValueError(f"the product's probe has shape {self.probe.shape}, expected (modes, modes, N, N)")
        if not (np.isfinite(self.pixel_m) and self.pixel_m > 0):
            raise ValueError(f"the product's object pixel is {self.pixel_m} m, expected a positive length")

    def origin_px(self, size: int) -> tuple[float, float]:
        """Return the position ``(y, x)`` of the object's pixel ``[0, 0]``, px, for patterns of ``size`` px."""
        middle = ((side - 1) / 2 for side in self.object.shape[-2:])
        y, x = (centre / self.pixel_m - at - half_pixel(size) for centre, at in zip(self.centre_m, middle))
        return y, x


def half_pixel(size: int) -> float:
    """Return the distance of our patch centre ``size // 2`` from ptychodus's ``(size - 1) / 2``, px."""
    return size // 2 - (size - 1) / 2


def centred(product: Product) -> Product:
    """Pad the object with ones until its middle is that of the positions, to a quarter pixel.

    ptychodus places an object that a network reconstructed by the positions alone.
    """
    y, x = ((positions.min() + positions.max()) / 2 for positions in (product.y_m, product.x_m))
    ahead = np.round(2 * (np.array([y, x]) - product.centre_m) / product.pixel_m).astype(int)
    space = [(0, 0), *((max(0, -n), max(0, n)) for n in ahead.tolist())]
    layers, height, width = (side + sum(added) for side, added in zip(product.object.shape, space))
    check_memory(
        2 * product.object.itemsize * layers * height * width,
        f"an object of {height} x {width} px whose middle is that of the positions",
        "check the unit of the positions",
    )
    moved = [centre + n / 2 * product.pixel_m for centre, n in zip(product.centre_m, ahead.tolist())]
    return replace(product, object=np.pad(product.object, space, constant_values=1), centre_m=tuple(moved))


def write_product(path: Path, product: Product) -> None:
    """Write a product atomically as HDF5, NPZ or CXI, by the suffix of the path.

    Raises:
        ValueError: for another suffix.
    """
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path.name} has no suffix of a product, expected one of {', '.join(WRITERS)}")
    with atomic_file(path, size_of(product)) as partial:
        WRITERS[path.suffix.lower()](partial, product)


def fill_hdf5(file: h5py.File, product: Product) -> None:
    """Put a product into an open HDF5 file, under the names of ptychodus 1.7.0 and those of earlier versions."""
    file.attrs.update({name: getattr(product, key) for key, names in NUMBERS.items() for name in names})
    file.attrs.update({"name": product.name, "comments": product.comments, "far_field": product.far_field})
    file.attrs["creator"] = CREATOR
    arrays = _arrays(product)
    probe = file.create_dataset("probe", data=arrays.pop("probe"))
    probe.attrs.update({"pixel_width_m": product.pixel_m, "pixel_height_m": product.pixel_m})
    image = file.create_dataset("object", data=arrays.pop("object"))
    image.attrs.update({"pixel_width_m": product.pixel_m, "pixel_height_m": product.pixel_m})
    image.attrs.update({"center_y_m": product.centre_m[0], "center_x_m": product.centre_m[1]})
    if product.polarization:
        file.attrs["polarization"] = product.polarization
    for name, array in arrays.items():
        file[name] = array


def _write_hdf5(path: Path, product: Product) -> None:
    with h5py.File(path, "w") as file:
        fill_hdf5(file, product)


def _write_npz(path: Path, product: Product) -> None:
    # by a handle: to a path without a suffix numpy appends one
    with path.open("wb") as file:
        np.savez(file, **_npz_fields(product))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = CREATOR.encode()


def _npz_fields(product: Product) -> dict[str, Any]:
    return {
        **{name: getattr(product, key) for key, names in NUMBERS.items() for name in names},
        **{"name": product.name, "comments": product.comments, "far_field": product.far_field},
        **({"polarization": product.polarization} if product.polarization else {}),
        **_lengths(product),
        **_arrays(product),
    }


def _write_cxi(path: Path, product: Product) -> None:
    """Write CXI 1.6; fields that CXI does not define go to ``/entry_1/ptychodus``, as ptychodus does."""
    entry, extra = "entry_1", "entry_1/ptychodus"
    arrays = _arrays(product)
    probe, image, y, x = (arrays.pop(f"{name}") for name in ("probe", "object", *POSITIONS))
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        file.attrs["creator"] = CREATOR
        file[f"{entry}/title"] = file[f"{entry}/sample_1/name"] = product.name
        file[f"{entry}/experiment_description"] = product.comments
        file[f"{entry}/sample_1/geometry_1/translation"] = np.stack([x, y, np.zeros_like(x)], axis=1)
        file[f"{entry}/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
        file[f"{entry}/instrument_1/source_1/energy"] = product.energy_ev * ELEMENTARY_CHARGE_C
        file[f"{entry}/instrument_1/detector_1/distance"] = product.distance_m
        file[f"{entry}/image_1/data"], file[f"{entry}/image_2/data"] = probe, image
        file[f"{entry}/instrument_1/source_1/illumination"] = h5py.SoftLink("/entry_1/image_1/data")
        elsewhere = ("distance_m", "energy_ev")
        numbers = {names[0]: getattr(product, key) for key, names in NUMBERS.items() if key not in elsewhere}
        for name, value in {**numbers, **_lengths(product), **arrays}.items():
            file[f"{extra}/{name}"] = value


POSITIONS = ("probe_position_y_m", "probe_position_x_m")
WRITERS: dict[str, Callable[[Path, Product], None]] = {
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
    ".npz": _write_npz,
    ".cxi": _write_cxi,
}


def _lengths(product: Product) -> dict[str, float]:
    """Return pixel sizes and the object centre under their names in files without attributes."""
    sides = {f"{what}_pixel_{side}_m": product.pixel_m for what in ("probe", "object") for side in ("width", "height")}
    return sides | {"object_center_y_m": product.centre_m[0], "object_center_x_m": product.centre_m[1]}


def _arrays(product: Product) -> dict[str, np.ndarray]:
    """Return the arrays that the product has, by their names in files."""
    arrays = {
        "probe": product.probe,
        "object": product.object,
        "probe_position_indexes": np.asarray(product.indexes, np.int64),
        **dict(zip(POSITIONS, (product.y_m, product.x_m))),
        "probe_photon_counts": product.photon_counts,
        "opr_weights": product.opr_weights,
        "object_layer_spacing_m": product.layer_spacing_m,
        "loss_epochs": product.losses[:, 0].astype(np.int64),
        "loss_values": product.losses[:, 1],
    }
    return {name: array for name, array in arrays.items() if array is not None}
