"""Files made to harm are refused in one line: nothing outside is read, nothing absurd is allocated, nothing is run."""

import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptychoflow.config import Source
from ptychoflow.readers.registry import read_scan_of

from .golden import GOLDEN, make_scan

ROOT = Path(__file__).parents[2]
DATA = "entry_1/instrument_1/detector_1/data"


def refused(path: Path, message: str, **settings) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read_scan_of(path, Source(file=str(path), **settings))
    assert "\n" not in str(caught.value).strip()


@pytest.fixture
def cxi(tmp_path):
    return GOLDEN["cxi"][1](tmp_path, make_scan())


@pytest.fixture
def outside(tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere") / "secret.h5"
    with h5py.File(place, "w") as file:
        file["data"] = make_scan().counts
    return place


def _replace(path: Path, make) -> None:
    with h5py.File(path, "r+") as file:
        del file[DATA]
        make(file)


def test_an_external_link_leads_nowhere_outside_the_folder(cxi, outside):
    _replace(cxi, lambda file: file.__setitem__(DATA, h5py.ExternalLink(str(outside), "/data")))
    refused(cxi, r"outside its folder: put that file .* or allow .* in source\.link_folders")


def test_a_folder_that_the_user_allows_is_linked_into(cxi, outside):
    _replace(cxi, lambda file: file.__setitem__(DATA, h5py.ExternalLink(str(outside), "/data")))
    assert len(read_scan_of(cxi, Source(file=str(cxi), link_folders=[str(outside.parent)]))) == 24


def test_a_virtual_dataset_takes_nothing_from_outside(cxi, outside):
    def virtual(file):
        layout = h5py.VirtualLayout((24, 16, 16), np.uint16)
        layout[:] = h5py.VirtualSource(str(outside), "data", (24, 16, 16))
        file.create_virtual_dataset(DATA, layout)

    _replace(cxi, virtual)
    refused(cxi, "outside its folder")


def test_raw_external_storage_is_not_read(cxi):
    _replace(cxi, lambda file: file.create_dataset(DATA, (24, 16, 16), "u2", external=[("/etc/passwd", 0, 12288)]))
    refused(cxi, "external raw files")


def test_circular_links_are_refused(cxi):
    _replace(cxi, lambda file: file.__setitem__(DATA, h5py.SoftLink("/" + DATA)))
    refused(cxi, "circular HDF5 link")


@pytest.mark.parametrize("shape", [(10**9, 16, 16), (24, 10**6, 10**6)])
def test_an_absurd_shape_that_holds_nothing_is_refused(cxi, shape):
    _replace(cxi, lambda file: file.create_dataset(DATA, shape, "u2", chunks=(1, 16, 16)))
    refused(cxi, "has no values|px at most")


def test_an_absurd_shape_with_a_little_in_it_is_refused(cxi):
    def sparse(file):
        file.create_dataset(DATA, (10**9, 16, 16), "u2", chunks=(1, 16, 16))[0] = 1

    _replace(cxi, sparse)
    refused(cxi, "diffraction patterns, expected")


@pytest.mark.parametrize("what", [b"text", h5py.Empty("f4")])
def test_wrong_types_are_refused(cxi, what):
    _replace(cxi, lambda file: file.__setitem__(DATA, what))
    refused(cxi, "expected numbers|is empty")


def test_a_group_instead_of_a_dataset_is_refused(cxi):
    _replace(cxi, lambda file: file.create_group(DATA))
    refused(cxi, "dataset .* not found")


def test_pickled_objects_are_never_loaded(tmp_path):
    coordinates = {"ycoords": np.zeros(2), "xcoords": np.zeros(2)}
    np.savez(tmp_path / "a.npz", diff3d=np.array([print, print], dtype=object), **coordinates)
    refused(tmp_path / "a.npz", "expected plain numbers")


def test_an_archive_that_unpacks_to_very_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("diff3d.npy", "w", force_zip64=True) as member:
            for _ in range(1100):
                member.write(bytes(1 << 20))
        for name in ("xcoords", "ycoords"):
            archive.writestr(f"{name}.npy", b"")
    refused(tmp_path / "bomb.npz", "damaged or hostile|not an npy array")


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7])
def test_a_truncated_file_is_refused(tmp_path, name, kept):
    place = GOLDEN[name][1](tmp_path, make_scan())
    victim = max((place.rglob("*") if place.is_dir() else [place]), key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    victim.write_bytes(content[: int(kept * len(content))])
    refused(place, ".", **GOLDEN[name][2])


def test_a_thousand_mutations_neither_crash_nor_hang_nor_eat_memory():
    command = [sys.executable, "-m", "tests.readers.fuzz", "0", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"ended at mutation {done.stdout.splitlines()[-1:]}: {done.stderr[-500:]}"
    assert sum(line.split()[0].isdigit() for line in done.stdout.splitlines() if line) >= 1000
