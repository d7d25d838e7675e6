"""export writes what the name of the output says, and convert or the readers bring the same numbers back."""

import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from ptychoflow.cli.main import main
from ptychoflow.commands.convert import convert
from ptychoflow.commands.export import export
from ptychoflow.config import Source
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.provenance import record_provenance
from ptychoflow.io.ptychodus_product import Product, centred, write_product
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ptychoflow.io.scan_cxi import read_scan, write_scan
from ptychoflow.readers.formats.ptychodus_product import read_product

from ..products import make_scan, write_products


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict:
    return write_products(tmp_path_factory.mktemp("products"))


def _rich_product() -> Product:
    """One with everything that a product can say, two modes each way and two layers."""
    rng = np.random.default_rng(1)
    probe, image = rng.normal(size=(2, 2, 3, 8, 8)), rng.normal(size=(2, 2, 20, 24))
    return Product(
        probe=probe[0] + 1j * probe[1],
        object=(image[0] + 1j * image[1]).astype(np.complex64),
        indexes=np.array([3, 5, 4]),
        y_m=rng.normal(size=3),
        x_m=rng.normal(size=3),
        pixel_m=1.1e-8,
        centre_m=(3e-7, -2e-7),
        name="rich",
        comments="two words",
        distance_m=1.9,
        energy_ev=8800.0,
        photons=1e5,
        exposure_s=0.1,
        mass_attenuation_m2_per_kg=0.7,
        tomography_angle_deg=12.0,
        tilt_angle_deg=1.5,
        focus_m=1e-3,
        far_field=False,
        polarization="left_circular",
        photon_counts=np.array([1.0, 2.0, 3.0]),
        opr_weights=rng.normal(size=(3, 2)),
        losses=np.array([[1, 0.5], [2, 0.25]]),
        layer_spacing_m=np.array([1e-6]),
    )


@pytest.mark.parametrize("form", ["h5", "npz", "cxi"])
def test_a_product_comes_back_bit_for_bit(tmp_path, form):
    product, path = _rich_product(), tmp_path / f"product.{form}"
    write_product(path, product)
    read = read_product(path)
    no_place = {"far_field", "polarization"} if form == "cxi" else set()
    for field in dataclasses.fields(Product):
        if field.name in no_place:  # ptychodus's CXI has none either
            continue
        if field.name == "energy_ev":
            assert read.energy_ev == pytest.approx(product.energy_ev, rel=1e-15)  # in joules in CXI
        else:
            np.testing.assert_array_equal(getattr(read, field.name), getattr(product, field.name), field.name)
    assert read.probe.dtype == np.complex128 and read.object.dtype == np.complex64


def test_a_product_carries_the_names_of_every_version(paths):
    with h5py.File(paths["refined"]) as file:
        assert file.attrs["photon_energy_eV"] == file.attrs["probe_energy_eV"] > 0
        assert file.attrs["mass_attenuation_m2_per_kg"] == file.attrs["mass_attenuation_m2_kg"]
        assert "opr_weights" not in file["probe"].attrs and file["probe"].ndim == 4


def test_the_light_of_each_pattern_goes_along_as_photons(paths, tmp_path):
    found = read_reconstruction(paths["refined"])
    probe_scale = np.linspace(0.5, 1.5, len(found.positions)).astype(np.float32)
    write_reconstruction(tmp_path / "a.h5", dataclasses.replace(found, probe_scale=probe_scale))
    product = read_product(tmp_path / "a.h5")
    np.testing.assert_allclose(product.photon_counts, product.photons * probe_scale.astype(float) ** 2, rtol=1e-12)
    assert read_product(paths["refined"]).photon_counts is None


def test_a_standard_directory_converts_back_to_the_scan(paths, tmp_path):
    export(paths["refined"], tmp_path / "standard", scan=paths["dataset"])
    assert {path.name for path in (tmp_path / "standard").iterdir()} == {"diffraction.h5", "product.h5", "settings.ini"}
    convert(tmp_path / "back.cxi", Source(file=str(tmp_path / "standard"), object_is_ground_truth=True))
    back, scan, found = (
        read_scan(tmp_path / "back.cxi"),
        open_dataset(paths["dataset"]),
        read_reconstruction(paths["refined"]),
    )
    np.testing.assert_array_equal(back.counts, scan.counts)
    np.testing.assert_allclose(back.positions, found.positions, rtol=1e-12)
    (top, left), (height, width) = (
        np.round(np.subtract(found.origin, back.truth.origin)).astype(int),
        found.object.shape,
    )
    np.testing.assert_array_equal(back.truth.object[top : top + height, left : left + width], found.object)
    np.testing.assert_allclose(np.add(back.truth.origin, (top, left)), found.origin, atol=1e-9)
    assert back.geometry.pixel_size_m == pytest.approx(scan.geometry.pixel_size_m, rel=1e-12)


@pytest.mark.parametrize("corner", [(0.0, 0.0), (-30.2, 11.7), (8.3, -5.5)])
def test_the_object_of_a_standard_directory_has_its_middle_in_the_middle_of_the_scan(corner):
    product = dataclasses.replace(
        _rich_product(), y_m=np.array([0.0, 5.0, 9.0]), x_m=np.array([1.0, 2.0, 3.0]), pixel_m=1.0
    )
    product = dataclasses.replace(product, centre_m=corner)
    moved = centred(product)
    assert np.abs(np.subtract(moved.centre_m, (4.5, 2.0))).max() <= 0.25
    low = np.round(np.subtract(product.origin_px(8), moved.origin_px(8)), 6)
    top, left = low.astype(int)
    assert (low == (top, left)).all()
    np.testing.assert_array_equal(moved.object[:, top : top + 20, left : left + 24], product.object)
    assert (moved.object != 1).sum() == product.object.size


