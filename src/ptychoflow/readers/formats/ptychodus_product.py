"""Reader of ptychodus products of every version, HDF5, NPZ or CXI."""

from pathlib import Path
from typing import Any

import numpy as np

from ...core.instrument import IDEAL, Instrument
from ...core.reconstruction import Reconstruction
from ...core.scan import ELEMENTARY_CHARGE_C, PLANCK_J_S, SPEED_OF_LIGHT_M_S, Geometry
from ...io.npz_archive import Archive, open_npz
from ...io.ptychodus_product import NUMBERS, Product
from ...io.safe_hdf5 import Hdf5, is_hdf5
from .cxi import square_pixel


def read_product(path: Path) -> Product:
    """Read a product of any ptychodus version.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged or lacks a required field.
    """
    if not path.is_file():
        raise FileNotFoundError(f"product {path} not found: check the path")
    if not is_hdf5(path):
        return _read_npz(path)
    with Hdf5(path) as file:
        return _read_cxi(file) if "/entry_1" in file else _read_hdf5(file)


def reconstruction_of(product: Product) -> Reconstruction:
    """Convert a product of any program to a reconstruction to start from, patterns in the order of their scan indexes.

    Coherent modes vary the first incoherent one by their ``opr_weights``.

    Raises:
        ValueError: if the object has several layers that are not equally far apart.
    """
    size, order = product.probe.shape[-1], np.argsort(product.indexes, kind="stable")
    layers, counts, probe = product.object.astype(np.complex64), product.photon_counts, product.probe[0]
    image, thick = layers.prod(0), len(layers) > 1
    wavelength_m = PLANCK_J_S * SPEED_OF_LIGHT_M_S / (product.energy_ev * ELEMENTARY_CHARGE_C)
    scale = None if counts is None else np.sqrt(counts[order] / np.sum(np.abs(probe) ** 2)).astype(np.float32)
    return Reconstruction(
        object=image,
        origin=product.origin_px(size),
        probe=probe.astype(np.complex64),
        positions=np.stack([product.y_m, product.x_m], axis=1)[order] / product.pixel_m,
        geometry=Geometry(product.pixel_m, wavelength_m, product.distance_m),
        weight=np.ones(image.shape, np.float32),
        coverage=np.ones(image.shape, bool),
        probe_scale=scale,
        instrument=_instrument_of(product, order),
        slices=layers if thick else None,
        slice_spacing_m=_even_spacing(product) if thick else 0.0,
        name=product.name,
    )


def _even_spacing(product: Product) -> float:
    """Return the distance between neighbouring layers, m.

    Raises:
        ValueError: if there is not one positive number for all.
    """
    spacing = np.asarray(product.layer_spacing_m, np.float64)[: len(product.object) - 1]
    if len(spacing) < len(product.object) - 1 or not spacing.min() > 0 or np.ptp(spacing) > 1e-3 * spacing.min():
        raise ValueError(
            f"the product {product.name} has {len(product.object)} object layers, spacings {spacing.tolist()} m: "
            "expected the same positive distance between all layers"
        )
    return float(spacing[0])


def _instrument_of(product: Product, order: np.ndarray) -> Instrument:
    """Return the variations of the first mode; what the weight of the probe itself exceeds 1 by is one of them."""
    if product.opr_weights is None or product.opr_weights.shape != (len(order), len(product.probe)):
        return IDEAL
    weights, modes = product.opr_weights[order].astype(np.float32), product.probe[:, 0].astype(np.complex64)
    weights[:, 0] -= 1
    varying = np.abs(weights).max(axis=0) > 0
    return Instrument(modes[varying], weights[:, varying]) if varying.any() else IDEAL


