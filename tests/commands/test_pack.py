"""Packing streams a scan into a dataset: bounded in memory, whole or not at all."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from ptychoflow.cli.main import main
from ptychoflow.commands.pack import pack
from ptychoflow.config import Packing
from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import open_dataset, read_manifest, verify_dataset
from ptychoflow.io.scan_cxi import write_scan
from ptychoflow.preprocessing.detector_pixels import outlying_patterns


@pytest.fixture
def path(tmp_path, scan):
    write_scan(tmp_path / "sample.cxi", scan)
    return tmp_path / "sample.cxi"


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of three patterns, so that what is chosen or flawed spans several."""
    monkeypatch.setattr("ptychoflow.preprocessing.scan_packing.PIECE", 3 * 32 * 32 * 2)


def _seen(scan: Scan) -> np.ndarray:
    """The counts of the pixels that count."""
    return np.where(scan.mask, scan.counts, 0)


def _content(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _source(folder) -> str:
    return read_manifest(folder)["provenance"]["inputs"]["scan"]["content"]


def test_a_dataset_holds_the_scan_and_nothing_in_pixels_that_do_not_count(path, tmp_path, scan):
    pack(path, tmp_path / "d")
    opened = open_dataset(tmp_path / "d")
    np.testing.assert_array_equal(opened.counts, _seen(scan))
    np.testing.assert_array_equal(opened.mask, scan.mask)
    assert opened.metadata["masked_pixels"] == 1
    verify_dataset(tmp_path / "d")
    assert read_manifest(tmp_path / "d")["provenance"]["inputs"]["scan"]["name"] == "sample.cxi"


def test_the_source_is_told_by_its_content_however_much_of_it_is_kept(tmp_path, scan):
    bare = dataclasses.replace(scan, mask=None, counts=np.minimum(scan.counts, 255).astype(np.uint8))
    other = dataclasses.replace(bare, counts=bare.counts[:, ::-1])
    for name, source in {"a": bare, "b": other, "wide": dataclasses.replace(bare, counts=scan.counts)}.items():
        (tmp_path / name).mkdir()
        write_scan(tmp_path / name / "sample.cxi", source)
    pack(tmp_path / "a/sample.cxi", tmp_path / "whole")
    pack(tmp_path / "a/sample.cxi", tmp_path / "part", Packing(crop=16), half="odd")
    pack(tmp_path / "b/sample.cxi", tmp_path / "other")
    pack(tmp_path / "wide/sample.cxi", tmp_path / "wide/whole")
    pack(tmp_path / "wide/sample.cxi", tmp_path / "wide/part", Packing(binning=2))
    assert _source(tmp_path / "whole") == _source(tmp_path / "part") != _source(tmp_path / "other")
    assert _source(tmp_path / "wide/whole") == _source(tmp_path / "wide/part")


def test_halves_hold_every_second_pattern_and_together_all(path, tmp_path, scan, small_pieces):
    for first, half in enumerate(("even", "odd")):
        pack(path, tmp_path / f"sample.{half}", half=half)
        opened = open_dataset(tmp_path / f"sample.{half}")
        np.testing.assert_array_equal(opened.counts, _seen(scan)[first::2])
        np.testing.assert_array_equal(opened.positions, scan.positions[first::2])
        assert opened.name == f"sample.{half}"


def test_true_positions_follow_the_patterns_and_the_pixel(tmp_path, scan):
    truth = dataclasses.replace(scan.truth, positions=scan.positions + 0.25)
    write_scan(tmp_path / "sample.cxi", dataclasses.replace(scan, truth=truth))
    pack(tmp_path / "sample.cxi", tmp_path / "d", Packing(crop=16), half="odd")
    np.testing.assert_allclose(open_dataset(tmp_path / "d").truth.positions, (scan.positions[1::2] + 0.25) / 2)


def test_cropping_keeps_the_centre_of_each_pattern(path, tmp_path, scan):
    pack(path, tmp_path / "d", Packing(crop=16), half="odd")
    opened = open_dataset(tmp_path / "d")
    np.testing.assert_array_equal(opened.counts, scan.counts[1::2, 8:24, 8:24])
    assert opened.metadata["cropped_from_px"] == 32
    assert opened.metadata["photons_measured"] == opened.counts.sum() / len(opened)


def test_binning_sums_and_takes_a_wider_dtype(tmp_path, scan):
    bright = dataclasses.replace(scan, counts=np.full_like(scan.counts, 60000), mask=None)
    write_scan(tmp_path / "sample.cxi", bright)
    pack(tmp_path / "sample.cxi", tmp_path / "d", Packing(binning=2))
    opened = open_dataset(tmp_path / "d")
    assert opened.counts.dtype == np.uint32 and (opened.counts == 240000).all() and opened.size == 16
    assert opened.metadata["photons_measured"] == 60000 * 32 * 32


def test_patterns_are_moved_to_where_the_probe_puts_them(tmp_path, scan):
    near = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(scan.probe[0]), norm="ortho"))) ** 2
    counts = np.random.default_rng(0).poisson(np.roll(near, (3, -2), (0, 1)), (40, 32, 32)).astype(np.uint16)
    write_scan(tmp_path / "sample.cxi", dataclasses.replace(scan, counts=counts, mask=None))
    pack(tmp_path / "sample.cxi", tmp_path / "auto", Packing(centre="auto"))
    pack(tmp_path / "sample.cxi", tmp_path / "given", Packing(centre=(19, 14)))
    auto, given = open_dataset(tmp_path / "auto"), open_dataset(tmp_path / "given")
    np.testing.assert_array_equal(auto.counts, given.counts)
    np.testing.assert_array_equal(auto.counts[:, 16, 16], counts[:, 19, 14])
    assert not auto.mask[-3:].any() and not auto.mask[:, :2].any() and auto.mask[:-3, 2:].all()
    assert auto.metadata["moved_px"] == [-3, 2]


