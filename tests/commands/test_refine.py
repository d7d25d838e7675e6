"""Refinement finds the object from nothing, sooner from something near, and all that was wrong about the beam."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychoflow.commands.refine import refine
from ptychoflow.config import Refinement, Runtime
from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ptychoflow.io.tensor_file import write_tensors
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.data_consistency import expected_patterns
from ptychoflow.physics.forward_model import shift_probe, total_intensity
from ptychoflow.refinement import resume
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine
from ptychoflow.refinement.position_correction import position_updates
from ptychoflow.runtime.distributed import DistributedContext


def _phase_error(path, scan) -> float:
    """RMS phase error of a reconstruction on its coverage, rad."""
    found = read_reconstruction(path)
    matched = align(found.object, found.origin, found.coverage, scan.truth.object, scan.truth.origin)
    return float(np.sqrt(np.mean(np.angle(matched.object * matched.truth.conj())[matched.mask] ** 2)))


def test_rpie_from_a_uniform_object_converges_to_the_ground_truth(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    refine(tiny_dataset, tmp_path / "a.h5", Refinement(epochs=20, batch_size=8))
    assert _phase_error(tmp_path / "a.h5", scan) < 0.06
    history = read_reconstruction(tmp_path / "a.h5").history
    assert history["epoch"] == list(range(1, 21))
    assert history["error"][-1] < 0.2 * history["error"][0]
    assert np.all(np.diff(history["cpu_seconds"]) >= 0)


def test_a_reconstruction_is_called_by_the_folder_it_stands_in(tiny_dataset, tmp_path, monkeypatch):
    (tmp_path / "rpie").mkdir()
    monkeypatch.chdir(tmp_path / "rpie")
    assert read_reconstruction(_refined(tiny_dataset, Path("a.h5"), epochs=1)).name == "rpie/blobs"


def test_a_start_near_the_truth_is_ahead_after_one_epoch(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    refine(tiny_dataset, tmp_path / "far.h5", Refinement(epochs=20, batch_size=8))
    refine(tiny_dataset, tmp_path / "uniform.h5", Refinement(epochs=1))
    refine(tiny_dataset, tmp_path / "near.h5", Refinement(epochs=1), start=tmp_path / "far.h5")
    assert _phase_error(tmp_path / "near.h5", scan) < 0.5 * _phase_error(tmp_path / "uniform.h5", scan)


def test_the_low_order_phase_is_found_sooner_when_it_is_solved_for(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    far = read_reconstruction(_refined(tiny_dataset, tmp_path / "done.h5", epochs=20, batch_size=8))
    y, x = np.indices(far.object.shape) / far.object.shape[0] - 0.5
    bent = far.object * np.exp(4j * (x**2 - y**2)).astype(np.complex64)
    write_reconstruction(tmp_path / "bent.h5", dataclasses.replace(far, object=bent))
    errors = []
    for low_order_phase_epochs in (0, 2):
        refine(
            tiny_dataset,
            tmp_path / "b.h5",
            Refinement(epochs=2, low_order_phase_epochs=low_order_phase_epochs),
            start=tmp_path / "bent.h5",
        )
        errors.append(_phase_error(tmp_path / "b.h5", scan))
    assert errors[1] < 0.7 * errors[0]


def test_a_wrong_probe_is_refined(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    y, x = np.indices(scan.probe.shape[1:]) - 16
    wrong = (scan.probe * np.exp(0.01j * (x**2 + y**2))).astype(np.complex64)
    write_dataset(tmp_path / "wrong", dataclasses.replace(scan, probe=wrong))
    for probe_start_epoch in (None, 2):
        refine(
            tmp_path / "wrong",
            tmp_path / f"{probe_start_epoch}.h5",
            Refinement(epochs=15, probe_start_epoch=probe_start_epoch),
        )
    kept, found = (read_reconstruction(tmp_path / f"{name}.h5") for name in (None, 2))
    assert np.array_equal(kept.probe, wrong)
    assert found.history["error"][-1] < 0.7 * kept.history["error"][-1]
    assert _similarity(found.probe, scan.probe) > _similarity(wrong, scan.probe)


def test_added_probe_modes_explain_a_vibrating_beam(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    vibrating = _simulated(scan, _moved(scan.probe, [(0, -1.5), (0, 0), (0, 1.5)]))
    write_dataset(tmp_path / "vibrating", vibrating)
    found = {}
    for modes in (1, 3):
        settings = {"epochs": 15, "batch_size": 8, "probe_start_epoch": 2, "probe_modes": modes}
        found[modes] = read_reconstruction(_refined(tmp_path / "vibrating", tmp_path / f"{modes}.h5", **settings))
    assert found[3].history["error"][-1] < 0.7 * found[1].history["error"][-1]
    assert found[3].probe.shape == (3, 32, 32)
    overlap = np.tensordot(found[3].probe.conj(), found[3].probe, ((1, 2), (1, 2)))
    energies = np.diag(overlap).real
    assert np.all(np.diff(energies) < 0)  # the brightest first
    assert abs(overlap - np.diag(energies)).max() < 1e-3 * energies[0]


def test_probe_modes_are_cut_to_the_number_in_the_settings(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    write_dataset(tmp_path / "two", dataclasses.replace(scan, probe=np.concatenate([scan.probe, 0.1 * scan.probe])))
    found = read_reconstruction(_refined(tmp_path / "two", tmp_path / "a.h5", epochs=1, probe_modes=1))
    assert found.probe.shape == (1, 32, 32)
    assert np.sum(np.abs(found.probe) ** 2) == pytest.approx(1.01 * np.sum(np.abs(scan.probe) ** 2), rel=1e-4)


def test_added_probe_modes_without_probe_refinement_are_refused():
    with pytest.raises(ValueError, match="set probe_start_epoch"):
        Refinement(probe_modes=2)


@pytest.mark.parametrize("name", ["probe_start_epoch", "position_start_epoch", "intensity_start_epoch"])
def test_a_start_epoch_after_the_last_epoch_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 13, but there are 12 epochs: lower it, or remove it"):
        Refinement(**{name: 13})
    assert Refinement(**{name: 12})


def test_position_correction_finds_wrong_positions(tiny_dataset, tmp_path):
    """By 2 px rms along each axis; some must be moved by many pixels."""
    scan = open_dataset(tiny_dataset)
    wrong = scan.positions + np.random.default_rng(3).normal(0, 2, scan.positions.shape)
    write_dataset(tmp_path / "wrong", dataclasses.replace(scan, positions=wrong))
    settings = {"epochs": 30, "batch_size": 8, "position_start_epoch": 3}
    found = read_reconstruction(_refined(tmp_path / "wrong", tmp_path / "a.h5", **settings))
    before, after = (_jitter(positions, scan.positions) for positions in (wrong, found.positions))
    assert before > 1.8
    assert after < 0.5 * before
    kept = read_reconstruction(
        _refined(tmp_path / "wrong", tmp_path / "b.h5", **settings | {"position_start_epoch": None})
    )
    assert found.history["error"][-1] < 0.5 * kept.history["error"][-1]
    np.testing.assert_array_equal(kept.positions, wrong)


def test_a_position_update_is_the_shift_that_the_exit_wave_update_is_made_from():
    """Twice the change of the exit wave, because half of a change shows in its modulus."""
    generator = torch.Generator().manual_seed(4)
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    windows = torch.exp(1j * torch.stack([torch.sin(y / 3 + x / 5), torch.cos(x / 4) + 0.01 * y * x]))
    probes = torch.randn(2, 3, 24, 24, dtype=torch.complex64, generator=generator)
    moves = torch.tensor([[0.1, -0.2], [0.15, 0.05]])
    slopes = [(windows.roll(-1, axis) - windows.roll(1, axis)) / 2 for axis in (-2, -1)]
    moved = sum(move[:, None, None] * slope for move, slope in zip(moves.T, slopes, strict=True))
    change = probes * moved[:, None] / 2
    steps = position_updates(total_intensity(probes), windows, (probes.conj() * change).sum(1))
    torch.testing.assert_close(steps, moves, rtol=0.05, atol=0.01)


def test_an_amplitude_step_scale_of_0_keeps_the_amplitude_and_finds_the_phase(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    contrasts, errors = [], []
    for scale in (1.0, 0.0):
        settings = {"epochs": 6, "step_size": (0.5, 0.1), "amplitude_step_scale": scale}
        path = _refined(tiny_dataset, tmp_path / f"{scale}.h5", **settings)
        found = read_reconstruction(path)
        contrasts.append(np.std(np.abs(found.object[found.coverage])))
        errors.append(_phase_error(path, scan))
    assert contrasts[1] < 0.3 * contrasts[0]
    assert errors[1] < 1.5 * errors[0]


def test_positions_move_no_farther_than_max_position_shift_px(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    wrong = scan.positions + np.random.default_rng(3).normal(0, 2, scan.positions.shape)
    write_dataset(tmp_path / "wrong", dataclasses.replace(scan, positions=wrong))
    settings = {"epochs": 8, "position_start_epoch": 1, "max_position_shift_px": 0.25}
    found = read_reconstruction(_refined(tmp_path / "wrong", tmp_path / "a.h5", **settings))
    moved = found.positions - wrong
    assert np.ptp(moved, axis=0).max() <= 0.5 + 1e-9
    np.testing.assert_allclose(moved.mean(0), 0, atol=1e-6)


def test_the_intensity_scale_of_dim_patterns_is_found(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    dim = np.random.default_rng(4).choice(len(scan), 8, replace=False)
    counts = np.array(scan.counts)
    counts[dim] = np.round(counts[dim] * 0.4)
    write_dataset(tmp_path / "flicker", dataclasses.replace(scan, counts=counts))
    settings = {"epochs": 15, "batch_size": 8}
    found = read_reconstruction(_refined(tmp_path / "flicker", tmp_path / "a.h5", intensity_start_epoch=2, **settings))
    kept = read_reconstruction(_refined(tmp_path / "flicker", tmp_path / "b.h5", **settings))
    assert set(np.argsort(found.probe_scale)[:8]) == set(dim)
    assert np.mean(found.probe_scale**2) == pytest.approx(1, abs=1e-3)
    assert found.history["error"][-1] < 0.7 * kept.history["error"][-1]
    assert kept.probe_scale is None


def test_a_converged_refinement_stops(tiny_dataset, tmp_path):
    settings = {"epochs": 40, "batch_size": 8, "step_size": (0.1, 1e-6)}
    found = read_reconstruction(_refined(tiny_dataset, tmp_path / "a.h5", **settings))
    assert found.history["epoch"][-1] < 40
    assert found.history["phase_change"][-1] < Refinement().convergence_tolerance <= max(found.history["phase_change"])
    assert found.metadata["snapshot_epochs"][-1] == found.history["epoch"][-1]
    np.testing.assert_array_equal(found.snapshots[-1], found.object)
    far = read_reconstruction(_refined(tiny_dataset, tmp_path / "b.h5", convergence_tolerance=0, **settings))
    assert far.history["epoch"][-1] == 40


def test_dense_patterns_in_one_batch_do_not_overshoot(tiny_dataset, tmp_path):
    found = read_reconstruction(_refined(tiny_dataset, tmp_path / "a.h5", epochs=20, batch_size=100))
    assert found.history["error"][-1] < found.history["error"][0]


@pytest.mark.parametrize("more", [{}, {"probe_variations": 2, "point_spread_start_epoch": 2}])
def test_an_interrupted_refinement_resumes_to_the_same_result(tiny_dataset, tmp_path, monkeypatch, more):
    settings = {"epochs": 6, "probe_start_epoch": 2, "position_start_epoch": 2, "intensity_start_epoch": 2} | more
    whole = read_reconstruction(_refined(tiny_dataset, tmp_path / "whole.h5", **settings))
    monkeypatch.setattr(resume, "EVERY_S", 0)
    epoch, done = RefinementEngine.epoch, []

    def breaking(self, *arguments, **more):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(epoch(self, *arguments, **more))
        return done[-1]

    monkeypatch.setattr(RefinementEngine, "epoch", breaking)
    with pytest.raises(KeyboardInterrupt):
        _refined(tiny_dataset, tmp_path / "broken.h5", **settings)
    monkeypatch.setattr(RefinementEngine, "epoch", epoch)
    assert not (tmp_path / "broken.h5").exists()
    _refined(
        tiny_dataset, tmp_path / "other.h5", **settings | {"seed": 1}
    )  # another refinement does not resume from it
    broken = read_reconstruction(_refined(tiny_dataset, tmp_path / "broken.h5", **settings))
    np.testing.assert_array_equal(broken.object, whole.object)
    np.testing.assert_array_equal(broken.positions, whole.positions)
    assert broken.history["error"] == whole.history["error"]
    assert broken.metadata["snapshot_epochs"] == whole.metadata["snapshot_epochs"]
    assert not list(tmp_path.glob(".*.resume"))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit(143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("place", ["_update_probe", "_remove_ambiguities"])
def test_an_interruption_within_an_epoch_saves_the_last_complete_epoch_at_once(
    tiny_dataset, tmp_path, monkeypatch, caplog, interruption, place
):
    settings = {"epochs": 4, "probe_start_epoch": 1, "position_start_epoch": 1, "intensity_start_epoch": 1}
    whole = read_reconstruction(_refined(tiny_dataset, tmp_path / "whole.h5", **settings))
    caplog.set_level("INFO", "ptychoflow")
    method, calls = getattr(RefinementEngine, place), {"_update_probe": 7 * 2 + 3, "_remove_ambiguities": 2}
    counter = iter(range(1000))

    def interrupted(self, *arguments):
        result = method(self, *arguments)
        if next(counter) == calls[place]:
            raise interruption
        return result

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        patch.setattr(RefinementEngine, place, interrupted)
        _refined(tiny_dataset, tmp_path / "broken.h5", **settings)
    assert "interrupted after epoch 2: saved its state" in caplog.text
    broken = read_reconstruction(_refined(tiny_dataset, tmp_path / "broken.h5", **settings))
    assert "resuming from epoch 2" in caplog.text
    np.testing.assert_array_equal(broken.object, whole.object)
    np.testing.assert_array_equal(broken.positions, whole.positions)
    np.testing.assert_array_equal(broken.probe_scale, whole.probe_scale)
    assert broken.history["error"] == whole.history["error"]


def test_a_state_of_other_settings_or_a_damaged_one_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "EVERY_S", 0)
    resume.ResumableState(tmp_path / "a.h5", {"seed": 1}).save({"x": 1})
    assert resume.ResumableState(tmp_path / "a.h5", {"seed": 1}).read() == {"x": 1}
    assert resume.ResumableState(tmp_path / "a.h5", {"seed": 2}).read() is None
    resume.ResumableState(tmp_path / "a.h5", {}).path.write_bytes(b"damaged")
    assert resume.ResumableState(tmp_path / "a.h5", {"seed": 1}).read() is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state["engine"].pop("probe"), "probe of the state is not torch.complex64"),
        (lambda state: state["engine"].update(object=torch.ones(3, 3)), "object of the state is not"),
        (lambda state: state["engine"]["object"].fill_(torch.nan), "object of the state holds NaN"),
        (lambda state: state["engine"]["positions"].fill_(1e9), "positions"),
        (lambda state: state["engine"]["generator"].fill_(255), "generator|RNG|state"),
        (lambda state: state["history"].update(error=["a", "b"]), "history of the state"),
        (lambda state: state["history"]["epoch"].append(10**9), "history of the state"),
        (lambda state: state["snapshots"].pop(), "snapshots of the state"),
        (lambda state: state.pop("snapshots"), "lacks parts"),
        (None, "changed since it was written|cannot be read"),
    ],
)
def test_an_unusable_state_is_set_aside_and_the_refinement_begins_anew(
    tiny_dataset, tmp_path, monkeypatch, caplog, change, reason
):
    settings = {"epochs": 3, "probe_start_epoch": 1, "position_start_epoch": 2}
    monkeypatch.setattr(resume, "EVERY_S", 0)
    state = tmp_path / ".a.h5.resume"

    def stop(row):
        if row["epoch"] == 3:
            shutil.copy(state, tmp_path / "state")
        return True

    refine(tiny_dataset, tmp_path / "a.h5", Refinement(**settings), None, Runtime(accelerator="cpu"), stop)
    whole = read_reconstruction(tmp_path / "a.h5")
    content = torch.load(tmp_path / "state", weights_only=True)
    if change is None:
        content["state"]["engine"]["probe"] += 1e-3
        torch.save(content, state)
    else:
        change(content["state"])
        write_tensors(state, content)
    _refined(tiny_dataset, tmp_path / "a.h5", **settings)
    assert re.search(rf"cannot resume \(.*({reason}).*\): moved to \.a\.h5\.resume\.unusable, starting", caplog.text)
    np.testing.assert_array_equal(read_reconstruction(tmp_path / "a.h5").object, whole.object)
    assert (tmp_path / ".a.h5.resume.unusable").is_file() and not state.exists()


def test_a_full_disk_gives_one_line_and_leaves_what_was_there(tiny_dataset, tmp_path, mount):
    disk = mount("disk", "size=64k")
    (disk / "r.h5").write_text("earlier")
    command = [sys.executable, "-m", "ptychoflow", "refine", tiny_dataset, disk / "r.h5", "--force"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 2, "HDF5 that could not write crashes at the end of the process"
    assert "ptychoflow refine:" in done.stderr and "r.h5 does not fit on the disk" in done.stderr.splitlines()[-1]
    assert [path.read_text() for path in disk.iterdir()] == ["earlier"]


def test_a_refined_start_gives_its_probe_positions_and_intensity_scale(tiny_dataset, tmp_path):
    settings = {"epochs": 10, "probe_start_epoch": 2, "position_start_epoch": 2, "intensity_start_epoch": 2}
    first = read_reconstruction(_refined(tiny_dataset, tmp_path / "a.h5", **settings))
    refine(tiny_dataset, tmp_path / "b.h5", Refinement(epochs=1, step_size=(1e-6, 1e-6)), start=tmp_path / "a.h5")
    again = read_reconstruction(tmp_path / "b.h5")
    np.testing.assert_array_equal(again.probe, first.probe)
    np.testing.assert_array_equal(again.positions, first.positions)
    np.testing.assert_array_equal(again.probe_scale, first.probe_scale)
    assert again.history["error"][0] < 1.2 * first.history["error"][-1]


@pytest.mark.parametrize("coordinate", [float("nan"), -1e6, 1e6])
def test_a_position_that_leaves_the_object_is_refused_before_the_kernels_read_there(tiny_dataset, coordinate):
    engine = RefinementEngine(open_dataset(tiny_dataset), Refinement())
    state = engine.state()
    state["positions"] = state["positions"].clone()
    state["positions"][3, 1] = coordinate
    with pytest.raises(ValueError, match="left the object canvas or became NaN"):
        engine.resume(state)


@pytest.mark.parametrize("batch_size", [16, 11])  # the last batch of 11 is a single pattern
def test_two_ranks_refine_as_one_does(tiny_dataset, tmp_path, batch_size):
    settings = {
        "epochs": 3,
        "probe_start_epoch": 2,
        "position_start_epoch": 2,
        "intensity_start_epoch": 3,
        "batch_size": batch_size,
    }
    _refined(tiny_dataset, tmp_path / "one.h5", **settings)
    command = [sys.executable, "-m", "ptychoflow", "refine", str(tiny_dataset), str(tmp_path / "two.h5")]
    command += ["--config", json.dumps({"refinement": settings}), "--runtime", '{"accelerator": "cpu", "devices": 2}']
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, timeout=120, env=environment, capture_output=True, text=True)
    assert [line.split()[2] for line in done.stderr.splitlines()] == ["read", "refined"], (
        "both ranks log, or Lightning does too"
    )
    one, two = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("one", "two"))
    assert two.metadata["devices"] == 2
    assert abs(one.object - two.object).max() < 1e-3
    assert abs(one.positions - two.positions).max() < 1e-3
    np.testing.assert_allclose(one.history["error"], two.history["error"], rtol=1e-4)


def test_two_ranks_refine_the_terms_of_an_instrument_as_one_does(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    mask = np.ones((32, 32), bool)
    mask[0, 0] = False
    write_dataset(tmp_path / "masked", dataclasses.replace(scan, mask=mask))
    settings = {
        **{"epochs": 4, "probe_start_epoch": 1, "probe_variations": 2, "probe_variation_start_epoch": 2},
        **{"background_start_epoch": 2, "point_spread_start_epoch": 3, "intensity_start_epoch": 3},
        **{"constraints": {"amplitude_at_most_one": 0.5, "probe_power": 1.0}},
    }
    _refined(tmp_path / "masked", tmp_path / "one.h5", **settings)
    command = [sys.executable, "-m", "ptychoflow", "refine", str(tmp_path / "masked"), str(tmp_path / "two.h5")]
    command += ["--config", json.dumps({"refinement": settings}), "--runtime", '{"accelerator": "cpu", "devices": 2}']
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, timeout=120, env=environment, capture_output=True)
    one, two = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("one", "two"))
    assert abs(one.object - two.object).max() < 1e-2
    np.testing.assert_allclose(one.history["error"], two.history["error"], rtol=1e-3)
    np.testing.assert_allclose(one.instrument.background, two.instrument.background, atol=0.05)
    assert one.instrument.point_spread_px == pytest.approx(two.instrument.point_spread_px, rel=1e-2)
    probes = (np.tensordot(i.variation_weights, i.probe_variations, 1) for i in (one.instrument, two.instrument))
    first, second = probes
    assert np.linalg.norm(first - second) < 0.05 * np.linalg.norm(first)


def test_a_missing_gpu_is_an_error(tiny_dataset, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        refine(tiny_dataset, tmp_path / "a.h5", Refinement(epochs=1), runtime=Runtime(accelerator="gpu"))


@pytest.mark.parametrize(
    "settings",
    [
        {"probe_start_epoch": 2, "position_start_epoch": 2, "intensity_start_epoch": 3, "probe_modes": 2},
        {"amplitude_step_scale": 0.5, "uncertainty": True},
        {
            "probe_start_epoch": 1,
            "probe_variations": 2,
            "point_spread_start_epoch": 2,
            "constraints": {"low_pass": 0.1},
        },
    ],
)
def test_a_gpu_refines_as_the_cpu_does(gpu, tiny_dataset, tmp_path, settings):
    for kind in ("cpu", "gpu"):
        refine(
            tiny_dataset, tmp_path / f"{kind}.h5", Refinement(epochs=3, **settings), runtime=Runtime(accelerator=kind)
        )
    by_cpu, by_gpu = (read_reconstruction(tmp_path / f"{kind}.h5") for kind in ("cpu", "gpu"))
    np.testing.assert_allclose(by_gpu.history["error"], by_cpu.history["error"], rtol=1e-3)
    if by_cpu.phase_uncertainty is not None:
        np.testing.assert_allclose(by_gpu.phase_uncertainty, by_cpu.phase_uncertainty, rtol=1e-2)


def test_a_gpu_that_runs_out_of_memory_is_an_error_with_a_remedy(simulated_gpu, tiny_dataset, tmp_path):
    simulated_gpu.largest = 1e5
    with pytest.raises(ValueError, match=r"^CUDA out of memory[^:]*: set runtime.accelerator to cpu"):
        refine(tiny_dataset, tmp_path / "a.h5", Refinement(epochs=1), runtime=Runtime(accelerator="gpu"))
    assert not (tmp_path / "a.h5").exists()


def test_no_step_waits_for_the_gpu(simulated_gpu, tiny_dataset):
    free = {"probe_start_epoch": 1, "position_start_epoch": 1, "intensity_start_epoch": 1, "probe_modes": 2}
    for batch_size in (5, 50):
        settings = Refinement(batch_size=batch_size, **free)
        engine = RefinementEngine(open_dataset(tiny_dataset), settings, ctx=DistributedContext("cuda"))
        simulated_gpu.forget()
        engine.epoch(RefinedVariables.in_epoch(1, settings))
        assert len(simulated_gpu.waits) == 5, (
            "copied to the device: the order; back: error, phase change, products of modes, extent of the positions"
        )


def test_masked_pixels_do_not_matter(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    mask = np.ones((scan.size, scan.size), bool)
    mask[5:8, 20:25] = False
    spoilt = np.where(mask, scan.counts, 60000).astype(np.uint16)
    clean = np.where(mask, scan.counts, 0).astype(np.uint16)
    for name, counts in (("spoilt", spoilt), ("clean", clean)):
        write_dataset(tmp_path / name, dataclasses.replace(scan, counts=counts, mask=mask))
        refine(tmp_path / name, tmp_path / f"{name}.h5", Refinement(epochs=2))
    spoilt, clean = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("spoilt", "clean"))
    np.testing.assert_array_equal(spoilt.object, clean.object)


def test_snapshots_begin_with_the_start_and_end_with_the_result(tiny_dataset, tmp_path):
    found = read_reconstruction(_refined(tiny_dataset, tmp_path / "a.h5", epochs=4))
    assert found.metadata["snapshot_epochs"] == [0, 1, 2, 3, 4]
    assert np.all(found.snapshots[0] == 1)
    np.testing.assert_array_equal(found.snapshots[-1], found.object)


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (5e-8, ValueError, r"all 100 positions of odd lie within .* px of .*: check the positions and their unit"),
        (
            1e5,
            OSError,
            r"an object of \d+ x \d+ px needs .* GiB of memory are available: .* check the unit of the positions",
        ),
    ],
)
def test_positions_in_another_unit_are_refused(tiny_dataset, tmp_path, scale, error, message):
    scan = open_dataset(tiny_dataset)
    write_dataset(tmp_path / "odd", dataclasses.replace(scan, positions=scan.positions * scale, truth=None, name="odd"))
    with pytest.raises(error, match=message):
        _refined(tmp_path / "odd", tmp_path / "r.h5", epochs=1)
    assert not (tmp_path / "r.h5").exists()


def test_isolated_patterns_are_warned_about(tiny_dataset, tmp_path, caplog):
    scan = open_dataset(tiny_dataset)
    positions = scan.positions + np.where(np.arange(100)[:, None] < 97, 0, (60, 0))
    positions[98] += (0, 40)
    positions[99] += (40, 0)
    apart = dataclasses.replace(scan, positions=positions, truth=None, name="apart")
    write_dataset(tmp_path / "apart", apart)
    _refined(tiny_dataset, tmp_path / "r.h5", epochs=1)
    assert "do not overlap" not in caplog.text
    _refined(tmp_path / "apart", tmp_path / "r.h5", epochs=1)
    assert "3 of 100 patterns of apart do not overlap any other pattern" in caplog.text


@pytest.mark.parametrize(("photons", "warned"), [(None, True), (20, False)])
def test_low_count_patterns_are_warned_about(tiny_dataset, tmp_path, caplog, photons, warned):
    scan = open_dataset(tiny_dataset)
    counts = np.array(scan.counts)
    if photons is not None:  # so few that some patterns have next to none
        counts = np.random.default_rng(0).poisson(counts * (photons / counts.sum((1, 2)).mean()))
    counts[[7, 30]] = 0
    write_dataset(tmp_path / "lost", dataclasses.replace(scan, counts=counts, name="lost"))
    _refined(tmp_path / "lost", tmp_path / "r.h5", epochs=1)
    assert ("2 of 100 patterns of lost have < 1 % of the median counts" in caplog.text) == warned
    assert ("the first is number 7:" in caplog.text) == warned


def test_counts_that_are_all_masked_are_refused(tiny_dataset, tmp_path):
    scan, mask = open_dataset(tiny_dataset), np.zeros((32, 32), bool)
    mask[0, 0] = True
    dark = dataclasses.replace(scan, counts=np.where(mask, 0, scan.counts), mask=mask, name="dark")
    write_dataset(tmp_path / "dark", dark)
    with pytest.raises(ValueError, match="dark holds no photon where its mask is True: correct the mask"):
        _refined(tmp_path / "dark", tmp_path / "r.h5", epochs=1)


def test_a_start_of_another_scan_is_refused(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    _refined(tiny_dataset, tmp_path / "a.h5", epochs=1)
    write_dataset(tmp_path / "moved", dataclasses.replace(scan, positions=scan.positions + 50))
    coarse = dataclasses.replace(scan.geometry, pixel_size_m=2 * scan.geometry.pixel_size_m)
    write_dataset(tmp_path / "coarse", dataclasses.replace(scan, geometry=coarse))
    for name, message in {
        "moved": "positions of the start lie up to 50 px from those of blobs: give a reconstruction of this scan",
        "coarse": "the start has pixels of 5e-08 m, blobs of 1e-07 m: give a reconstruction of this scan",
    }.items():
        with pytest.raises(ValueError, match=message):
            refine(tmp_path / name, tmp_path / "b.h5", Refinement(epochs=1), start=tmp_path / "a.h5")
    assert not (tmp_path / "b.h5").exists()


def test_a_start_that_does_not_reach_under_all_patterns_is_refused(tiny_dataset, tmp_path):
    _refined(tiny_dataset, tmp_path / "a.h5", epochs=1)
    found = read_reconstruction(tmp_path / "a.h5")
    cut = {name: getattr(found, name)[:-20] for name in ("object", "weight", "coverage")}
    write_reconstruction(tmp_path / "cut.h5", dataclasses.replace(found, snapshots=None, **cut))
    with pytest.raises(ValueError, match="does not hold all windows of blobs"):
        refine(tiny_dataset, tmp_path / "b.h5", Refinement(epochs=1), start=tmp_path / "cut.h5")


def test_a_start_from_another_dataset_is_warned_about(tiny_dataset, tmp_path, caplog):
    scan = open_dataset(tiny_dataset)
    _refined(tiny_dataset, tmp_path / "a.h5", epochs=1)
    write_dataset(tmp_path / "later", dataclasses.replace(scan, counts=scan.counts[::-1], name="later"))
    for dataset, warned in ((tiny_dataset, False), (tmp_path / "later", True)):
        caplog.clear()
        refine(dataset, tmp_path / "b.h5", Refinement(epochs=1), start=tmp_path / "a.h5")
        assert (f"a.h5 was made from another dataset than {dataset} (blobs)" in caplog.text) == warned


def _simulated(scan: Scan, probe: np.ndarray) -> Scan:
    """The scan as another beam would have measured it, without noise."""
    truth = scan.truth
    expected = expected_patterns(np.asarray(truth.object), truth.origin, probe, scan.positions)
    return dataclasses.replace(scan, counts=np.concatenate(list(expected)))


def _moved(probe: np.ndarray, shifts: list[tuple[float, float]]) -> np.ndarray:
    """Modes of a beam that spends equal times at each shift, px."""
    waves = shift_probe(torch.from_numpy(probe), torch.tensor(shifts, dtype=torch.float64))
    return waves[:, 0].numpy() / np.sqrt(len(shifts))


def _jitter(positions: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square deviation along an axis, px, blind to a common shift."""
    off = positions - truth
    return float(np.sqrt(np.mean((off - off.mean(0)) ** 2)))


def _refined(dataset, path, **settings):
    refine(dataset, path, Refinement(**settings))
    return path


def _similarity(a, b) -> float:
    """Normalised overlap of two probes, blind to phase and scale."""
    return float(np.abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))
