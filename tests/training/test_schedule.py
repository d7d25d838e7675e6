"""The schedule of training, against the table of PHYSICS.md section 3."""

import math

import pytest

from ptychoflow.config import Stage
from ptychoflow.training.schedule import lr_factor, physics_weight, stage_at, total_epochs

SUPERVISED = Stage(epochs=2, physics_weight=0.0)
PHYSICS = Stage(epochs=3, physics_weight=1.0, lr_factor=0.1)


def _three(ramp: str) -> tuple[Stage, ...]:
    return SUPERVISED, Stage(epochs=4, physics_weight=ramp, lr_factor=0.1), PHYSICS


@pytest.mark.parametrize(
    ("ramp", "at"),
    [
        ("linear", lambda p: p),
        ("cosine", lambda p: (1 - math.cos(math.pi * p)) / 2),
        ("exponential", lambda p: p**2),
    ],
)
def test_the_physics_weight_is_0_then_the_ramp_then_1(ramp, at):
    stages = _three(ramp)
    assert total_epochs(stages) == 9
    expected = [0, 0, at(0), at(0.25), at(0.5), at(0.75), 1, 1, 1]
    assert [physics_weight(stages, epoch) for epoch in range(9)] == pytest.approx(expected)


def test_the_rate_follows_the_ramp_and_stays_where_nothing_anneals():
    rates = [lr_factor(_three("linear"), epoch, warmup_fraction=0, final_lr_fraction=1) for epoch in range(9)]
    assert rates == pytest.approx([1, 1, 1, 0.775, 0.55, 0.325, 0.1, 0.1, 0.1])


def test_the_rate_warms_up_and_falls_as_a_cosine():
    def rate(epoch):
        return lr_factor((Stage(epochs=10),), epoch, warmup_fraction=0.2, final_lr_fraction=0.01)

    assert [rate(0), rate(1), rate(2)] == pytest.approx([0, 0.5, 1])
    assert rate(6) == pytest.approx((1 + 0.01) / 2)
    assert rate(10) == rate(11) == pytest.approx(0.01)


def test_a_constant_weight_holds_at_any_value():
    stages = (Stage(epochs=2, physics_weight=0.3),)
    assert {physics_weight(stages, epoch) for epoch in (0, 0.5, 1.99, 2, 7)} == {0.3}


def test_the_end_of_the_last_stage_lasts():
    assert stage_at(_three("linear"), 3.0) == (1, 0.25)
    assert stage_at(_three("linear"), 100) == (2, 1.0)
