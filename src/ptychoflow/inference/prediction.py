"""The prediction of patches on any number of devices, with its times; the patches go to disk or stay in memory."""

import logging
from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor

from ..config import Inference, Runtime
from ..core.scan import Scan
from ..data.batch import Batch
from ..data.datamodule import PredictionData
from ..io.patch_store import ShardWriter
from ..models.checkpoint import Model
from ..networks.group_network import GroupReconstructor, illuminated_side
from ..physics.forward_model import intensity, shift_probe
from ..runtime.gpu import out_of_memory_hint
from ..runtime.timing import Clock, rates
from ..training.lightning_module import predict_groups
from ..training.trainer import interruptible, make_trainer

logger = logging.getLogger(__name__)

PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed"}
"""What Lightning calls them."""
REFUSALS = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "CUFFT_INTERNAL_ERROR")
"""How the processor, CUDA and its libraries say that memory is short; cuFFT in the last words too (PyTorch 119420)."""


class Predictor(lightning.LightningModule):
    """Predicts the central square of each group's canvas.

    A batch that does not fit into the device's memory is halved, and so are those after it.

    Args:
        network: trained.
        size: side of the square, px.
        clock: takes the seconds of ``first_batch``, which is the first batch, and ``inference``, which is the others.

    Attributes:
        at_once: groups that fit at once, as far as is known.
    """

    def __init__(self, network: GroupReconstructor, size: int, clock: Clock) -> None:
        super().__init__()
        self.network, self.size, self.clock = network, size, clock
        self.at_once: int | None = None

    def predict_step(self, batch: Batch, index: int) -> Tensor:
        with self.clock("inference" if index else "first_batch", batch.counts.device):
            return self._predicted(batch)

    def _predicted(self, batch: Batch) -> Tensor:
        groups = len(batch.counts)
        while True:
            step = min(self.at_once or groups, groups)
            try:
                return torch.cat([self._squares(batch.part(slice(k, k + step))) for k in range(0, groups, step)])
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error) or step == 1:
                    raise
            # outside the handler, which holds on to what did not fit
            self.at_once = step // 2
            logger.warning("%d groups at once do not fit into memory: going on with %d", step, self.at_once)
            if batch.counts.is_cuda:
                torch.cuda.empty_cache()

    def _squares(self, batch: Batch) -> Tensor:
        canvas = predict_groups(self.network, batch).canvas
        first = canvas.shape[-1] // 2 - self.size // 2
        return canvas[:, first : first + self.size, first : first + self.size]


class PatchWriter(lightning.Callback):
    """Keeps one process's patches as they come.

    Args:
        open_folder: makes the folder to write to, once, in the first process; None keeps patches in memory.
        size: side of a patch, px.
        dtype: of the numbers that are kept.
        clock: takes the seconds of ``device_to_host`` and ``write``.

    Attributes:
        folder: where the patches are written.
        shard: those of this process.
    """

    def __init__(self, open_folder: Callable[[], Path] | None, size: int, dtype: str, clock: Clock) -> None:
        self._open_folder, self._size, self._dtype, self._clock = open_folder, size, dtype, clock
        self.folder: Path | None = None
        self.shard: ShardWriter

    def on_predict_start(self, trainer: lightning.Trainer, task: Predictor) -> None:
        """Agree with the other processes on the folder."""
        if self._open_folder is not None:
            made = str(self._open_folder()) if trainer.is_global_zero else ""
            self.folder = Path(trainer.strategy.broadcast(made))
        mine = len(trainer.datamodule.local_shard(trainer.global_rank, trainer.world_size))
        group_size = task.network.settings.group_size
        self.shard = ShardWriter(self.folder, trainer.global_rank, mine, self._size, group_size, self._dtype)
        self._clock.mark()

    def on_predict_batch_end(
        self, trainer: lightning.Trainer, task: Predictor, patches: Tensor, batch: Batch, index: int, loader: int = 0
    ) -> None:
        """Bring the patches from the device and keep them."""
        with self._clock("device_to_host", patches.device):
            arrays = [part.cpu().numpy() for part in (patches, batch.centre, batch.members)]
        with self._clock("write"):
            self.shard.write(*arrays)
        self._clock.mark()

    def on_predict_end(self, trainer: lightning.Trainer, task: Predictor) -> None:
        """Finish this shard and wait for the others."""
        with self._clock("write"):
            self.shard.close()
        trainer.strategy.barrier("patches written")


