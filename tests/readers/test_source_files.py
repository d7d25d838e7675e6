"""A measurement brings the files that belong to it, and only those."""

from pathlib import Path

import pytest

from ptychoflow.config import Source
from ptychoflow.readers.source_files import source_files


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with files of several measurements, and a data cache that is elsewhere."""
    names = ["a.npy", "pos.npy", "s_dp.hdf5", "s_para.hdf5", "e_master.h5", "e_data_1.h5", "e_data_2.h5", "f_data_1.h5"]
    for name in (*names, "frames/1.tif", "frames/2.tif", "frames/.hidden"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    monkeypatch.setenv("PTYCHOFLOW_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"file": "data/a.npy"}, {"a.npy"}),
        ({"file": "data/a.npy", "positions": "pos.npy"}, {"a.npy", "pos.npy"}),
        ({"file": "data/a.npy", "positions": "data/pos.npy", "probe": "s3://bucket/p.npy"}, {"a.npy", "pos.npy"}),
        ({"file": "data/s_para.hdf5"}, {"s_dp.hdf5", "s_para.hdf5"}),
        ({"file": "data/e_master.h5"}, {"e_master.h5", "e_data_1.h5", "e_data_2.h5"}),
        ({"file": "data/frames", "positions": "pos.npy"}, {"frames/1.tif", "frames/2.tif"}),
        ({"file": "s3://bucket/a.npy", "positions": "data/pos.npy"}, {"pos.npy"}),
        ({"file": "missing.npy"}, set()),
    ],
)
def test_a_measurement_brings_what_belongs_to_it(folder, settings, expected):
    assert set(source_files(Source(**settings))) == {Path("data") / name for name in expected}


def test_a_file_of_the_cache_is_left_out_where_it_is_not_watched(folder):
    (folder / "cache").mkdir()
    (folder / "cache" / "b.npy").touch()
    source = Source(file="b.npy")
    assert source_files(source) == [folder / "cache" / "b.npy"] and source_files(source, cached=False) == []