def _read_hdf5(file: Hdf5) -> Product:
    numbers: dict[str, Any] = {key: file.number(*(f"@{name}" for name in names)) for key, names in NUMBERS.items()}
    _check_required(numbers, file.path)
    width, height = (file.number(f"/object@pixel_{side}_m") for side in ("width", "height"))
    pixel = square_pixel(width, height, file.path.name)
    centre = [file.number(f"/object@center_{axis}_m") for axis in "yx"]
    weights = file.array("/opr_weights", 2, kinds="f") if "/opr_weights" in file else _weights(file)
    return Product(
        probe=_modes(file.array("/probe", 2, 3, 4, kinds="c")),
        object=_layers(file.array("/object", 2, 3, kinds="c")),
        indexes=file.array("/probe_position_indexes", 1, kinds="ui"),
        y_m=file.array("/probe_position_y_m", 1).astype(np.float64),
        x_m=file.array("/probe_position_x_m", 1).astype(np.float64),
        pixel_m=_required(pixel, "pixel_height_m", file.path),
        centre_m=_required_pair(centre, "center_m", file.path),
        name=file.text("@name") or "Unnamed",
        comments=file.text("@comments"),
        far_field=file.number("@far_field") != 0,
        polarization=file.text("@polarization"),
        photon_counts=_column(file, "/probe_photon_counts"),
        opr_weights=weights,
        losses=_losses(
            *(_column(file, name) for name in ("/loss_epochs", file.first("/loss_values", "/costs") or "/loss_values"))
        ),
        layer_spacing_m=_spacing(file, "/object_layer_spacing_m"),
        **{key: value for key, value in numbers.items() if value is not None},
    )


def _read_npz(path: Path) -> Product:
    with open_npz(path) as archive:
        numbers: dict[str, Any] = {key: archive.number(*names) for key, names in NUMBERS.items()}
        _check_required(numbers, path)
        values = next((name for name in ("loss_values", "costs") if name in archive), "loss_values")
        losses = [_npz_column(archive, name) for name in ("loss_epochs", values)]
        spacing = _npz_column(archive, "object_layer_spacing_m")
        width, height = (archive.number(f"object_pixel_{side}_m") for side in ("width", "height"))
        pixel = square_pixel(width, height, path.name)
        return Product(
            probe=_modes(np.array(archive.array("probe", 2, 3, 4, kinds="c"))),
            object=_layers(np.array(archive.array("object", 2, 3, kinds="c"))),
            indexes=np.array(archive.array("probe_position_indexes", 1, kinds="ui")),
            y_m=np.array(archive.array("probe_position_y_m", 1), np.float64),
            x_m=np.array(archive.array("probe_position_x_m", 1), np.float64),
            pixel_m=_required(pixel, "object_pixel_height_m", path),
            centre_m=_required_pair(
                [archive.number(f"object_center_{axis}_m") for axis in "yx"], "object_center_m", path
            ),
            name=archive.text("name") or "Unnamed",
            comments=archive.text("comments"),
            far_field=archive.number("far_field") != 0,
            polarization=archive.text("polarization"),
            photon_counts=_npz_column(archive, "probe_photon_counts"),
            opr_weights=np.array(archive.array("opr_weights", 2, kinds="f")) if "opr_weights" in archive else None,
            losses=_losses(*losses),
            layer_spacing_m=np.empty(0) if spacing is None else spacing,
            **{key: value for key, value in numbers.items() if value is not None},
        )


