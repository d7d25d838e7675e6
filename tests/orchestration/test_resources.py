"""What is asked of a scheduler grows with the inputs and with each attempt."""

import pytest

from ptychoflow.config import IN_ONE, READS
from ptychoflow.orchestration.resources import RESOURCES, memory_mb, minutes, size_mb


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "counts.npy").write_bytes(bytes(3_000_000))
    (tmp_path / "model.ckpt").write_bytes(bytes(1_000_000))
    return [tmp_path / "dataset", tmp_path / "model.ckpt"]


def test_every_step_is_estimated():
    assert set(RESOURCES) == {*READS, *IN_ONE}


def test_folders_count_with_what_is_in_them(inputs):
    assert size_mb(inputs) == pytest.approx(4.0)


@pytest.mark.parametrize("step", READS)
def test_larger_inputs_need_more(inputs, step):
    (inputs[1]).write_bytes(bytes(500_000_000))
    assert memory_mb(step, inputs) > memory_mb(step, inputs[:1])
    assert minutes(step, inputs) > minutes(step, inputs[:1])


@pytest.mark.parametrize("step", READS)
def test_another_attempt_asks_for_more(inputs, step):
    for ask in (memory_mb, minutes):
        first, second, third = (ask(step, inputs, attempt) for attempt in (1, 2, 3))
        assert first < second < third


def test_a_refinement_of_any_size_can_be_scheduled(tmp_path):
    """A dataset of 5 GB, as a sparse file: counts stay on disk."""
    with (tmp_path / "counts.npy").open("wb") as file:
        file.truncate(5_000_000_000)
    assert memory_mb("refine", [tmp_path / "counts.npy"]) < 8000
    assert memory_mb("evaluate", [tmp_path / "counts.npy"]) < 8000
    assert minutes("refine", [tmp_path / "counts.npy"]) < 12 * 60


def test_memory_is_asked_for_in_hundreds(inputs):
    assert memory_mb("pack", inputs) % 100 == 0


def test_inputs_that_are_not_there_yet_are_estimated_later(tmp_path):
    with pytest.raises(FileNotFoundError):
        memory_mb("pack", [tmp_path / "later.cxi"])
