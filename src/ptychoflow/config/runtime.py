"""Settings that change no result: where to run, what to track, what to export."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from .base import Section


class Runtime(Section):
    """Where and how to run; never changes a result, never triggers a rerun."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """What to compute on; `auto` is a CUDA device where there is one, else the processor."""
    devices: PositiveInt = 1
    """Processes and devices of training, inference and refinement, on each node."""
    nodes: PositiveInt = 1
    """Computers that a training spreads over, its processes started by srun (a profile for SLURM does) or torchrun."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How processes train together: `auto` is DDP where there are several, `ddp` even for one."""
    gradient_accumulation_steps: PositiveInt = 1
    """Parts in which the groups of a step pass, one after another, so that they need less memory."""
    compile: bool = False
    """Compile the networks for the device before training; on a processor that takes a C++ compiler and some 20 s."""
    checkpoint_interval_min: PositiveFloat = 30.0
    """A half-trained state is written after each epoch and at least this often, min."""
    workers: NonNegativeInt = 0
    """Loader processes; none where counts lie on the device."""
    counts_on_device: Literal["auto", "always", "never"] = "auto"
    """Copy the counts to the device and gather groups there; `auto` does so on a GPU that has twice the room."""
    threads: PositiveInt | None = None
    """CPU threads of each process; None takes every core."""
    inference_batch_size: PositiveInt | None = None
    """Groups predicted at once; None suits the device. What does not fit into memory is halved until it does."""
    canvas_memory_gib: NonNegativeFloat | None = None
    """Memory for a canvas, GiB; a larger one lies in files beside the product. None takes half of what is free."""


class Tracking(Section):
    """Where MLflow keeps runs; never triggers a rerun."""

    uri: str | None = "sqlite:///results/mlflow.db"
    """Tracking store; None tracks nothing."""
    experiment: str = "ptychoflow"
    """Name of the experiment."""


Export = Literal["directory", "h5", "npz", "cxi", "tif", "ptychopinn.npz"]
