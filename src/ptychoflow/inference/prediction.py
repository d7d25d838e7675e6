"""Prediction of patches on any number of devices, with its timing; patches are written to disk or kept in memory."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

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
"""Lightning's names of the precisions."""
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "CUFFT_INTERNAL_ERROR")
"""Messages of the CPU allocator, CUDA and its libraries where memory is short; cuFFT's is the last (PyTorch 119420)."""


class Predictor(lightning.LightningModule):
    """Predict the central square of each group's canvas.

    A batch that does not fit into the device's memory is halved, and so are the batches after it.

    Args:
        network: trained.
        size: side S of the square, px.
        clock: takes the seconds of the first batch as ``first_batch``, those of the others as ``inference``.

    Attributes:
        at_once: groups that fit into memory at once; None while all do.
    """

    def __init__(self, network: GroupReconstructor, size: int, clock: Clock) -> None:
        super().__init__()
        self.network, self.size, self.clock = network, size, clock
        self.at_once: int | None = None

    def predict_step(self, batch: Batch, index: int) -> Tensor:
        """Predict a batch.

        Args:
            batch: groups.
            index: of the batch.

        Returns:
            Patches, complex, ``(B, S, S)``.
        """
        with self.clock("inference" if index else "first_batch", batch.counts.device):
            return self._predict(batch)

    def _predict(self, batch: Batch) -> Tensor:
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
            logger.warning("%d groups at once do not fit into memory: continuing with %d", step, self.at_once)
            if batch.counts.is_cuda:
                torch.cuda.empty_cache()

    def _squares(self, batch: Batch) -> Tensor:
        canvas = predict_groups(self.network, batch).canvas
        first = canvas.shape[-1] // 2 - self.size // 2
        return canvas[:, first : first + self.size, first : first + self.size]


class PatchWriter(lightning.Callback):
    """Write the patches of one process as they are predicted.

    Args:
        open_folder: makes the folder to write to, once, in the first process; None keeps patches in memory.
        size: side S of a patch, px.
        dtype: of the patches on disk.
        clock: takes the seconds of ``device_to_host`` and ``write``.

    Attributes:
        folder: folder of the patches; None in memory.
        shard: patches of this process.
    """

    def __init__(self, open_folder: Callable[[], Path] | None, size: int, dtype: str, clock: Clock) -> None:
        self._open_folder, self._size, self._dtype, self._clock = open_folder, size, dtype, clock
        self.folder: Path | None = None
        self.shard: ShardWriter

    def on_predict_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Agree with the other processes on the folder."""
        if self._open_folder is not None:
            path = str(self._open_folder()) if trainer.is_global_zero else ""
            self.folder = Path(trainer.strategy.broadcast(path))
        data = trainer.datamodule  # type: ignore[attr-defined]
        count = len(data.local_shard(trainer.global_rank, trainer.world_size))
        group_size = cast(Predictor, task).network.settings.group_size
        self.shard = ShardWriter(self.folder, trainer.global_rank, count, self._size, group_size, self._dtype)
        self._clock.mark()

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        patches: Any,
        batch: Batch,
        index: int,
        loader: int = 0,
    ) -> None:
        """Copy the patches from the device and write them."""
        with self._clock("device_to_host", patches.device):
            arrays = [part.cpu().numpy() for part in (patches, batch.centre, batch.members)]
        with self._clock("write"):
            self.shard.write(*arrays)
        self._clock.mark()

    def on_predict_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Close this shard and wait for the other processes."""
        with self._clock("write"):
            self.shard.close()
        trainer.strategy.barrier("patches written")