class Prediction:
    """A network about to predict the patches of a scan.

    Args:
        trained: the network.
        scan: of patterns as large as those it was trained on.
        inference: groups, what to keep of each patch, precision.
        runtime: devices, workers, groups at once.

    Raises:
        ValueError: if scan, network and settings do not suit each other.
    """

    def __init__(self, trained: Model, scan: Scan, inference: Inference, runtime: Runtime) -> None:
        trained.check(scan)
        if not isinstance(trained.network, GroupReconstructor):
            raise ValueError(
                "the model corrects fits of whole scans, there are no patches to predict: use reconstruct, "
                "or predict_and_stitch in Python"
            )
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        self.trained, self.scan, self.inference, self.runtime = trained, scan, inference, runtime
        self.clock = Clock()
        group_size = trained.network.settings.group_size
        if len(scan) < group_size:
            raise ValueError(
                f"{scan.name} has {len(scan)} patterns, the model looks at groups of {group_size}: use a larger scan, "
                "or train with a smaller network.group_size"
            )
        self.data = PredictionData(scan, group_size, runtime, inference.groups, self.clock)
        _check_reach(scan, self.data.rows[:, 1:])
        self.size = _patch_size(inference, trained, self.data)

    @out_of_memory_hint("lower runtime.inference_batch_size, or set runtime.accelerator to cpu")
    def run(self, open_folder: Callable[[], Path] | None) -> tuple[PatchWriter, bool]:
        """Predict; gives what holds this process's patches, and whether this process is the first.

        Args:
            open_folder: makes the folder to write to; None keeps patches in memory, which takes a single process.
        """
        writer = PatchWriter(open_folder, self.size, self.inference.dtype, self.clock)
        task = Predictor(self.trained.network, self.size, self.clock)
        trainer = make_trainer(self.runtime, [writer], precision=PRECISION[self.inference.precision])
        with interruptible():
            trainer.predict(task, self.data, return_predictions=False)
        self._facts = {"device": trainer.strategy.root_device.type, "processes": trainer.world_size}
        self._facts["groups_at_once"] = task.at_once or self.data.batch_size
        return writer, trainer.is_global_zero

    def timing(self, total: float) -> dict:
        """Seconds of the first process by bucket and patterns per second of all, plain data.

        ``load`` waits for counts, ``host_to_device`` makes batches of them there, ``first_batch`` is the first batch and
        ``inference`` all others, ``device_to_host`` brings patches back, ``write`` keeps them. ``groups_at_once`` is
        what fitted into memory.

        Args:
            total: seconds from the first file read to the last one written.
        """
        seconds, patterns = self.clock.seconds(), len(self.scan)
        first = min(self.data.batch_size * self._facts["processes"], len(self.data.rows)) / len(self.data.rows)
        per_second = rates(seconds, patterns) | {"end_to_end": patterns / total}
        for bucket, share in (("first_batch", first), ("inference", 1 - first)):
            if bucket in per_second:
                per_second[bucket] *= share
        metadata = {
            "patterns": patterns,
            "groups": len(self.data.rows),
            "threads": torch.get_num_threads(),
        } | self._facts
        return metadata | {"seconds": seconds | {"total": total}, "patterns_per_second": per_second}


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory was refused; torch has a type for its own memory on a device only."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in REFUSALS)


def _check_reach(scan: Scan, members: np.ndarray) -> None:
    """Refuse groups ``(n, C)`` whose anchor lies a whole pattern from their middle: no canvas holds their light."""
    reach = np.abs(scan.positions[members[:, 0]] - scan.positions[members].mean(1)).max()
    if reach > scan.size:
        raise ValueError(
            f"groups of {members.shape[1]} neighbours of {scan.name} reach {reach:.0f} px from their middle, patterns "
            f"have {scan.size} px: the patterns do not overlap; check the positions and their unit, or train with a "
            "smaller network.group_size"
        )


def _patch_size(inference: Inference, trained: Model, data: PredictionData) -> int:
    """Side of the patches to keep: what was asked for, or where the light of a group lies."""
    if inference.patch_crop_px is not None:
        if inference.patch_crop_px > trained.size:
            raise ValueError(
                f"inference.patch_crop_px is {inference.patch_crop_px} px, the patterns have {trained.size}: lower it"
            )
        return inference.patch_crop_px
    batch = data.batch(data.rows[:256])
    light = intensity(shift_probe(batch.probe[:, None], batch.relative)).sum((1, 2))
    return min(illuminated_side(light, 2), trained.network.window)
