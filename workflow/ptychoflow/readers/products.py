"""ptychodus products of every version, HDF5, NPZ or CXI: probe, object, positions and lengths of a reconstruction."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..scan import ELEMENTARY_CHARGE_C
from .archives import open_npz
from .hdf5 import Hdf5, is_hdf5

NUMBERS = {
    "distance_m": ("detector_object_distance_m",),
    "energy_ev": ("photon_energy_eV", "probe_energy_eV"),
    "photons": ("probe_photon_count",),
    "exposure_s": ("exposure_time_s",),
    "mass_attenuation_m2_per_kg": ("mass_attenuation_m2_per_kg", "mass_attenuation_m2_kg"),
    "tomography_angle_deg": ("tomography_angle_deg",),
}
"""Fields and the names they have had, newest first."""


@dataclass(frozen=True)
class Product:
    """A reconstruction as ptychodus keeps it.

    Attributes:
        probe: ``(K, M, N, N)``: coherent modes, then incoherent ones.
        object: layers, ``(L, H, W)``.
        indexes: scan index of each position, ``(J,)``.
        y_m: positions, m, ``(J,)``.
        x_m: positions, m, ``(J,)``.
        pixel_m: side of an object pixel, m.
        centre_m: position ``(y, x)`` of the middle of the object, pixel ``((H - 1) / 2, (W - 1) / 2)``, m.
        opr_weights: weights of the coherent modes, ``(J, K)``.
        losses: ``(E, 2)``: epoch and value.
        layer_spacing_m: ``(L - 1,)``.
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
    opr_weights: np.ndarray | None = None
    losses: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    layer_spacing_m: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        counts = {len(self.indexes), len(self.y_m), len(self.x_m)}
        if len(counts) != 1:
            raise ValueError(f"the product holds {len(self.indexes)} indexes, {len(self.y_m)} y and {len(self.x_m)} x")
        if self.probe.shape[-1] != self.probe.shape[-2]:
            raise ValueError(f"the product's probe has shape {self.probe.shape}, expected squares")
        if not (np.isfinite(self.pixel_m) and self.pixel_m > 0):
            raise ValueError(f"the product's object pixel is {self.pixel_m} m, expected a positive length")

    def origin_px(self, size: int) -> tuple[float, float]:
        """Where pixel ``[0, 0]`` of the object lies among positions in pixels, for patterns of ``size`` px.

        ptychodus counts the pixels of object and patch from ``(N - 1) / 2``, we count those of a patch from ``N // 2``.
        """
        half = size // 2 - (size - 1) / 2
        middle = ((side - 1) / 2 for side in self.object.shape[-2:])
        y, x = (centre / self.pixel_m - at - half for centre, at in zip(self.centre_m, middle))
        return y, x