class Prediction:
    """Prediction of the patches of a scan by a trained network.

    Args:
        trained: the network.
        scan: of patterns as large as those it was trained on.
        inference: groups, crop of the patches, precision.
        runtime: devices, workers, groups at once.

    Raises:
        ValueError: if scan, network and settings do not suit each other.
    """

    def __init__(self, trained: Model, scan: Scan, inference: Inference, runtime: Runtime) -> None:
        trained.check(scan)
        if not isinstance(trained.network, GroupReconstructor):
            raise ValueError(
                "the network refines the object of a whole scan and predicts no patches: use reconstruct, or "
                "predict_and_stitch in Python"
            )
        self.network = trained.network
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        self.trained, self.scan, self.inference, self.runtime = trained, scan, inference, runtime
        self.clock = Clock()
        group_size = trained.network.settings.group_size
        if len(scan) < group_size:
            raise ValueError(
                f"{scan.name} has {len(scan)} patterns, the network takes groups of {group_size}: use a larger scan, "
                "or train with a smaller network.group_size"
            )
        self.data = PredictionData(scan, group_size, runtime, inference.groups, self.clock)
        _check_group_extent(scan, self.data.rows[:, 1:])
        self.size = _patch_size(inference, trained, self.data)

    @out_of_memory_hint("lower runtime.inference_batch_size, or set runtime.accelerator to cpu")
    def run(self, open_folder: Callable[[], Path] | None) -> tuple[PatchWriter, bool]:
        """Predict all patches.

        Args:
            open_folder: makes the folder to write to; None keeps patches in memory, which takes a single process.

        Returns:
            The writer with this process's patches, and True in the first process.
        """
        writer = PatchWriter(open_folder, self.size, self.inference.dtype, self.clock)
        task = Predictor(self.network, self.size, self.clock)
        trainer = make_trainer(self.runtime, [writer], precision=PRECISION[self.inference.precision])
        with interruptible():
            trainer.predict(task, self.data, return_predictions=False)
        self._metadata: dict[str, Any] = {"device": trainer.strategy.root_device.type, "processes": trainer.world_size}
        self._metadata["groups_at_once"] = task.at_once or self.data.batch_size
        return writer, trainer.is_global_zero

    def timing(self, total: float) -> dict[str, Any]:
        """Return the seconds of the first process by bucket, and the patterns per second of all, as plain data.

        ``load`` waits for counts, ``host_to_device`` makes batches on the device, ``first_batch`` is the first batch
        and ``inference`` all others, ``device_to_host`` copies patches back, ``write`` writes them.
        ``groups_at_once`` is the number of groups that fitted into memory.

        Args:
            total: seconds from the first file read to the last one written.
        """
        seconds, patterns = self.clock.seconds(), len(self.scan)
        first = min(self.data.batch_size * self._metadata["processes"], len(self.data.rows)) / len(self.data.rows)
        per_second = rates(seconds, patterns) | {"end_to_end": patterns / total}
        for bucket, share in (("first_batch", first), ("inference", 1 - first)):
            if bucket in per_second:
                per_second[bucket] *= share
        metadata = {
            "patterns": patterns,
            "groups": len(self.data.rows),
            "threads": torch.get_num_threads(),
        } | self._metadata
        return metadata | {
            "seconds": {"inference": 0.0} | seconds | {"total": total},
            "patterns_per_second": per_second,
        }


def _is_out_of_memory(error: Exception) -> bool:
    """Return True for an out-of-memory error; torch has a type for its own memory on a device only."""
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in OUT_OF_MEMORY)


def _check_group_extent(scan: Scan, members: np.ndarray) -> None:
    """Raise an error if the anchor of a group ``(n, C)`` is a whole pattern from its centre: no canvas holds it."""
    extent = np.abs(scan.positions[members[:, 0]] - scan.positions[members].mean(1)).max()
    if extent > scan.size:
        raise ValueError(
            f"groups of {members.shape[1]} neighbours of {scan.name} extend {extent:.0f} px from their centre, "
            f"patterns have {scan.size} px: the patterns do not overlap; check the positions and their unit, or train "
            "with a smaller network.group_size"
        )


def _patch_size(inference: Inference, trained: Model, data: PredictionData) -> int:
    """Return the side of the patches to keep: that of the settings, or of the area that a group illuminates."""
    if inference.patch_crop_px is not None:
        if inference.patch_crop_px > trained.size:
            raise ValueError(
                f"inference.patch_crop_px is {inference.patch_crop_px} px, the patterns have {trained.size}: lower it"
            )
        return inference.patch_crop_px
    batch = data.batch(data.rows[:256])
    illumination = intensity(shift_probe(batch.probe[:, None], batch.relative)).sum((1, 2))
    return min(illuminated_side(illumination, 2), trained.network.window)
