"""Our own scans and reconstructions are files from outside too: nothing is copied from elsewhere, nothing crashes."""

import os
import signal

import h5py
import numpy as np
import pytest

from ptychoflow.commands.pack import pack
from ptychoflow.io import scan_cxi
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ptychoflow.io.scan_cxi import iterate_counts, read_scan, write_scan

from ..products import blurred, make_reconstruction, make_scan

DATA = "entry_1/instrument_1/detector_1/data"


@pytest.fixture
def path(tmp_path):
    write_scan(tmp_path / "a.cxi", make_scan())
    return tmp_path / "a.cxi"


@pytest.fixture
def product(tmp_path):
    write_reconstruction(tmp_path / "a.h5", make_reconstruction(make_scan(), blurred()))
    return tmp_path / "a.h5"


@pytest.fixture
def private(tmp_path_factory):
    """A file of somebody else."""
    place = tmp_path_factory.mktemp("private") / "secret.raw"
    place.write_bytes(b"\x11" * (1 << 16))
    return place


def _in_place_of(path, name, make) -> None:
    with h5py.File(path, "r+") as file:
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        make(file, name, shape, dtype)


def test_pack_does_not_copy_a_private_file_that_the_counts_are_stored_in(path, private, tmp_path):
    _in_place_of(path, DATA, lambda f, n, s, d: f.create_dataset(n, s, d, external=[(private, 0, h5py.h5s.UNLIMITED)]))
    with pytest.raises(ValueError, match="external raw files, which are refused"):
        pack(path, tmp_path / "dataset")
    with pytest.raises(ValueError, match="external raw files, which are refused"):
        next(iterate_counts(path))
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("name", ["object", "probe", "ptychoflow/positions", "ptychoflow/weight"])
def test_a_reconstruction_takes_nothing_from_a_private_file(product, private, name):
    def store(file, name, shape, dtype):
        file.create_dataset(name, shape, dtype, external=[(private, 0, h5py.h5s.UNLIMITED)])

    _in_place_of(product, name, store)
    with pytest.raises(ValueError, match="external raw files, which are refused"):
        read_reconstruction(product)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f, n, s, d: f.__setitem__(n, h5py.SoftLink("/" + n)), "circular"),
        (lambda f, n, s, d: f.create_group(n), "not found"),
        (lambda f, n, s, d: f.__setitem__(n, h5py.Empty(d)), "is empty"),
        (lambda f, n, s, d: f.create_dataset(n, (10**9, *s[1:]), d, chunks=(16, *s[1:])), "no values"),
        (lambda f, n, s, d: f.create_dataset(n, s, h5py.vlen_dtype(np.float32)), "expected numbers"),
    ],
)
@pytest.mark.parametrize("name", [DATA, "entry_1/ptychoflow/positions", "entry_1/ptychoflow/probe"])
def test_a_scan_of_another_kind_is_refused(path, make, reason, name):
    _in_place_of(path, name, make)
    with pytest.raises(ValueError, match=reason) as caught:
        read_scan(path)
    assert "\n" not in str(caught.value)


def test_a_crash_of_the_library_ends_in_a_process_of_its_own(path, monkeypatch):
    monkeypatch.setattr(scan_cxi, "_scan_from", lambda file: os.kill(os.getpid(), signal.SIGSEGV))
    with pytest.raises(ValueError, match=r"a\.cxi is damaged: a trial process that read it crashed \(exit code -11\)"):
        read_scan(path)


def test_counts_are_read_once_more_in_pieces(path):
    np.testing.assert_array_equal(read_scan(path).counts, np.concatenate(list(iterate_counts(path, 1000))))