def _read_cxi(file: Hdf5) -> Product:
    extra, instrument = "/entry_1/ptychodus", "/entry_1/instrument_1"
    energy = file.number(f"{instrument}/source_1/energy", unit="j")
    numbers: dict[str, Any] = {
        key: file.number(*(f"{extra}/{name}" for name in names)) for key, names in NUMBERS.items()
    }
    numbers |= {"energy_ev": energy, "distance_m": file.number(f"{instrument}/detector_1/distance", unit="m")}
    _check_required(numbers, file.path)
    probe = file.first("/entry_1/image_1/data", f"{instrument}/source_1/illumination") or "/entry_1/image_1/data"
    places = "/entry_1/sample_1/geometry_1/translation", "/entry_1/data_1/translation"
    x_y_z = file.array(file.first(*places) or places[0], 2)
    if x_y_z.shape[1] < 2:
        raise ValueError(f"{file.path.name}: translation has shape {x_y_z.shape}, expected (positions, 3)")
    indexes = f"{extra}/probe_position_indexes"
    losses = [_column(file, f"{extra}/{name}") for name in ("loss_epochs", "loss_values")]
    width, height = (file.number(f"{extra}/object_pixel_{side}_m") for side in ("width", "height"))
    pixel = square_pixel(width, height, file.path.name)
    return Product(
        probe=_modes(file.array(probe, 2, 3, 4, kinds="c")),
        object=_layers(file.array("/entry_1/image_2/data", 2, 3, kinds="c")),
        indexes=file.array(indexes, 1, kinds="ui") if indexes in file else np.arange(len(x_y_z)),
        y_m=x_y_z[:, 1].astype(np.float64),
        x_m=x_y_z[:, 0].astype(np.float64),
        pixel_m=_required(pixel, "object_pixel_height_m", file.path),
        centre_m=_required_pair(
            [file.number(f"{extra}/object_center_{axis}_m") for axis in "yx"], "object_center_m", file.path
        ),
        name=file.text("/entry_1/title") or "Unnamed",
        comments=file.text("/entry_1/experiment_description"),
        photon_counts=_column(file, f"{extra}/probe_photon_counts"),
        opr_weights=file.array(f"{extra}/opr_weights", 2, kinds="f") if f"{extra}/opr_weights" in file else None,
        losses=_losses(*losses),
        layer_spacing_m=_spacing(file, f"{extra}/object_layer_spacing_m"),
        **{key: value for key, value in numbers.items() if value is not None},
    )


def _modes(probe: np.ndarray) -> np.ndarray:
    return probe.reshape((1,) * (4 - probe.ndim) + probe.shape)


def _layers(image: np.ndarray) -> np.ndarray:
    return image.reshape((1,) * (3 - image.ndim) + image.shape)


def _weights(file: Hdf5) -> np.ndarray | None:
    """Read weights as ptychodus up to 1.2 writes them: an attribute of the probe."""
    weights = file.attribute("/probe", "opr_weights")
    return weights if isinstance(weights, np.ndarray) and weights.ndim == 2 and weights.dtype.kind == "f" else None


def _losses(epochs: np.ndarray | None, values: np.ndarray | None) -> np.ndarray:
    """Return epochs and values as columns ``(E, 2)``; epochs count from 0 where the file has none."""
    if values is None:
        return np.empty((0, 2))
    epochs = np.arange(len(values)) if epochs is None else epochs
    count = min(len(epochs), len(values))
    return np.stack([epochs[:count], values[:count]], axis=1).astype(np.float64)


def _column(file: Hdf5, name: str) -> np.ndarray | None:
    """Read a column of numbers; None if it is missing or empty, as in a product without iterations."""
    return file.array(name, 1) if file.shape(name) and 0 not in file.shape(name) else None


def _spacing(file: Hdf5, name: str) -> np.ndarray:
    return file.array(name, 1) if file.shape(name) and 0 not in file.shape(name) else np.empty(0)


def _npz_column(archive: Archive, name: str) -> np.ndarray | None:
    return np.array(archive.array(name, 1)) if name in archive and 0 not in archive.shape(name) else None


def _check_required(numbers: dict, path: Path) -> None:
    for key in ("distance_m", "energy_ev"):
        if numbers[key] is None:
            raise ValueError(f"{path.name} is not a ptychodus product: {NUMBERS[key][0]} not found")


def _required(value: float | None, name: str, path: Path) -> float:
    if value is None:
        raise ValueError(f"{path.name} is not a ptychodus product: {name} not found")
    return value


def _required_pair(values: list[float | None], name: str, path: Path) -> tuple[float, float]:
    y, x = (_required(value, name, path) for value in values)
    return y, x
