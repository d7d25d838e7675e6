"""Released ptychodus opens what is exported, bit for bit, and cuts patches where we put them; it is the referee."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ptychoflow.commands.export import export
from ptychoflow.config import Source
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.ptychodus_product import Product
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.io.scan_cxi import read_scan, write_scan
from ptychoflow.readers.formats.ptychodus_product import read_product
from ptychoflow.readers.registry import read_scan_of

from ..products import write_products

PYTHON = Path(sys.prefix) / "ptychodus" / "bin" / "python"
pytestmark = [
    pytest.mark.ptychodus,
    pytest.mark.xdist_group("ptychodus"),
    pytest.mark.skipif(not PYTHON.is_file(), reason="released ptychodus is not installed: make test does that"),
]
FORMS = ("h5", "npz", "cxi")


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> SimpleNamespace:
    """A reconstruction exported in every form, and what ptychodus made of it."""
    folder = tmp_path_factory.mktemp("judged")
    paths = write_products(folder)
    for form in FORMS:
        export(paths["refined"], folder / f"product.{form}")
    export(paths["refined"], folder / "standard", scan=paths["dataset"])
    command = [PYTHON, Path(__file__).with_name("referee.py"), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    read = {path.stem: dict(np.load(path)) for path in (folder / "read").iterdir()}
    found = read_reconstruction(paths["refined"])
    return SimpleNamespace(folder=folder, read=read, found=found, dataset=open_dataset(paths["dataset"]))


@pytest.mark.parametrize("form", FORMS)
def test_ptychodus_reads_a_product_as_it_was_written(judged, form):
    read, ours = judged.read[form], read_product(judged.folder / f"product.{form}")
    for name in ("probe", "object", "indexes", "y_m", "x_m"):
        np.testing.assert_array_equal(read[name], getattr(ours, name))
    np.testing.assert_array_equal(read["object"][0], judged.found.object)
    np.testing.assert_array_equal(read["probe"][0], judged.found.probe)
    np.testing.assert_array_equal(read["losses"], ours.losses)
    assert read["pixel_m"] == read["probe_pixel_m"] == judged.found.geometry.pixel_size_m
    assert read["energy_ev"] == pytest.approx(judged.found.geometry.energy_ev, rel=1e-15)
    assert read["distance_m"] == judged.found.geometry.detector_distance_m
    assert read["photons"] == ours.photons and read["name"] == judged.found.name


@pytest.mark.parametrize("form", FORMS)
def test_a_product_that_ptychodus_wrote_is_read_bit_for_bit(judged, form):
    ours, theirs = (read_product(judged.folder / place / f"product.{form}") for place in (".", "again"))
    for field in dataclasses.fields(Product):
        np.testing.assert_array_equal(getattr(theirs, field.name), getattr(ours, field.name), field.name)


def test_patches_lie_where_ptychodus_cuts_them(judged):
    read, found = judged.read["h5"], judged.found
    index = found.positions - found.origin
    whole = np.floor(index)
    np.testing.assert_allclose(read["first"] + read["rest"], index - found.probe.shape[-1] // 2, atol=1e-9)
    near = np.abs(index - whole - 0.5) < 0.49  # where rounding cannot decide which pixel is the first
    np.testing.assert_array_equal(read["first"][near], (whole - found.probe.shape[-1] // 2)[near])


def test_an_empty_object_gets_the_canvas_that_ptychodus_would_choose(judged, tmp_path):
    scan = dataclasses.replace(judged.dataset, truth=None)
    write_dataset(tmp_path / "dataset", scan)
    export(tmp_path / "dataset", tmp_path / "product.h5")
    product, read = read_product(tmp_path / "product.h5"), judged.read["h5"]
    assert product.object.shape[1:] == tuple(read["chosen_shape"]) and (product.object == 1).all()
    np.testing.assert_allclose(product.centre_m, read["chosen_centre_m"], rtol=1e-12)


def test_ptychodus_pairs_the_patterns_of_a_standard_directory_with_its_positions(judged):
    read, scan = judged.read["standard"], judged.dataset
    np.testing.assert_array_equal(read["patterns"], scan.counts)
    np.testing.assert_allclose(read["y_m"], scan.positions[:, 0] * scan.geometry.pixel_size_m, rtol=1e-15)
    np.testing.assert_array_equal(read["bad_pixels"], np.zeros((scan.size, scan.size), bool))
    # where these disagree ptychodus warns of a reconstruction at the wrong scale
    wavelength = 6.62607015e-34 * 299792458 / (read["energy_ev"] * 1.602176634e-19)
    pixel = wavelength * read["distance_m"] / (scan.size * read["detector_pixel_m"])
    assert read["pixel_m"] == pytest.approx(pixel, rel=1e-12)


def test_convert_reads_a_standard_directory_back(judged):
    scan, path = judged.dataset, judged.folder / "standard"
    back = read_scan_of(path, Source(file=str(path)))
    np.testing.assert_array_equal(back.counts, scan.counts)
    np.testing.assert_allclose(back.positions, scan.positions, rtol=1e-12)
    assert back.geometry.pixel_size_m == pytest.approx(scan.geometry.pixel_size_m, rel=1e-12)


def test_a_format_that_only_ptychodus_knows_is_read_by_its_reader(tmp_path, scan):
    write_scan(tmp_path / "scan.cxi", scan)
    source = {"file": "scan.cxi", "format": "ptychodus:CXI", "positions": "scan.cxi", "probe": "scan.cxi"}
    command = [PYTHON, "-m", "ptychoflow", "convert", "back.cxi", "--config", json.dumps({"source": source})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    back = read_scan(tmp_path / "back.cxi")
    np.testing.assert_array_equal(back.counts, np.where(scan.mask, scan.counts, 0))
    np.testing.assert_array_equal(back.mask, scan.mask)
    assert back.geometry.pixel_size_m == pytest.approx(scan.geometry.pixel_size_m, rel=1e-9)
    unknown = json.dumps({"source": source | {"format": "ptychodus:Nonesuch"}})
    done = subprocess.run([*command[:-1], unknown], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 2 and "ptychodus has no reader Nonesuch; it has " in done.stderr.splitlines()[-1]
