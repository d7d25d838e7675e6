"""Checkpoints of interrupted trainings: their folder, and when ranks ask each other whether to save one."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ptychoflow.training.checkpointing import POLL_EVERY, IntervalCheckpoint, LastCheckpoint, checkpoint_dir


def test_a_checkpoint_belongs_to_one_recipe(tmp_path):
    output = tmp_path / "results" / "networks" / "pinn.ckpt"
    first = checkpoint_dir(output, {"config": {"a": 1, "b": 2}})
    assert first.parent == tmp_path / "results" / "checkpoints" / "pinn"
    assert first == checkpoint_dir(output, {"config": {"b": 2, "a": 1}})
    assert first != checkpoint_dir(output, {"config": {"a": 1, "b": 3}})


def _polls(state: LastCheckpoint | IntervalCheckpoint, processes: int, device: str, batches: int) -> list[int]:
    """Return the batches of an epoch after which this rank asks the others."""
    polls = []
    strategy = SimpleNamespace(
        reduce_boolean_decision=lambda stop, all: polls.append(batch),
        broadcast=lambda skip: polls.append(batch) or True,
    )
    trainer = SimpleNamespace(
        world_size=processes, num_training_batches=batches, strategy=strategy, fast_dev_run=False, global_step=1,
        state=SimpleNamespace(fn="fit"), sanity_checking=False,
    )  # fmt: skip
    for batch in range(batches):
        state.on_train_batch_end(
            trainer, SimpleNamespace(device=torch.device(device), automatic_optimization=True), None, None, batch
        )
    return polls


@pytest.mark.parametrize("kind", [LastCheckpoint, lambda folder: IntervalCheckpoint(folder, minutes=30)])
def test_ranks_on_gpus_ask_each_other_now_and_then_because_they_wait(tmp_path, kind):
    batches = 2 * POLL_EVERY
    assert _polls(kind(tmp_path), 2, "cuda", batches) == [POLL_EVERY - 1]
    assert _polls(kind(tmp_path), 2, "cpu", batches) == list(range(batches - 1))


def test_a_process_alone_stops_after_the_step_in_which_it_received_sigterm(tmp_path):
    state = LastCheckpoint(tmp_path)
    assert _polls(state, 1, "cuda", 5) == []
    state._on_sigterm()
    with pytest.raises(SIGTERMException):
        _polls(state, 1, "cuda", 5)