def _flawed(scan: Scan) -> Scan:
    counts = scan.counts.astype(np.float32)
    counts[7, 4, 5], counts[7, 6, 6], counts[30, 4, 5] = np.nan, np.inf, -1
    return dataclasses.replace(scan, counts=counts, mask=None)


def test_impossible_counts_are_refused_masked_or_dropped_as_asked(tmp_path, scan, small_pieces):
    write_scan(tmp_path / "sample.cxi", _flawed(scan))
    with pytest.raises(ValueError, match=r"sample.cxi: patterns 7 to 7 hold 2 NaN or infinite values"):
        pack(tmp_path / "sample.cxi", tmp_path / "d")
    assert not (tmp_path / "d").exists()
    pack(tmp_path / "sample.cxi", tmp_path / "masked", Packing(invalid_counts="mask"))
    masked = open_dataset(tmp_path / "masked")
    assert np.argwhere(~masked.mask).tolist() == [[4, 5], [6, 6]]
    np.testing.assert_array_equal(masked.counts, np.where(masked.mask, scan.counts, 0))
    pack(tmp_path / "sample.cxi", tmp_path / "dropped", Packing(invalid_counts="drop"), half="odd")
    dropped = open_dataset(tmp_path / "dropped")
    kept = np.delete(np.arange(1, 40, 2), 3)
    np.testing.assert_array_equal(dropped.counts, scan.counts[kept])
    np.testing.assert_array_equal(dropped.positions, scan.positions[kept])
    assert dropped.mask is None