def test_a_scan_is_exported_with_its_truth_and_its_mask_from_either_form(tmp_path, scan):
    write_scan(tmp_path / "scan.cxi", scan)
    export(tmp_path / "scan.cxi", tmp_path / "standard")
    with h5py.File(tmp_path / "standard" / "diffraction.h5") as file:
        np.testing.assert_array_equal(file["patterns"], scan.counts)
        np.testing.assert_array_equal(file["bad_pixels"], ~scan.mask)
        assert file["patterns"].dtype == scan.counts.dtype
    image, (height, width) = read_product(tmp_path / "standard" / "product.h5").object[0], scan.truth.object.shape
    assert any(
        (image[y : y + height, x : x + width] == scan.truth.object).all()
        for y, x in np.ndindex(*np.subtract(image.shape, (height - 1, width - 1)))
    )


def test_the_model_goes_along_with_the_directory_and_only_there(paths, tmp_path):
    (tmp_path / "pinn.ckpt").write_bytes(b"weights")
    export(paths["dataset"], tmp_path / "standard", model=tmp_path / "pinn.ckpt")
    assert (tmp_path / "standard" / "model.ckpt").read_bytes() == b"weights"
    with pytest.raises(ValueError, match=r"a\.h5 cannot hold a model"):
        export(paths["dataset"], tmp_path / "a.h5", model=tmp_path / "pinn.ckpt")


def test_an_archive_for_ptychopinn_holds_the_reconstruction(paths, tmp_path):
    export(paths["refined"], tmp_path / "a.ptychopinn.npz", scan=paths["dataset"])
    archive, found = np.load(tmp_path / "a.ptychopinn.npz"), read_reconstruction(paths["refined"])
    np.testing.assert_array_equal(archive["objectGuess"], found.object)
    np.testing.assert_array_equal(archive["probeGuess"], found.probe[0])
    np.testing.assert_array_equal(archive["diff3d"], open_dataset(paths["dataset"]).counts)
    half = found.probe.shape[-1] // 2 - (found.probe.shape[-1] - 1) / 2
    np.testing.assert_allclose(archive["ycoords"], found.positions[:, 0] - found.origin[0] - half, atol=1e-9)


def test_a_picture_holds_amplitude_and_phase_with_the_size_of_a_pixel(paths, tmp_path):
    export(paths["refined"], tmp_path / "a.tif")
    found = read_reconstruction(paths["refined"])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        amplitude, phase = file.asarray()
        assert file.imagej_metadata["Labels"] == ["amplitude", "phase (rad)"] and file.imagej_metadata["unit"] == "um"
        dots, units = file.pages[0].tags["XResolution"].value
    np.testing.assert_array_equal(amplitude, np.abs(found.object))
    np.testing.assert_array_equal(phase, np.angle(found.object))
    assert units / dots == pytest.approx(found.geometry.pixel_size_m * 1e6, rel=1e-3)


def test_the_dataset_of_another_measurement_is_refused_although_its_size_is_right(paths, tmp_path):
    refined, provenance = read_reconstruction(paths["refined"]), record_provenance(dataset=paths["dataset"])
    recorded = dataclasses.replace(refined, metadata={**refined.metadata, "provenance": provenance})
    write_reconstruction(tmp_path / "refined.h5", recorded)
    other = make_scan(photons=2e4)
    write_dataset(tmp_path / "other", other)
    with pytest.raises(ValueError, match=r"was made from another dataset \(star\) than .*other: name the dataset"):
        export(tmp_path / "refined.h5", tmp_path / "out", tmp_path / "other")
    assert not (tmp_path / "out").exists()
    export(tmp_path / "refined.h5", tmp_path / "out", paths["dataset"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{refined}", "{out}/a.pdf"], r"a\.pdf has an unknown suffix, expected"),
        (["{refined}", "{out}/standard"], r"holds patterns, .* has none: name its dataset with --scan"),
        (["{out}/none.h5", "{out}/a.npz"], r"none\.h5 not found"),
        (
            ["{refined}", "{out}/standard", "--scan", "{other}"],
            r"got 80 patterns .*: name the dataset it was made from",
        ),
        (["{dataset}", "{out}/standard", "--model", "{out}/none.ckpt"], r"model .* not found"),
        (["{damaged}", "{out}/a.npz"], r"damaged"),
        (["{dataset}", "{full}"], r"holds other files \(notes\.txt\): name a new folder"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line_and_leaves_nothing(paths, tmp_path, capsys, words, message):
    out, full = tmp_path / "out", tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    other = dataclasses.replace(make_scan(), counts=make_scan().counts[:80], positions=make_scan().positions[:80])
    write_scan(tmp_path / "other.cxi", other)
    (tmp_path / "damaged.h5").write_bytes(Path(paths["refined"]).read_bytes()[:3000])
    places = paths | {"out": out, "other": tmp_path / "other.cxi", "damaged": tmp_path / "damaged.h5", "full": full}
    assert main(["export", *(word.format(**places) for word in words)]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors
    assert not out.exists() or not list(out.iterdir())
    assert [path.name for path in full.iterdir()] == ["notes.txt"]
