"""A dataset folder is whole, lossless and opens lazily, or does not open."""

import dataclasses
import json

import numpy as np
import pytest
import xxhash

from ptychoflow.io.dataset import FORMAT, open_dataset, verify_dataset, write_dataset


@pytest.fixture
def folder(tmp_path, scan):
    write_dataset(tmp_path / "sample", scan)
    return tmp_path / "sample"


def test_what_is_written_is_what_opens(folder, scan):
    opened = open_dataset(folder)
    assert isinstance(opened.counts, np.memmap)
    for name in ("counts", "positions", "probe", "mask"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(scan, name))
    np.testing.assert_array_equal(opened.truth.object, scan.truth.object)
    assert opened.truth.origin == scan.truth.origin
    assert (opened.geometry, opened.name) == (scan.geometry, scan.name)
    assert opened.metadata == scan.metadata | {"photons_measured": scan.counts.sum() / len(scan)}


@pytest.mark.parametrize(
    ("greatest", "dtype"),
    [(255, "uint8"), (256, "uint16"), (65536, "uint32"), (0.5, "float32"), (2**24 + 0.5, "float64")],
)
def test_counts_take_the_smallest_dtype_that_loses_nothing(tmp_path, scan, greatest, dtype):
    counts = scan.counts.astype(np.float64)
    counts[-1, -1, -1] = greatest
    write_dataset(tmp_path / "d", dataclasses.replace(scan, counts=counts), chunks=np.array_split(counts, 7))
    opened = open_dataset(tmp_path / "d")
    assert opened.counts.dtype == dtype
    np.testing.assert_array_equal(opened.counts, counts)


def test_a_scan_without_mask_or_truth_opens_without(tmp_path, scan):
    write_dataset(tmp_path / "d", dataclasses.replace(scan, mask=None, truth=None))
    opened = open_dataset(tmp_path / "d")
    assert opened.mask is None and opened.truth is None


def test_negative_counts_are_refused_and_leave_nothing(tmp_path, scan):
    counts = scan.counts.astype(np.int32)
    counts[3, 4, 5] = -1
    with pytest.raises(ValueError, match=r"1 negative values, the first at \(3, 4, 5\)"):
        write_dataset(tmp_path / "d", dataclasses.replace(scan, counts=counts))
    assert not list(tmp_path.iterdir())


def test_patterns_without_a_photon_are_refused(tmp_path, scan):
    with pytest.raises(ValueError, match="the patterns of sample sum to 0 photons"):
        write_dataset(tmp_path / "d", dataclasses.replace(scan, counts=np.zeros_like(scan.counts)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunks", [3, 41])
def test_more_or_fewer_patterns_than_announced_are_refused(tmp_path, scan, chunks):
    pieces = [np.zeros((1, 32, 32), np.uint8)] * chunks
    with pytest.raises(ValueError, match=f"got {chunks} patterns, expected 40"):
        write_dataset(tmp_path / "d", scan, chunks=pieces)
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_the_dataset_that_stood_there(folder, scan):
    with pytest.raises(ValueError, match="got 0 patterns, expected 40"):
        write_dataset(folder, scan, chunks=[])
    np.testing.assert_array_equal(open_dataset(folder).counts, scan.counts)


@pytest.mark.parametrize("greatest", [1, 200, 255, 300, 40_000, 65_535, 2**31])
def test_the_photons_measured_are_every_one_however_bright(tmp_path, scan, greatest):
    counts = np.random.default_rng(0).integers(0, greatest + 1, scan.counts.shape)
    write_dataset(tmp_path / "d", dataclasses.replace(scan, counts=counts))
    assert open_dataset(tmp_path / "d").metadata["photons_measured"] == counts.sum() / len(scan)


def test_verify_finds_a_flipped_byte_that_opening_cannot_see(folder):
    assert set(verify_dataset(folder)) == {"counts", "positions", "probe", "mask", "truth"}
    with (folder / "counts.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    open_dataset(folder)
    with pytest.raises(ValueError, match=r"counts\.npy changed since packing"):
        verify_dataset(folder)


def _truncate(folder):
    path = folder / "counts.npy"
    path.write_bytes(path.read_bytes()[:-10])


def _lengthen(folder):
    with (folder / "probe.npy").open("ab") as file:
        file.write(b"0")


def _remove(folder):
    (folder / "mask.npy").unlink()


def _lie(folder):
    _edit(folder, lambda manifest: manifest["arrays"]["counts"].update(shape=[40, 16, 64]))


def _lie_about_the_dtype(folder):
    _edit(folder, lambda manifest: manifest["arrays"]["counts"].update(dtype="uint16"))


def _lie_about_the_sign(folder):
    _edit(folder, lambda manifest: manifest["arrays"]["counts"].update(shape=[40, -32, -32]))


def _name_a_file_elsewhere(folder):
    _edit(folder, lambda manifest: manifest["arrays"].update({"../sample/probe": manifest["arrays"]["probe"]}))


def _claim_objects(folder):
    _edit(folder, lambda manifest: manifest["arrays"]["positions"].update(dtype="object"))


def _lose_a_position(folder):
    np.save(folder / "positions.npy", np.load(folder / "positions.npy")[:-1])
    _edit(folder, lambda manifest: manifest["arrays"]["positions"].update(shape=[39, 2]))


def _turn_the_bytes(folder):
    np.save(folder / "positions.npy", np.load(folder / "positions.npy").astype(">f8"))


def _turn_the_axes(folder):
    counts = np.load(folder / "counts.npy")
    np.save(folder / "counts.npy", np.asfortranarray(counts))


def _announce_the_impossible(folder):
    shape = [2**40, 2**20, 2**20]
    _edit(folder, lambda manifest: manifest["arrays"]["counts"].update(shape=shape))
    with (folder / "counts.npy").open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)})


