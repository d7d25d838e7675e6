"""Predict the object under every group of a scan: patches on disk, ready to be stitched."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path

import lightning
import torch

from .config import Inference, Runtime
from .data.batches import Batch
from .data.datamodule import PredictionData
from .data.packing import open_dataset
from .data.shards import ShardWriter, seal
from .files import provenance, whole_folder, write_json
from .learning.checkpoints import Model, read_model
from .learning.task import Predictor
from .learning.trainer import make_trainer
from .networks.canvas import window_for
from .physics.forward import intensity, shift_probe
from .scan import Scan

logger = logging.getLogger(__name__)


def infer(
    model: Path, dataset: Path, output: Path, inference: Inference = Inference(), runtime: Runtime = Runtime()
) -> None:
    """Predict a patch for every pattern of a scan, each pattern being the anchor of one group.

    Args:
        model: a checkpoint that ``train`` wrote.
        dataset: the scan, of patterns as large as those the network was trained on.
        output: folder of patches; it appears whole or not at all.
        inference: what to keep of each patch.
        runtime: devices, workers, groups at once.

    Raises:
        FileNotFoundError: if the model or the dataset is missing.
        ValueError: if either is damaged, or they do not suit each other.
    """
    began = time.perf_counter()
    trained, scan = read_model(model), open_dataset(dataset)
    _check(trained, scan, model)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    data = PredictionData(scan, trained.network.settings.group_size, runtime)
    size = _patch_size(inference, trained, data)
    logger.info("read %s and %s: %d patterns, patches of %d px", model, dataset, len(scan), size)
    with ExitStack() as stack:
        writer = PatchWriter(output, stack, size, inference.dtype)
        trainer = make_trainer(runtime, [writer])
        trainer.predict(Predictor(trained.network, size), data, return_predictions=False)
        if not trainer.is_global_zero:
            return
        seal(writer.folder, provenance(inference, model=model, dataset=dataset))
        seconds = time.perf_counter() - began
        timing = {"seconds": seconds, "patterns_per_second": len(scan) / seconds, **writer.seconds}
        facts = {"patterns": len(scan), "processes": trainer.world_size, "threads": torch.get_num_threads()}
        write_json(writer.folder / "timing.json", timing | facts)
    spent = ", ".join(f"{name} {value:.2g}" for name, value in writer.seconds.items())
    logger.info("predicted %s: %d patches in %.1f s (%s)", output, len(scan), seconds, spent)


class PatchWriter(lightning.Callback):
    """Writes one process's patches as they come, and notes where the time goes.

    Args:
        output: the folder to make.
        stack: closes when all is written; then the folder takes its name.
        size: side of a patch, px.
        dtype: of the numbers on disk.

    Attributes:
        folder: where the patches lie until then.
        seconds: of this process, by bucket: ``load``, ``inference``, ``write``.
    """

    def __init__(self, output: Path, stack: ExitStack, size: int, dtype: str) -> None:
        self._output, self._stack, self._size, self._dtype = output, stack, size, dtype
        self.folder = Path()
        self.seconds = {"load": 0.0, "inference": 0.0, "write": 0.0}
        self._mark = 0.0

    def on_predict_start(self, trainer: lightning.Trainer, task: Predictor) -> None:
        """Agree with the other processes on the folder."""
        if trainer.is_global_zero:
            self.folder = self._stack.enter_context(whole_folder(self._output))
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        mine = len(trainer.datamodule.share(trainer.global_rank, trainer.world_size))
        group_size = task.network.settings.group_size
        self._shard = ShardWriter(self.folder, trainer.global_rank, mine, self._size, group_size, self._dtype)
        self._mark = time.perf_counter()

    def on_predict_batch_start(
        self, trainer: lightning.Trainer, task: Predictor, batch, index: int, loader: int = 0
    ) -> None:
        self._lap("load")

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        task: Predictor,
        patches: torch.Tensor,
        batch: Batch,
        index: int,
        loader: int = 0,
    ) -> None:
        """Bring the patches from the device and put them on disk."""
        patches = patches.cpu().numpy()
        self._lap("inference")
        self._shard.write(patches, batch.centre.cpu().numpy(), batch.members.cpu().numpy())
        self._lap("write")

    def on_predict_end(self, trainer: lightning.Trainer, task: Predictor) -> None:
        """Finish this shard and wait for the others."""
        self._shard.close()
        self._lap("write")
        trainer.strategy.barrier("patches written")

    def _lap(self, bucket: str) -> None:
        now = time.perf_counter()
        self.seconds[bucket] += now - self._mark
        self._mark = now


def _check(trained: Model, scan: Scan, model: Path) -> None:
    if scan.size != trained.size:
        raise ValueError(
            f"{model} was trained on patterns of {trained.size} px, {scan.name} has {scan.size} px: pack the scan with "
            f"packing.crop {trained.size}, or train on patterns of {scan.size} px"
        )


def _patch_size(inference: Inference, trained: Model, data: PredictionData) -> int:
    """Side of the patches to keep: what was asked for, or where the light of a group lies."""
    if inference.trim is not None:
        if inference.trim > trained.size:
            raise ValueError(f"inference.trim is {inference.trim} px, the patterns have {trained.size}: lower it")
        return inference.trim
    batch = data.batch(data.rows[:256])
    light = intensity(shift_probe(batch.probe[:, None], batch.relative)).sum((1, 2))
    return min(window_for(light, 2), trained.network.window)
