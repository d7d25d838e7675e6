"""Tests of the curves of a report."""

from types import SimpleNamespace

from ptychoflow.reporting.curves import progress_charts


def _result(**progress):
    snapshots = {"epoch": [0], "seconds": [0], "cpu_seconds": [0], "phase_psnr": [10.0]}
    columns = {"cpu_seconds": [1.0, 2.0], "r_factor": [0.3, 0.2], "snapshots": snapshots}
    metrics = {"progress": columns | progress}
    return SimpleNamespace(method="rpie", from_network=False, stages=["refined"], metrics=metrics)


def test_the_held_out_curve_lies_beside_that_of_the_other_pixels():
    r_factor = progress_charts([_result(held_out_r_factor=[0.35, 0.4])])[1]
    training, held_out = r_factor.series
    assert "held-out" in held_out.name
    assert held_out.dashed
    assert list(held_out.y) == [0.35, 0.4]
    assert list(training.x) == list(held_out.x)
    assert training.colour == held_out.colour


def test_without_held_out_pixels_there_is_one_curve():
    assert len(progress_charts([_result()])[1].series) == 1
