"""States of unfinished trainings: where they lie, and when processes look whether to keep one."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ptychoflow.training.checkpointing import LOOK_EVERY, IntervalCheckpoint, LastCheckpoint, checkpoint_dir


def test_a_half_trained_state_belongs_to_one_recipe(tmp_path):
    output = tmp_path / "results" / "models" / "pinn.ckpt"
    first = checkpoint_dir(output, {"config": {"a": 1, "b": 2}})
    assert first.parent == tmp_path / "results" / "checkpoints" / "pinn"
    assert first == checkpoint_dir(output, {"config": {"b": 2, "a": 1}})
    assert first != checkpoint_dir(output, {"config": {"a": 1, "b": 3}})


def _looks(state: LastCheckpoint | IntervalCheckpoint, processes: int, device: str, batches: int) -> list[int]:
    """Batches of an epoch after which this process asks the others."""
    looks = []
    strategy = SimpleNamespace(
        reduce_boolean_decision=lambda told, all: looks.append(batch),
        broadcast=lambda skip: looks.append(batch) or True,
    )
    trainer = SimpleNamespace(
        world_size=processes, num_training_batches=batches, strategy=strategy, fast_dev_run=False, global_step=1,
        state=SimpleNamespace(fn="fit"), sanity_checking=False,
    )  # fmt: skip
    for batch in range(batches):
        state.on_train_batch_end(
            trainer, SimpleNamespace(device=torch.device(device), automatic_optimization=True), None, None, batch
        )
    return looks


@pytest.mark.parametrize("kind", [LastCheckpoint, lambda folder: IntervalCheckpoint(folder, minutes=30)])
def test_processes_on_gpus_ask_each_other_now_and_then_because_they_wait(tmp_path, kind):
    batches = 2 * LOOK_EVERY
    assert _looks(kind(tmp_path), 2, "cuda", batches) == [LOOK_EVERY - 1]
    assert _looks(kind(tmp_path), 2, "cpu", batches) == list(range(batches - 1))


def test_a_process_alone_stops_after_the_step_in_which_it_was_told(tmp_path):
    state = LastCheckpoint(tmp_path)
    assert _looks(state, 1, "cuda", 5) == []
    state._hear()
    with pytest.raises(SIGTERMException):
        _looks(state, 1, "cuda", 5)
