"""The command writes a scan that follows its settings, whole or not at all, and in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.commands.pack import pack
from ptychoflow.commands.simulate import simulate
from ptychoflow.commands.stitch import stitch
from ptychoflow.config import Runtime, Simulation, Stitching, validate
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.data.datamodule import PredictionData
from ptychoflow.data.torch_dataset import read_batch
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.patch_store import ShardWriter, seal
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ptychoflow.io.scan_cxi import read_scan

TINY = {
    "object": {"name": "points", "size": [70, 90]},
    "probe": {"diameter_px": 14.0, "defocus": 1.0},
    "trajectory": {"step_px": 9.0, "jitter_px": 1.0},
    "size": 32,
    "photons_per_pattern": 1e4,
}


def _simulate(folder: Path, refined: Path | None = None, name: str = "scan", **settings) -> Scan:
    output = folder / f"{name}.cxi"
    simulate(output, validate(Simulation, TINY | settings), probe=refined)
    return read_scan(output)


def _reconstruction(path: Path, size: int = 32) -> Reconstruction:
    y, x = np.mgrid[:size, :size] - size // 2
    mode = np.exp(-(y**2 + x**2) / 40 + 0.03j * y**2)
    image = np.ones((50, 60), np.complex64)
    found = Reconstruction(
        object=image,
        origin=(0.0, 0.0),
        probe=np.stack([7 * mode, 2 * y * mode]).astype(np.complex64),
        positions=np.full((3, 2), 20.0),
        geometry=Geometry(3e-8, 2e-10, 1.5),
        weight=np.ones(image.shape, np.float32),
        coverage=np.ones(image.shape, bool),
    )
    write_reconstruction(path, found)
    return found


def test_a_scan_records_all_that_made_it(tmp_path):
    scan = _simulate(tmp_path, seed=3)
    assert scan.name == "scan"
    assert scan.counts.dtype in (np.uint8, np.uint16)
    assert scan.truth.object.shape == (70, 90)
    assert scan.truth.positions is None
    assert scan.mask is None
    assert scan.photons == pytest.approx(1e4, rel=1e-5)
    assert scan.metadata["photons_requested"] == 1e4
    assert scan.metadata["photons_measured"] == pytest.approx(scan.counts.sum() / len(scan))
    assert scan.metadata["beam_diameter_px"] == pytest.approx(14, rel=0.3)
    assert scan.metadata["provenance"]["config"]["seed"] == 3
    assert scan.geometry.detector_pixel_m(32) == pytest.approx(172e-6)
    assert scan.geometry.energy_ev == pytest.approx(8800)


def test_the_same_settings_give_the_same_scan_and_each_seed_another(tmp_path):
    one, same, other = (_simulate(tmp_path, name=f"{n}", seed=seed) for n, seed in enumerate((1, 1, 2)))
    assert np.array_equal(one.counts, same.counts)
    assert np.array_equal(one.positions, same.positions)
    assert not np.array_equal(one.positions, other.positions)
    assert not np.array_equal(one.truth.object, other.truth.object)


def test_dose_changes_neither_the_object_nor_the_path(tmp_path):
    dim, bright = (_simulate(tmp_path, name=f"{photons:.0f}", photons_per_pattern=photons) for photons in (1e3, 1e5))
    assert np.array_equal(dim.truth.object, bright.truth.object)
    assert np.array_equal(dim.positions, bright.positions)
    np.testing.assert_allclose(bright.probe, 10 * dim.probe, rtol=1e-4, atol=1e-4)


def test_position_errors_are_recorded_and_travel_through_packing(tmp_path):
    scan = _simulate(tmp_path, trajectory={"step_px": 9.0, "error_px": 0.7})
    assert scan.truth.positions.shape == scan.positions.shape
    assert 0.4 < (scan.truth.positions - scan.positions).std() < 1.0
    pack(tmp_path / "scan.cxi", tmp_path / "whole")
    pack(tmp_path / "scan.cxi", tmp_path / "odd", half="odd")
    assert np.array_equal(open_dataset(tmp_path / "whole").truth.positions, scan.truth.positions)
    assert np.array_equal(open_dataset(tmp_path / "odd").truth.positions, scan.truth.positions[1::2])


def test_dead_pixels_and_beamstop_are_masked(tmp_path):
    scan = _simulate(tmp_path, detector={"dead_pixels": 0.05, "beamstop_px": 4.0, "dark_counts": 3.0})
    assert 0.03 < np.mean(~scan.mask) < 0.1
    assert (scan.counts[:, ~scan.mask] == 0).all()
    assert (scan.counts[:, scan.mask].mean(0) > 1).all()


def test_saturated_pixels_are_counted(tmp_path):
    scan = _simulate(tmp_path, detector={"saturation": 20})
    assert scan.counts.max() == 20
    assert scan.metadata["saturated_pixels_per_pattern"] == pytest.approx((scan.counts == 20).sum() / len(scan))


def test_a_refined_probe_brings_its_modes_and_lengths(tmp_path):
    found = _reconstruction(tmp_path / "refined.h5")
    scan = _simulate(tmp_path, tmp_path / "refined.h5", probe={"name": "reconstruction"})
    ratio = np.sqrt(1e4 / np.sum(np.abs(found.probe) ** 2))
    np.testing.assert_allclose(scan.probe, found.probe * ratio, atol=1e-3)
    assert scan.geometry == found.geometry
    assert "probe" in scan.metadata["provenance"]["inputs"]


def test_a_probe_may_come_from_a_file_or_another_scan(tmp_path):
    first = _simulate(tmp_path, probe={"name": "disc", "diameter_px": 14.0, "modes": [0.9, 0.1]}, name="first")
    second = _simulate(tmp_path, probe={"name": "file", "file": str(tmp_path / "first.cxi")}, name="second")
    np.testing.assert_allclose(second.probe, first.probe, atol=1e-4)
    np.save(tmp_path / "probe.npy", first.probe)
    third = _simulate(tmp_path, probe={"name": "file", "file": str(tmp_path / "probe.npy"), "defocus_spread": 0.5})
    assert third.probe.shape == first.probe.shape
    assert "probe_file" in third.metadata["provenance"]["inputs"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"object": {"size": 30}}, r"simulation\.object\.size is \[30, 30\] px, too small for the 32 px"),
        ({"probe": {"diameter_px": 40.0}}, r"simulation\.probe\.diameter_px is 40, more than the 32 px"),
        ({"probe": "reconstruction"}, "got simulation\.probe reconstruction and --probe None"),
        ({"probe": {"name": "file", "file": "nothing.npy"}}, r"simulation\.probe\.file: file not found"),
        ({"trajectory": {"name": "file", "file": "nothing.csv"}}, r"simulation\.trajectory\.file: file not found"),
    ],
)
def test_a_bad_request_is_told_and_leaves_what_stood_there(tmp_path, settings, message):
    before = _simulate(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _simulate(tmp_path, **settings)
    assert np.array_equal(read_scan(tmp_path / "scan.cxi").counts, before.counts)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.cxi"]


def test_a_probe_that_does_not_fit_the_patterns_is_told(tmp_path):
    _reconstruction(tmp_path / "refined.h5", size=48)
    with pytest.raises(ValueError, match=r"simulation\.size is 32 px, but the probe in .*refined\.h5 has 48 px"):
        _simulate(tmp_path, tmp_path / "refined.h5", probe={"name": "reconstruction"})
    with pytest.raises(ValueError, match=r"got simulation\.probe zone_plate and --probe .*refined\.h5"):
        _simulate(tmp_path, tmp_path / "refined.h5")


@pytest.mark.parametrize("settings", [{}, {"trajectory": {"step_px": 9.0, "error_px": 0.5}}], ids=["nominal", "astray"])
def test_stitching_the_labels_of_a_simulated_scan_gives_its_truth(tmp_path, settings):
    """The labels that a network learns from, through the command that stitches what it predicts."""
    _simulate(tmp_path, **settings)
    pack(tmp_path / "scan.cxi", tmp_path / "dataset")
    scan = open_dataset(tmp_path / "dataset")
    labels = read_batch([scan], PredictionData(scan, 4, Runtime()).rows)
    (tmp_path / "patches").mkdir()
    writer = ShardWriter(tmp_path / "patches", 0, len(scan), scan.size, 4, "float32")
    writer.write(labels.truth.numpy(), labels.centre.numpy(), labels.members.numpy())
    writer.close()
    seal(tmp_path / "patches", {})
    stitch(tmp_path / "dataset", tmp_path / "patches", tmp_path / "stitched.h5", Stitching(phase="none"))
    found = read_reconstruction(tmp_path / "stitched.h5")
    truth = np.pad(scan.truth.object, 40, mode="edge")  # a label that reaches beyond the truth repeats its edge
    top, left = np.round(found.origin).astype(int) + 40
    around = truth[top : top + found.object.shape[0], left : left + found.object.shape[1]]
    assert found.coverage.mean() > 0.5
    assert abs(found.object - around)[found.coverage].max() < 1e-6


MEASURE = """
import json, resource, sys
from pathlib import Path
from ptychoflow.config import Simulation, validate
from ptychoflow.io.scan_cxi import read_scan
from ptychoflow.commands.simulate import simulate

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

settings, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
simulate(folder / "short.cxi", validate(Simulation, settings))
before = peak_mib()
settings["trajectory"]["step_px"] = 0.7
simulate(folder / "long.cxi", validate(Simulation, settings))
patterns = len(read_scan(folder / "long.cxi", counts=False))
print(json.dumps({"grown_mib": peak_mib() - before, "counts_mib": patterns * 64 * 64 * 8 / 2**20}))
"""


def test_a_long_scan_needs_no_more_memory_than_a_short_one(tmp_path):
    settings = TINY | {"size": 64, "object": {"name": "points", "size": 128}, "probe": {"diameter_px": 24.0}}
    command = [sys.executable, "-c", MEASURE, json.dumps(settings), str(tmp_path)]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert measured["counts_mib"] > 200
    assert measured["grown_mib"] < 60
