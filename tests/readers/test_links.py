"""The file that a link names is the file that is read, what was never written is left out and counted."""

import os

import h5py
import numpy as np
import pytest

from ptychoflow.config import Source
from ptychoflow.readers.conversion import with_positions
from ptychoflow.readers.registry import read_measurement

PART = 4


def write_part(path, value: int, count: int = PART) -> None:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["d"] = np.full((count, 16, 16), value, "u2")


def read(path, **settings):
    return read_measurement(path, Source(file=str(path), **settings))


def values(patterns) -> list[int]:
    return [int(pattern[0, 0]) for pattern in patterns[:]]


def test_a_link_into_a_folder_reads_the_file_of_that_folder(tmp_path):
    write_part(tmp_path / "raw.h5", 1)
    write_part(tmp_path / "sub" / "raw.h5", 2)
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("sub/raw.h5", "/d")
    assert values(read(tmp_path / "a.nxs").patterns) == [2] * PART
    (tmp_path / "sub" / "raw.h5").unlink()
    with pytest.raises(ValueError, match=r"raw\.h5, which a\.nxs links to, not found"):
        read(tmp_path / "a.nxs")


def test_a_link_of_another_machine_leads_to_the_file_beside_which_is_logged(tmp_path, caplog):
    write_part(tmp_path / "raw.h5", 1)
    for named in ("/no/such/folder/raw.h5", "C:\\data\\raw.h5"):
        with h5py.File(tmp_path / "a.nxs", "w") as file:
            file["entry/data/data"] = h5py.ExternalLink(named, "/d")
        assert values(read(tmp_path / "a.nxs").patterns) == [1] * PART
        assert "not found: taking raw.h5 beside it" in caplog.text


def test_a_file_of_that_name_beside_is_not_taken_for_one_that_exists_elsewhere(tmp_path):
    write_part(tmp_path / "here" / "raw.h5", 1)
    write_part(tmp_path / "there" / "raw.h5", 2)
    with h5py.File(tmp_path / "here" / "a.nxs", "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("../there/raw.h5", "/d")
    with pytest.raises(ValueError, match=r"links to .*there/raw\.h5, outside its folder"):
        read(tmp_path / "here" / "a.nxs")
    allowed = read(tmp_path / "here" / "a.nxs", link_folders=[str(tmp_path / "there")])
    assert values(allowed.patterns) == [2] * PART


@pytest.mark.parametrize("named", ["./raw.h5", "raw.h5", "full"])
def test_a_virtual_dataset_is_read_from_its_folder_however_it_names_it(tmp_path, named):
    write_part(tmp_path / "raw.h5", 3)
    layout = h5py.VirtualLayout((PART, 16, 16), "u2")
    name = os.fspath(tmp_path / "raw.h5") if named == "full" else named
    layout[:] = h5py.VirtualSource(name, "d", (PART, 16, 16))
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file.create_virtual_dataset("entry/data/data", layout)
    assert values(read(tmp_path / "a.nxs").patterns) == [3] * PART


def series(folder, written: list[int], more: bool = False) -> None:
    """Write a master of three parts, of which only some were written, with or without a link over the first."""
    for part in written:
        write_part(folder / f"s_{part}.h5", part)
    with h5py.File(folder / "m.h5", "w") as file:
        for part in (1, 2, 3):
            file[f"entry/data/data_00000{part}"] = h5py.ExternalLink(f"s_{part}.h5", "/d")
        if more:
            file["entry/data/data"] = h5py.ExternalLink("s_1.h5", "/d")


def test_parts_that_were_never_written_are_left_out(tmp_path, caplog):
    series(tmp_path, [1, 2])
    assert values(read(tmp_path / "m.h5").patterns) == [1] * PART + [2] * PART
    assert "s_3.h5" in caplog.text and "left out" in caplog.text


def test_a_link_over_the_first_part_hides_no_other(tmp_path):
    series(tmp_path, [1, 2, 3], more=True)
    assert len(read(tmp_path / "m.h5").patterns) == 3 * PART


def virtual(folder, lengths: dict[str, int], stride: int = 1) -> None:
    """Write a virtual dataset over parts of ``PART`` patterns, one after the other or interleaved."""
    count = PART * len(lengths)
    layout = h5py.VirtualLayout((count, 16, 16), "u2")
    for index, (name, length) in enumerate(lengths.items()):
        if length:
            write_part(folder / name, index + 1, length)
        where = np.s_[index::stride] if stride > 1 else np.s_[index * PART : (index + 1) * PART]
        layout[where] = h5py.VirtualSource(name, "d", (PART, 16, 16))
    with h5py.File(folder / "v.nxs", "w") as file:
        file.create_virtual_dataset("entry/data/data", layout)
        file["positions_y"], file["positions_x"] = np.arange(count) * 1e-6, np.zeros(count)


@pytest.mark.parametrize(
    ("lengths", "stride", "kept"),
    [
        ({"a.h5": PART, "b.h5": 0, "c.h5": PART}, 1, [0, 1, 2, 3, 8, 9, 10, 11]),
        ({"a.h5": PART, "b.h5": 2, "c.h5": PART}, 1, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]),
        ({"a.h5": PART, "b.h5": 0}, 2, [0, 2, 4, 6]),
        ({"a.h5": PART, "b.h5": 3}, 2, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_patterns_that_a_virtual_dataset_lacks_are_left_out_with_their_positions(
    tmp_path, caplog, lengths, stride, kept
):
    virtual(tmp_path, lengths, stride)
    measurement = with_positions(read(tmp_path / "v.nxs"), Source(file="x"))
    np.testing.assert_allclose(measurement.positions.values[:, 0], np.array(kept) * 1e-6)
    assert all(measurement.patterns[:][:, 0, 0] > 0)
    assert "never written" in caplog.text


def test_patterns_of_a_series_that_was_stopped_are_left_out(tmp_path):
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        data = file.create_dataset("entry/data/data", (10, 16, 16), "u2", chunks=(1, 16, 16))
        data[:7] = 5
        file["positions_y"], file["positions_x"] = np.arange(10) * 1e-6, np.zeros(10)
    assert len(with_positions(read(tmp_path / "a.nxs"), Source(file="x")).patterns) == 7
