"""Who starts the processes of a training, no other number of them than was asked for, and how it is interrupted."""

import os
import pickle
import signal
import time
from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning.fabric.accelerators import MPSAccelerator
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from ptychoflow.config import Runtime
from ptychoflow.training.trainer import ThrottledProgressBar, interruptible, launcher, make_trainer

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
BATCH_JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "snakejob"}


@pytest.fixture
def environment(monkeypatch):
    for name in (*TORCHRUN, *SRUN, *BATCH_JOB, "SLURM_NTASKS_PER_NODE", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)

    def set_to(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize("variables", [{}, BATCH_JOB])
def test_lightning_starts_what_nobody_started_even_in_a_batch_job_of_one_task(environment, variables):
    environment(**variables)
    assert isinstance(launcher(2), LightningEnvironment)


@pytest.mark.parametrize(("variables", "kind"), [(TORCHRUN, TorchElasticEnvironment), (SRUN, SLURMEnvironment)])
def test_processes_that_were_started_are_joined(environment, variables, kind):
    environment(**variables)
    found = launcher(2, 2)
    assert isinstance(found, kind) and found.world_size() == 4


def test_nothing_is_requeued_behind_the_schedulers_back(environment):
    environment(**SRUN)
    assert launcher(4).auto_requeue is False


@pytest.mark.parametrize(("variables", "who"), [(TORCHRUN, "torchrun"), (SRUN, "srun")])
def test_another_number_of_processes_is_refused(environment, variables, who):
    environment(**variables)
    with pytest.raises(ValueError, match=f"expected 2 processes for 2 devices on 1 nodes, {who} started 4: change"):
        launcher(2)


def test_several_nodes_need_a_launcher(environment):
    environment()
    with pytest.raises(ValueError, match=r"expected 2 processes .*, srun started 1: .* use a profile for SLURM"):
        launcher(1, 2)


class Interrupted(lightning.LightningModule):
    """Meets Ctrl-C while it predicts."""

    def predict_step(self, batch, index):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


@pytest.fixture
def sigint_handled():
    """Ctrl-C is handled, also where what started the tests has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_stays_one_and_so_does_the_next(environment, sigint_handled):
    environment()
    before = signal.getsignal(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), interruptible():
            make_trainer(Runtime(accelerator="cpu"), []).predict(Interrupted(), [torch.zeros(1)])
        assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(SystemExit) as ended, interruptible():
        raise SystemExit(3)
    assert ended.value.code == 3


def test_one_process_trains_plainly_or_as_ddp_where_that_is_asked_for(environment):
    environment()
    for strategy, kind in {"auto": "SingleDeviceStrategy", "ddp": "DDPStrategy"}.items():
        trainer = make_trainer(Runtime(accelerator="cpu", strategy=strategy), [])
        assert type(trainer.strategy).__name__ == kind


def test_a_checkpoint_that_cannot_be_finished_leaves_the_one_before(tmp_path):
    writer = make_trainer(Runtime(accelerator="cpu"), []).strategy.checkpoint_io
    path = tmp_path / "checkpoints" / "latest.ckpt"
    writer.save_checkpoint({"weights": torch.ones(100_000)}, path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        writer.save_checkpoint({"weights": torch.zeros(100_000), "unfinished": lambda: None}, path)
    assert torch.load(path, weights_only=True)["weights"].all()
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it, or in another place"


def test_a_bar_shows_the_loss_but_reads_it_once_in_a_while(monkeypatch):
    bar, trainer = ThrottledProgressBar(), SimpleNamespace(callback_metrics={})
    assert bar.get_metrics(trainer, None) == {}
    trainer.callback_metrics["loss"] = torch.tensor(0.5)
    assert bar.get_metrics(trainer, None) == {"loss": 0.5}
    trainer.callback_metrics["loss"] = torch.tensor(0.25)
    assert bar.get_metrics(trainer, None) == {"loss": 0.5}
    monkeypatch.setattr(ThrottledProgressBar, "EVERY_S", 0.0)
    assert bar.get_metrics(trainer, None) == {"loss": 0.25}


def test_the_gpu_of_a_mac_is_left_alone_because_it_has_no_double_precision(monkeypatch):
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)
    assert isinstance(make_trainer(Runtime(), []).accelerator, CPUAccelerator) == (not torch.cuda.is_available())
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no CUDA device"):
            make_trainer(Runtime(accelerator="gpu"), [])
