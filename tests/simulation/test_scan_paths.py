"""Paths stay inside, have the step asked for, and remember where the beam should have been."""

import typing

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ptychoflow.config import ConfigError, Trajectory, validate
from ptychoflow.simulation.rng import seeded_rng
from ptychoflow.simulation.scan_paths import TRAJECTORIES, exposure_points, make_trajectory

SHAPE, SIZE = (200, 260), 32
GENERATED = [name for name in TRAJECTORIES if name != "file"]


def _make(name: str = "raster", seed: int = 0, **settings) -> tuple[np.ndarray, np.ndarray]:
    return make_trajectory(Trajectory(name=name, **settings), SHAPE, SIZE, 20.0, seeded_rng(seed, "trajectory"))


def _inside(positions: np.ndarray) -> bool:
    return bool((positions >= SIZE // 2).all() and (positions <= np.array(SHAPE) - SIZE // 2).all())


def test_every_name_of_the_config_has_a_path():
    assert set(typing.get_args(Trajectory.model_fields["name"].annotation)) == set(TRAJECTORIES)


@pytest.mark.parametrize("name", GENERATED)
@pytest.mark.parametrize("step", [3.0, 8.0, 30.0])
def test_every_patch_lies_inside_and_one_step_squared_holds_one_position(name, step):
    nominal, true = _make(name, step_px=step)
    assert np.array_equal(nominal, true)
    assert nominal.dtype == np.float64
    assert _inside(nominal)
    area = np.prod(np.array(SHAPE) - SIZE)
    assert len(nominal) == pytest.approx(area / step**2, rel=0.35 if step > 20 else 0.12)


@pytest.mark.parametrize("name", GENERATED)
def test_neighbours_are_about_a_step_apart(name):
    positions = _make(name, step_px=8.0)[0]
    nearest = cKDTree(positions).query(positions, k=2)[0][:, 1]
    assert np.median(nearest) == pytest.approx(8, rel=0.3)


def test_a_raster_is_regular_and_a_jittered_one_stays_within_its_jitter():
    regular, jittered = _make("raster")[0], _make("jittered_raster", jitter_px=1.5)[0]
    steps = np.unique(np.diff(regular[:, 1]).round(9))
    assert 8.0 in steps
    assert len(steps) == 2  # along a row, and back to the next
    offset = np.diff(jittered[:, 1])
    assert abs(offset[offset > 0] - 8).max() <= 3.0
    assert np.ptp(offset[offset > 0]) > 1


def test_overlap_is_of_the_beam():
    by_overlap, by_step = _make("raster", overlap_percent=60)[0], _make("raster", step_px=8.0)[0]
    np.testing.assert_allclose(by_overlap, by_step)  # 20 px of beam


@pytest.mark.parametrize("name", GENERATED)
def test_errors_are_recorded_and_as_large_as_asked(name):
    nominal, true = _make(name, step_px=4.0, error_px=1.0)
    inner = (abs(true - np.array(SHAPE) / 2) < np.array(SHAPE) / 2 - SIZE // 2 - 5).all(1)
    assert (true - nominal)[inner].std() == pytest.approx(1.0, rel=0.1)
    assert _inside(nominal)
    assert _inside(true)


def test_a_drift_is_straight_and_as_long_as_asked():
    nominal, true = _make("fermat", drift_px=3.0, step_px=20.0)
    away = (true - nominal)[1:-1]
    middle = away[len(away) // 4 : len(away) // 2]
    assert np.linalg.matrix_rank(middle - middle.mean(0), tol=1e-6) == 1
    nominal, true = make_trajectory(
        Trajectory(name="raster", drift_px=3.0), (400, 400), SIZE, 20.0, seeded_rng(0, "trajectory")
    )
    assert np.hypot(*((true - nominal).max(0) - (true - nominal).min(0))) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("name", ["jittered_raster"])
def test_a_seed_gives_one_path_and_another_seed_another(name):
    assert np.array_equal(_make(name, seed=1)[0], _make(name, seed=1)[0])
    assert not np.array_equal(_make(name, seed=1)[0], _make(name, seed=2)[0])


def test_a_fly_scan_moves_along_x_around_its_position_and_stays_inside():
    fly = Trajectory(name="raster", fly_scan_length_px=6.0, fly_scan_samples=3)
    np.testing.assert_allclose(exposure_points(fly), [[0, -2], [0, 0], [0, 2]])
    positions = make_trajectory(fly, SHAPE, SIZE, 20.0, seeded_rng(0, "trajectory"))[1]
    assert _inside(positions + np.array([0, 3]))
    assert _inside(positions - np.array([0, 3]))
    assert exposure_points(Trajectory()).tolist() == [[0, 0]]


@pytest.mark.parametrize("suffix", ["npy", "csv", "txt"])
def test_positions_come_from_a_file_in_its_order(tmp_path, suffix):
    positions = np.array([[20.5, 30.25], [150.0, 40.0], [16.0, 244.0]])
    path = tmp_path / f"positions.{suffix}"
    np.save(path, positions) if suffix == "npy" else np.savetxt(
        path, positions, delimiter="," if suffix == "csv" else " "
    )
    assert np.array_equal(_make("file", file=str(path))[0], positions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("10 20 30\n", "expected two columns of finite numbers"),
        ("a b\n", "expected two columns of numbers"),
        ("", "expected two columns"),
        ("nan 20\n", "expected two columns of finite"),
        ("20 30\n15.9 30\n", r"1 of 2 positions in .* lie outside, the first is \(15\.9, 30\.0\), expected"),
        ("20 30\n20 250\n", "1 of 2 positions"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "positions.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"simulation\.trajectory\.file: .*" + message):
        _make("file", file=str(path))


def test_a_missing_file_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"simulation\.trajectory\.file: file not found"):
        _make("file", file="nothing.csv")


def test_an_object_too_small_is_an_error_that_names_its_setting():
    with pytest.raises(ValueError, match=r"simulation\.object\.size is \[30, 80\] px, too small for the 32 px"):
        make_trajectory(Trajectory(), (30, 80), SIZE, 20.0, seeded_rng(0, "trajectory"))


def test_an_object_as_large_as_the_probe_holds_one_position():
    nominal, _ = make_trajectory(Trajectory(), (SIZE, SIZE), SIZE, 20.0, seeded_rng(0, "trajectory"))
    assert nominal.tolist() == [[SIZE // 2, SIZE // 2]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_px": 0}, "step_px: input should be greater than 0"),
        ({"step_px": 4, "overlap_percent": 50}, "give step_px or overlap_percent, not both"),
        ({"overlap_percent": 100}, "overlap_percent: input should be less than 100"),
        ({"name": "raster", "jitter_px": 1}, "jitter_px acts on jittered_raster, not on raster"),
        ({"name": "file"}, "file is missing"),
        ({"name": "spiral"}, "name: input should be 'raster'"),
    ],
)
def test_a_bad_request_names_its_field(settings, message):
    with pytest.raises(ConfigError, match=message):
        validate(Trajectory, settings)
