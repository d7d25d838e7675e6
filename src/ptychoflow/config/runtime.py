"""Settings that change no result: devices and processes, tracking, kinds of exports."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from .base import Section


class Runtime(Section):
    """Devices, processes and memory. These settings change no result and never trigger a rerun."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device to compute on. `auto` takes a CUDA device if one is found, otherwise the CPU."""
    devices: PositiveInt = 1
    """Processes of training, inference and refinement on each node, one per device."""
    nodes: PositiveInt = 1
    """Computers to train on together. The processes are started by srun (a SLURM profile does so) or by torchrun."""
    strategy: Literal["auto", "ddp"] = "auto"
    """Parallel training strategy. `auto` uses distributed data parallel (DDP) for several processes; `ddp` uses it even
    for one."""
    gradient_accumulation_steps: PositiveInt = 1
    """Parts into which the groups of each training step are split, to be processed one after another. Raise it when
    training runs out of memory; it takes a little longer."""
    compile: bool = False
    """Compile the networks before training. Worthwhile for long trainings; on a CPU it needs a C++ compiler and about
    20 s."""
    checkpoint_interval_min: PositiveFloat = 30.0
    """Longest time between checkpoints of a running training, min; one is also written after each epoch. A rerun
    resumes from the last."""
    workers: NonNegativeInt = 0
    """Data loader processes; 0 loads in the training process. Ignored where the counts are on the device."""
    counts_on_device: Literal["auto", "always", "never"] = "auto"
    """Copy all counts to the device and gather groups there. `auto` does so on a GPU with memory for twice their
    size."""
    threads: PositiveInt | None = None
    """CPU threads of each process; None uses every core."""
    inference_batch_size: PositiveInt | None = None
    """Groups predicted at once; None chooses for the device. It is halved until the batch fits into memory."""
    canvas_memory_gib: NonNegativeFloat | None = None
    """Memory for the object canvas, GiB; a larger canvas is kept in files beside the product. None uses half of the
    free memory."""


class Tracking(Section):
    """The MLflow store that records trainings. These settings never trigger a rerun."""

    uri: str | None = "sqlite:///results/mlflow.db"
    """Address of the tracking store; None records nothing."""
    experiment: str = "ptychoflow"
    """Name of the MLflow experiment."""


Export = Literal["directory", "h5", "npz", "cxi", "tif", "ptychopinn.npz"]