def read_product(path: Path) -> Product:
    """Read a product of any ptychodus version.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged or lacks what a product must have.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no product {path}")
    if not is_hdf5(path):
        return _read_npz(path)
    with Hdf5(path) as file:
        return _read_cxi(file) if "/entry_1" in file else _read_hdf5(file)


def _read_hdf5(file: Hdf5) -> Product:
    numbers = {key: file.number(*(f"@{name}" for name in names)) for key, names in NUMBERS.items()}
    _check_required(numbers, file.path)
    pixel = file.number("/object@pixel_height_m", "/object@pixel_width_m")
    centre = [file.number(f"/object@center_{axis}_m") for axis in "yx"]
    weights = file.array("/opr_weights", 2, kinds="f") if "/opr_weights" in file else _weights(file)
    return Product(
        probe=_modes(file.array("/probe", 2, 3, 4, kinds="c")),
        object=_layers(file.array("/object", 2, 3, kinds="c")),
        indexes=file.array("/probe_position_indexes", 1, kinds="ui"),
        **{f"{axis}_m": file.array(f"/probe_position_{axis}_m", 1).astype(np.float64) for axis in "yx"},
        pixel_m=_told(pixel, "pixel_height_m", file.path),
        centre_m=tuple(_told(value, "center_m", file.path) for value in centre),
        name=file.text("@name") or "Unnamed",
        comments=file.text("@comments"),
        opr_weights=weights,
        losses=_losses(
            *(_column(file, name) for name in ("/loss_epochs", file.first("/loss_values", "/costs") or "/loss_values"))
        ),
        layer_spacing_m=_spacing(file, "/object_layer_spacing_m"),
        **{key: value for key, value in numbers.items() if value is not None},
    )


def _read_npz(path: Path) -> Product:
    with open_npz(path) as archive:
        numbers = {key: archive.number(*names) for key, names in NUMBERS.items()}
        _check_required(numbers, path)
        values = next((name for name in ("loss_values", "costs") if name in archive), "loss_values")
        losses = [
            np.array(archive.array(n)) if n in archive and _has_values(archive, n) else None
            for n in ("loss_epochs", values)
        ]
        spacing = "object_layer_spacing_m"
        return Product(
            probe=_modes(np.array(archive.array("probe", 2, 3, 4, kinds="c"))),
            object=_layers(np.array(archive.array("object", 2, 3, kinds="c"))),
            indexes=np.array(archive.array("probe_position_indexes", 1, kinds="ui")),
            **{f"{axis}_m": np.array(archive.array(f"probe_position_{axis}_m", 1), np.float64) for axis in "yx"},
            pixel_m=_told(
                archive.number("object_pixel_height_m", "object_pixel_width_m"), "object_pixel_height_m", path
            ),
            centre_m=tuple(_told(archive.number(f"object_center_{axis}_m"), "object_center_m", path) for axis in "yx"),
            name=archive.text("name") or "Unnamed",
            comments=archive.text("comments"),
            opr_weights=np.array(archive.array("opr_weights", 2, kinds="f")) if "opr_weights" in archive else None,
            losses=_losses(*losses),
            layer_spacing_m=np.array(archive.array(spacing, 1)) if _has_values(archive, spacing) else np.empty(0),
            **{key: value for key, value in numbers.items() if value is not None},
        )


def _read_cxi(file: Hdf5) -> Product:
    extra, instrument = "/entry_1/ptychodus", "/entry_1/instrument_1"
    energy = file.number(f"{instrument}/source_1/energy", unit="j")
    numbers = {key: file.number(*(f"{extra}/{name}" for name in names)) for key, names in NUMBERS.items()}
    numbers |= {"energy_ev": energy, "distance_m": file.number(f"{instrument}/detector_1/distance", unit="m")}
    _check_required(numbers, file.path)
    probe = file.first("/entry_1/image_1/data", f"{instrument}/source_1/illumination") or "/entry_1/image_1/data"
    places = "/entry_1/sample_1/geometry_1/translation", "/entry_1/data_1/translation"
    x_y_z = file.array(file.first(*places) or places[0], 2)
    if x_y_z.shape[1] < 2:
        raise ValueError(f"{file.path.name}: translation has shape {x_y_z.shape}, expected (positions, 3)")
    indexes = f"{extra}/probe_position_indexes"
    losses = [_column(file, f"{extra}/{name}") for name in ("loss_epochs", "loss_values")]
    pixel = file.number(f"{extra}/object_pixel_height_m", f"{extra}/object_pixel_width_m")
    return Product(
        probe=_modes(file.array(probe, 2, 3, 4, kinds="c")),
        object=_layers(file.array("/entry_1/image_2/data", 2, 3, kinds="c")),
        indexes=file.array(indexes, 1, kinds="ui") if indexes in file else np.arange(len(x_y_z)),
        y_m=x_y_z[:, 1].astype(np.float64),
        x_m=x_y_z[:, 0].astype(np.float64),
        pixel_m=_told(pixel, "object_pixel_height_m", file.path),
        centre_m=tuple(_told(file.number(f"{extra}/object_center_{a}_m"), "object_center_m", file.path) for a in "yx"),
        name=file.text("/entry_1/title") or "Unnamed",
        comments=file.text("/entry_1/experiment_description"),
        opr_weights=file.array(f"{extra}/opr_weights", 2, kinds="f") if f"{extra}/opr_weights" in file else None,
        losses=_losses(*losses),
        layer_spacing_m=_spacing(file, f"{extra}/object_layer_spacing_m"),
        **{key: value for key, value in numbers.items() if value is not None},
    )


def photon_joules(energy_ev: float) -> float:
    """Energy of a photon, J."""
    return energy_ev * ELEMENTARY_CHARGE_C


def _modes(probe: np.ndarray) -> np.ndarray:
    return probe.reshape((1,) * (4 - probe.ndim) + probe.shape)


def _layers(image: np.ndarray) -> np.ndarray:
    return image.reshape((1,) * (3 - image.ndim) + image.shape)


def _weights(file: Hdf5) -> np.ndarray | None:
    """Weights as ptychodus up to 1.2 read them: an attribute of the probe."""
    weights = file.attribute("/probe", "opr_weights")
    return weights if isinstance(weights, np.ndarray) and weights.ndim == 2 and weights.dtype.kind == "f" else None


def _losses(epochs: np.ndarray | None, values: np.ndarray | None) -> np.ndarray:
    """Epochs and values as columns; epochs count from 0 where the file has none."""
    if values is None:
        return np.empty((0, 2))
    epochs = np.arange(len(values)) if epochs is None else epochs
    count = min(len(epochs), len(values))
    return np.stack([epochs[:count], values[:count]], axis=1).astype(np.float64)


def _column(file: Hdf5, name: str) -> np.ndarray | None:
    """A column of numbers; None where there is none or it is empty, as in a product nobody has iterated on."""
    return file.array(name, 1) if file.shape(name) and 0 not in file.shape(name) else None


def _spacing(file: Hdf5, name: str) -> np.ndarray:
    return file.array(name, 1) if file.shape(name) and 0 not in file.shape(name) else np.empty(0)


def _has_values(archive, name: str) -> bool:
    return name in archive and 0 not in archive.shape(name)


def _check_required(numbers: dict, path: Path) -> None:
    for key in ("distance_m", "energy_ev"):
        if numbers[key] is None:
            raise ValueError(f"{path.name} is no product: it lacks {NUMBERS[key][0]}")


def _told(value: float | None, name: str, path: Path) -> float:
    if value is None:
        raise ValueError(f"{path.name} is no product: it lacks {name}")
    return value
