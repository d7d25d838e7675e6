"""Training and validation share no pattern, however a scan is split and however groups are formed."""

from dataclasses import replace

import numpy as np
import pytest

from ptychoflow.config import Grouping, Runtime, Training, Validation
from ptychoflow.data.datamodule import TrainingData
from ptychoflow.data.validation_split import block, split


@pytest.fixture
def positions() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 100, (200, 2))


@pytest.fixture
def wide(scan, positions):
    """Three scans of 200 patterns."""
    counts = np.resize(scan.counts, (200, 32, 32))
    return [
        replace(scan, counts=counts, positions=positions + shift, name=name, truth=None)
        for name, shift in (("a", 0), ("b", 7), ("c", -3))
    ]


SPLITS = {
    "block": Validation(fraction=0.2),
    "region": Validation(split="region", y_bounds=(0.7, 1.0), x_bounds=(0.0, 0.8)),
    "scan": Validation(split="scan", scans=("b",)),
    "margin": Validation(fraction=0.2, margin_px=8),
}
METHODS = {
    "nearest": Grouping(),
    "min_distance": Grouping(method="min_distance", min_distance_px=5, max_distance_px=25),
    "quadrant": Grouping(method="quadrant", k_nearest=20, x_bounds=(0.1, 0.9)),
}


@pytest.mark.parametrize("validation", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("grouping", METHODS.values(), ids=METHODS)
def test_no_pattern_is_in_both_in_any_epoch(wide, validation, grouping):
    data = TrainingData(wide, 4, Training(validation=validation, grouping=grouping, supervision="amplitude"), Runtime())
    held = {(row[0], member) for row in data.validation_rows.tolist() for member in row[1:]}
    sampler, trained = data.sampler(), set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        trained |= {(row[0], member) for row in sampler.rows().tolist() for member in row[1:]}
    assert held and trained and not held & trained


def test_the_block_is_compact_and_has_the_share_asked_for(positions):
    is_held = block(positions, 0.1, 5, seed=0)
    assert is_held.sum() == 20
    low, high = positions[is_held].min(0), positions[is_held].max(0)
    np.testing.assert_array_equal(((positions >= low) & (positions <= high)).all(1), is_held)


def test_the_seed_places_the_block(positions):
    assert (block(positions, 0.1, 5, seed=0) != block(positions, 0.1, 5, seed=1)).any()


def test_nothing_is_held_out_where_nothing_is_asked(positions):
    assert not block(positions, 0.0, 5, seed=0).any()


def test_a_small_scan_still_holds_out_enough_for_a_few_groups(positions):
    assert block(positions, 0.001, 8, seed=0).sum() == 8


def test_a_region_is_the_same_part_of_every_scan(wide):
    for scan, part in zip(wide, split(wide, SPLITS["region"], 8, 0), strict=True):
        low, high = scan.positions.min(0), scan.positions.max(0)
        share = (scan.positions - low) / (high - low)
        np.testing.assert_array_equal(part.validation, np.flatnonzero((share[:, 0] >= 0.7) & (share[:, 1] <= 0.8)))
        assert len(part.train) + len(part.validation) == 200


def test_a_scan_to_validate_on_is_not_trained_on_and_the_others_wholly(wide):
    data = TrainingData(wide, 4, Training(validation=SPLITS["scan"], supervision="amplitude"), Runtime())
    assert set(data.sampler().rows()[:, 0]) == {0, 2} and set(data.validation_rows[:, 0]) == {1}
    assert data.neighbourhoods[1] is None
    counts = data.counts_of_groups()
    assert [counts[name]["training"] for name in "abc"] == [200, 0, 200]
    assert [counts[name]["validation"] for name in "abc"] == [0, 200, 0]


def test_a_margin_keeps_training_away_and_is_counted(wide):
    with_margin = split(wide, SPLITS["margin"], 8, 0)
    for scan, part, bare in zip(wide, with_margin, split(wide, SPLITS["block"], 8, 0), strict=True):
        np.testing.assert_array_equal(part.validation, bare.validation)
        gap = np.linalg.norm(scan.positions[part.train][:, None] - scan.positions[part.validation], axis=2)
        assert gap.min() >= 8
        assert part.margin == 200 - len(part.train) - len(part.validation) > 0
    data = TrainingData(wide, 4, Training(validation=SPLITS["margin"], supervision="amplitude"), Runtime())
    for name, part in zip("abc", with_margin, strict=True):
        assert data.counts_of_groups()[name]["rejected"] == {"near a pattern to validate on": part.margin}


def test_an_unknown_scan_is_refused(wide):
    with pytest.raises(ValueError, match=r"validation\.scans: no such scan: moon; name some of a, b, c"):
        split(wide, Validation(split="scan", scans=("a", "moon")), 8, 0)


def test_nothing_left_to_train_on_is_refused(wide):
    with pytest.raises(ValueError, match="leaves no pattern to train on"):
        split(wide, Validation(split="scan", scans=("a", "b", "c")), 8, 0)


def test_a_number_is_short_for_a_fraction_and_scans_go_with_scan():
    assert Training.model_validate({"validation": 0.2}).validation == Validation(fraction=0.2)
    region = {"split": "region", "fraction": 0.3}
    for wrong in ({"split": "scan"}, {"scans": ["a"]}, 1.5, {"x_bounds": [0.8, 0.2]}, {"x_bounds": [0.2, 0.8]}, region):
        with pytest.raises(ValueError, match=r"split: scan|less than 1|expected|x_bounds acts|fraction acts"):
            Training.model_validate({"validation": wrong})