def _empty_the_manifest(folder):
    (folder / "manifest.json").write_text("")


def _leave_a_list(folder):
    _edit(folder, lambda manifest: manifest.update(arrays=[1, 2]))


def _pickle(folder):
    np.save(folder / "positions.npy", np.array([{}]), allow_pickle=True)


def _outdate(folder):
    _edit(folder, lambda manifest: manifest.update(format=FORMAT - 1))


def _gut(folder):
    _edit(folder, lambda manifest: manifest.pop("geometry"))


def _edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, r"counts\.npy is truncated, \d+ bytes instead of \d+"),
        (_lengthen, r"probe\.npy is too long"),
        (_remove, "missing although the manifest names it"),
        (_lie, r"counts\.npy does not hold the uint8 \[40, 16, 64\] of the manifest"),
        (_lie_about_the_dtype, r"does not hold the uint16 \[40, 32, 32\]"),
        (_lie_about_the_sign, r"arrays\.counts\.shape\.1: input should be greater than or equal to 0, got -32"),
        (_name_a_file_elsewhere, r"names \.\./sample/probe of complex64, which a dataset cannot hold"),
        (_claim_objects, "names positions of object, which a dataset cannot hold"),
        (_lose_a_position, r"positions of shape \(39, 2\) for 40 diffraction patterns"),
        (_turn_the_bytes, r"positions\.npy does not hold the float64"),
        (_turn_the_axes, r"counts\.npy does not hold the uint8"),
        (_announce_the_impossible, "truncated"),
        (_empty_the_manifest, "not valid JSON"),
        (_leave_a_list, "manifest.json is damaged"),
        (_pickle, r"positions\.npy holds object, expected plain numbers"),
        (_outdate, f"in format {FORMAT - 1}, this version reads {FORMAT}: pack it again"),
        (_gut, "manifest.json is damaged"),
    ],
)
def test_a_damaged_dataset_does_not_open(folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        open_dataset(folder)


@pytest.mark.parametrize("name", ["counts", "positions", "probe", "mask", "truth"])
def test_a_flipped_bit_anywhere_is_found(folder, name):
    path = folder / f"{name}.npy"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    header = np.load(path, mmap_mode="r").offset
    for at in rng.integers(header, len(whole), 20):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=rf"{name}\.npy changed since packing|NaN|mask|probe"):
            verify_dataset(folder)
    path.write_bytes(whole)
    verify_dataset(folder)


def test_counts_beyond_the_manifest_are_not_read_into_memory(folder, scan):
    opened = open_dataset(folder)
    assert isinstance(opened.counts, np.memmap) and isinstance(opened.truth.object, np.memmap)
    assert not opened.counts.flags.writeable


def test_a_folder_without_manifest_is_no_dataset(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="pack a scan into it"):
        open_dataset(folder)


def test_verify_refuses_what_readers_refuse_although_the_checksum_is_right(folder):
    counts = np.zeros((40, 32, 32), np.uint8)
    np.save(folder / "counts.npy", counts)
    checksum = xxhash.xxh3_64(counts.data.cast("B")).hexdigest()
    _edit(folder, lambda manifest: manifest["arrays"]["counts"].update(xxh3_64=checksum))
    with pytest.raises(ValueError, match="holds no photon: pack the scan again"):
        verify_dataset(folder)