def test_listed_and_saturated_pixels_do_not_count(tmp_path, scan):
    counts = scan.counts.copy()
    counts[3, 9, 9] = 65535
    write_scan(tmp_path / "sample.cxi", dataclasses.replace(scan, counts=counts, mask=None))
    pack(tmp_path / "sample.cxi", tmp_path / "d", Packing(bad_pixels=((1, 2),), saturation=65535))
    opened = open_dataset(tmp_path / "d")
    assert np.argwhere(~opened.mask).tolist() == [[1, 2], [9, 9]]
    assert opened.counts.dtype == np.uint8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 64}, "crop to less"),
        ({"bad_pixels": ((3, 32),)}, r"packing\.bad_pixels has \(3, 32\), the patterns have 32 px"),
        ({"centre": (60, 0)}, r"correct packing\.centre"),
    ],
)
def test_settings_that_do_not_fit_the_scan_are_refused(path, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        pack(path, tmp_path / "d", Packing(**settings))
    assert not (tmp_path / "d").exists()


def test_packing_twice_gives_the_same_bytes(path, tmp_path):
    for name in ("a", "b"):
        pack(path, tmp_path / name / "d")
    assert _content(tmp_path / "a/d") == _content(tmp_path / "b/d")


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.fixture
def earlier(path, tmp_path):
    """A dataset that stands there already and must survive whatever happens."""
    pack(path, tmp_path / "d")
    return _content(tmp_path / "d")


def _truncate(file: h5py.File) -> None:
    name = file.filename
    file.close()
    os.truncate(name, os.path.getsize(name) - 30_000)


def _make_negative(file: h5py.File) -> None:
    name = "entry_1/instrument_1/detector_1/data"
    counts = file[name][()].astype(np.int32)
    counts[12, 1, 2] = -7
    del file[name]
    file[name] = counts


def _lose_a_position(file: h5py.File) -> None:
    positions = file["entry_1/ptychoflow/positions"][()]
    del file["entry_1/ptychoflow/positions"]
    file["entry_1/ptychoflow/positions"] = positions[:-1]


def _lie_about_the_probe(file: h5py.File) -> None:
    probe = file["entry_1/ptychoflow/probe"][()]
    del file["entry_1/ptychoflow/probe"]
    file["entry_1/ptychoflow/probe"] = probe[:, :16]


def _empty_a_position(file: h5py.File) -> None:
    file["entry_1/ptychoflow/positions"][5] = np.nan


def _remove_the_counts(file: h5py.File) -> None:
    del file["entry_1/instrument_1/detector_1/data"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "truncated"),
        (_make_negative, "hold 1 negative values"),
        (_lose_a_position, "got positions of shape (39, 2) for 40 diffraction patterns"),
        (_lie_about_the_probe, "probe has shape (1, 16, 32), expected (modes, 32, 32)"),
        (_empty_a_position, "positions hold NaN or infinity"),
        (_remove_the_counts, "is not a ptychoflow scan or is damaged"),
    ],
)
def test_a_damaged_scan_gives_one_line_and_leaves_the_dataset_of_before(
    path, tmp_path, earlier, capsys, damage, message
):
    with contextlib.closing(h5py.File(path, "r+")) as file:
        damage(file)
    assert main(["pack", str(path), str(tmp_path / "d")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ptychoflow pack: ")]
    assert len(lines) == 1 and message in lines[0]
    assert _content(tmp_path / "d") == earlier
    assert {entry.name for entry in tmp_path.iterdir()} == {"sample.cxi", "d"}


def test_a_full_disk_gives_one_line_and_leaves_the_dataset_of_before(path, mount, capsys, tmp_path, scan):
    disk = mount("disk", "size=256k")
    pack(path, disk / "d")
    earlier = _content(disk / "d")
    many = dataclasses.replace(scan, counts=np.tile(scan.counts, (9, 1, 1)), positions=np.tile(scan.positions, (9, 1)))
    write_scan(tmp_path / "many.cxi", many)
    assert main(["pack", str(tmp_path / "many.cxi"), str(disk / "d")]) == 2
    assert f"ptychoflow pack: {disk}/d does not fit on the disk" in capsys.readouterr().err
    assert _content(disk / "d") == earlier and len(list(disk.iterdir())) == 1


def test_a_read_only_folder_gives_one_line(path, tmp_path, mount, capsys):
    if os.getuid():
        place = tmp_path / "disk"
        place.mkdir(mode=0o555)
    else:  # root may write anywhere but on a disk mounted to be read
        place = mount("disk", "size=64k,ro")
    assert main(["pack", str(path), str(place / "d")]) == 2
    assert f"ptychoflow pack: {place}/d cannot be written (" in capsys.readouterr().err


def _pack_in_a_child(path, folder) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=pack, args=(path, folder))
    child.start()
    return child


def test_packing_killed_at_20_random_moments_and_run_again_gives_the_folder_of_an_uninterrupted_run(tmp_path, scan):
    many = np.tile(scan.counts, (500, 1, 1))  # 40 MB
    many[12_000:] += 256  # a wider dtype from here on: what is written so far is written again
    positions = np.tile(scan.positions, (500, 1))
    write_scan(tmp_path / "sample.cxi", dataclasses.replace(scan, counts=many, positions=positions))
    pack(tmp_path / "sample.cxi", tmp_path / "uninterrupted/d")
    expected = _content(tmp_path / "uninterrupted/d")
    began = time.monotonic()
    _pack_in_a_child(tmp_path / "sample.cxi", tmp_path / "d").join()
    lasts = time.monotonic() - began
    (tmp_path / "once").mkdir()
    (tmp_path / "d").rename(tmp_path / "once/d")
    killed = 0
    for moment in np.random.default_rng(0).uniform(0, 0.9, 20):
        child = _pack_in_a_child(tmp_path / "sample.cxi", tmp_path / "d")
        time.sleep(moment * lasts)
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        if (tmp_path / "d").exists():
            assert _content(tmp_path / "d") == expected
            (tmp_path / "d").rename(tmp_path / f"once/{moment}")
    assert killed >= 5  # the others were done before: how many depends on the machine
    pack(tmp_path / "sample.cxi", tmp_path / "d")
    assert _content(tmp_path / "d") == expected
    assert {entry.name for entry in tmp_path.iterdir()} == {"sample.cxi", "uninterrupted", "once", "d"}


def test_packing_that_is_told_to_stop_tidies_up(tmp_path, path, monkeypatch):
    def never_ending(*_, **__):
        signal.raise_signal(signal.SIGINT)
        yield np.zeros((1, 32, 32), np.uint8)

    monkeypatch.setattr("ptychoflow.preprocessing.scan_packing.iterate_counts", never_ending)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            pack(path, tmp_path / "d")
    finally:
        signal.signal(signal.SIGINT, before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["sample.cxi"]


PACK_WITHIN = """
import resource, sys
from pathlib import Path
from ptychoflow.config import Packing
from ptychoflow.commands.pack import pack

def held():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1])

resource.setrlimit(resource.RLIMIT_DATA, (held() + int(sys.argv[3]),) * 2)
pack(Path(sys.argv[1]), Path(sys.argv[2]), Packing.model_validate_json(sys.argv[4]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs the memory accounts of Linux")
@pytest.mark.parametrize("settings", ["{}", '{"crop": 32, "binning": 2, "centre": "auto"}'])
def test_packing_needs_little_memory_whatever_the_size_of_the_scan(tmp_path, scan, settings):
    """256 MiB of patterns within 96 MiB of memory, the threads' stacks among them; the limit is the system's."""
    patterns = 1 << 15
    piece = np.random.default_rng(0).poisson(300, (256, 64, 64)).astype(np.uint16)
    probe = np.pad(scan.probe, ((0, 0), (16, 16), (16, 16)))
    announced = np.broadcast_to(np.zeros((), np.uint16), (patterns, 64, 64))
    positions = np.random.default_rng(0).uniform(32, 900, (patterns, 2))
    large = Scan(announced, positions, probe, scan.geometry)
    write_scan(tmp_path / "large.cxi", large, (piece for _ in range(patterns // 256)))
    command = [sys.executable, "-c", PACK_WITHIN, tmp_path / "large.cxi", tmp_path / "d", str(96 << 20), settings]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    verify_dataset(tmp_path / "d")


def test_patterns_are_excluded_by_number_and_by_their_total_counts(tmp_path, scan, caplog):
    counts = scan.counts.copy()
    counts[10], counts[20] = 60000, 0
    write_scan(tmp_path / "sample.cxi", dataclasses.replace(scan, counts=counts))
    with caplog.at_level("INFO"):
        pack(tmp_path / "sample.cxi", tmp_path / "d", Packing(exclude=(3, "35:"), exclude_outliers=True))
    kept = np.delete(np.arange(35), [3, 10, 20])
    opened = open_dataset(tmp_path / "d")
    np.testing.assert_array_equal(opened.counts, np.where(scan.mask, scan.counts[kept], opened.counts))
    np.testing.assert_array_equal(opened.positions, scan.positions[kept])
    assert "left out 2 patterns with outlying total counts: 10, 20" in caplog.text
    with pytest.raises(ValueError, match=r"packing\.exclude names 40, expected numbers from 0 to 39"):
        pack(tmp_path / "sample.cxi", tmp_path / "e", Packing(exclude=(40,)))


def test_dark_subtracted_counts_are_clipped(tmp_path, scan):
    noise = np.random.default_rng(0).normal(0, 0.3, scan.counts.shape)
    counts = np.where(scan.counts > 35, 0, scan.counts) + noise
    write_scan(tmp_path / "sample.cxi", dataclasses.replace(scan, counts=counts.astype(np.float32), mask=None))
    pack(tmp_path / "sample.cxi", tmp_path / "d", Packing(invalid_counts="clip"))
    opened = open_dataset(tmp_path / "d")
    np.testing.assert_array_equal(opened.counts, counts.astype(np.float32).clip(0))
    assert opened.mask is None


@pytest.mark.parametrize("spread", [0.05, 0.4])
def test_a_scan_without_outliers_keeps_every_pattern(spread):
    totals = 1e5 * np.random.default_rng(1).lognormal(0, spread, 400)
    assert not outlying_patterns(totals).any() and not outlying_patterns(np.zeros(4)).any()


def test_a_mask_of_the_probe_removes_what_lies_outside(path, tmp_path, scan):
    pack(path, tmp_path / "whole")
    pack(path, tmp_path / "masked", Packing(probe_mask_px=12))
    whole, masked = (open_dataset(tmp_path / name).probe for name in ("whole", "masked"))
    axis = np.arange(scan.size) - scan.size // 2
    radius = np.hypot(axis[:, None], axis)
    np.testing.assert_allclose(masked[..., radius == 6], 0.5 * whole[..., radius == 6], rtol=1e-5)
    np.testing.assert_allclose(masked[..., radius < 2], whole[..., radius < 2], rtol=1e-3)
    assert np.abs(masked[..., radius > 11]).max() < 1e-5 * np.abs(whole).max()


def test_a_mask_that_leaves_nothing_of_the_probe_is_refused(tmp_path, scan):
    ring = scan.probe.copy()
    ring[..., 8:24, 8:24] = 0
    write_scan(tmp_path / "ring.cxi", dataclasses.replace(scan, probe=ring))
    with pytest.raises(ValueError, match="nothing of the probe lies within"):
        pack(tmp_path / "ring.cxi", tmp_path / "d", Packing(probe_mask_px=1e-3))
