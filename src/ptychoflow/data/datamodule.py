"""The LightningDataModules of training and of prediction."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from ..config import Runtime, Training
from ..core.scan import Scan
from ..runtime.timing import Clock
from .batch import Batch, ScanTable
from .grouping import Neighbourhood, nearest_groups, neighbourhood
from .sampling import FixedSampler, GroupSampler, RowBatches
from .set_cover import cover
from .torch_dataset import GroupDataset, Reading, ResidentCounts, RowDataset, read_batch, stored_bytes
from .validation_split import Split, split

logger = logging.getLogger(__name__)

DEVICE_MEMORY_SHARE = 0.5
"""Share of a device's free memory that counts may take; the network needs the remainder."""
PIXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Pixels of patterns in a batch of prediction: on a CPU they should stay in its cache."""
PREFETCH = 4
"""Batches that each loader process reads in advance."""


class GroupData(lightning.LightningDataModule):
    """Groups of patterns of some scans, made into batches on the computing device.

    A loader passes on the counts as they are stored, a byte or two a pixel; the other fields of a batch are made on the
    device. Where the counts themselves fit there, they are copied once and the loader only passes on the rows.

    Args:
        scans: to read.
        group_size: patterns per group that the network sees, C.
        runtime: loader processes, device, placement of counts.
        labels: add the ground truth to batches.

    Raises:
        ValueError: if the scans have patterns of several sizes.
    """

    def __init__(self, scans: Sequence[Scan], group_size: int, runtime: Runtime, labels: bool) -> None:
        super().__init__()
        self.scans, self.group_size, self.runtime, self.labels = list(scans), group_size, runtime, labels
        self._dataset = GroupDataset(scans)
        self._tables: dict[torch.device, ScanTable] = {}
        self._resident: ResidentCounts | None = None

    def batch(self, rows: np.ndarray) -> Batch:
        """Read the groups of some rows on the CPU, without a loader.

        Args:
            rows: scan and members of each group, ``(B, 1 + C)``.
        """
        return read_batch(self.scans, rows, self.labels, self.group_size)

    def on_after_batch_transfer(self, batch: Reading, dataloader_idx: int = 0) -> Batch:
        """Make a batch of what the loader passed on, on the device that it was copied to."""
        device = batch.rows.device
        if device not in self._tables:
            self._tables[device] = ScanTable(self.scans, self.labels, device, self.group_size)
        counts = batch.counts
        if counts is None:
            if self._resident is None:
                raise RuntimeError("expected counts on the device, found none: make the loader before its batches")
            counts = self._resident.read(batch.rows)
        return self._tables[device].batch(counts, batch.rows)

    def _make_batch(self, reading: Reading) -> Batch:
        return self.on_after_batch_transfer(self.on_before_batch_transfer(reading, 0), 0)

    def teardown(self, stage: str) -> None:
        """Free the memory of the device."""
        self._resident = None
        self._tables.clear()

    def _rank_and_count(self) -> tuple[int, int]:
        """Return the rank of this process and the number of ranks; 0 and 1 without a trainer."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    @property
    def _device(self) -> torch.device:
        """Device on which batches are made; the CPU without a trainer."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _loader(self, sampler: FixedSampler | GroupSampler, batch_size: int, drop_last: bool = False) -> DataLoader:
        """Return a loader whose dataset reads whole batches; without a trainer it also makes them ready."""
        device = self._device
        resident = self._keep_counts_on(device)
        collate: Callable[[Any], Any] = self._make_batch if self.trainer is None else _unchanged
        workers = 0 if resident else self.runtime.workers
        return DataLoader(
            RowDataset() if resident else self._dataset,
            batch_sampler=RowBatches(sampler, batch_size, drop_last),
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda" and not resident,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
        )

    def _keep_counts_on(self, device: torch.device) -> bool:
        """Copy the counts to the device if the settings ask for it, or leave it open and they fit; return True then."""
        if self._resident is None and belongs_on_device(self.scans, self.runtime, device):
            logger.info("keeping %.3g GiB of counts on %s", stored_bytes(self.scans) / 2**30, device)
            self._resident = ResidentCounts(self.scans, device)
        return self._resident is not None


class TrainingData(GroupData):
    """Groups to train on, and groups of other patterns to validate on.

    Args:
        scans: to train on.
        group_size: patterns per group, C.
        training: grouping, split, batch size, seed.
        runtime: loader processes, device, placement of counts.

    Attributes:
        members: patterns per row: those of a group, then its held-out neighbours.
        neighbourhoods: candidates that groups of each scan are drawn from; None for one that is not trained on.
        validation_rows: scan and members of each group to validate on, ``(n, 1 + members)``.

    Raises:
        ValueError: if a scan is too small, patterns differ in size, or no group can be formed.
    """

    def __init__(self, scans: Sequence[Scan], group_size: int, training: Training, runtime: Runtime) -> None:
        super().__init__(scans, group_size, runtime, labels=training.supervision != "amplitude")
        self.training, self.members = training, group_size + training.held_out_neighbours
        self.splits = split(scans, training.validation, 2 * self.members, training.seed)
        self.neighbourhoods = [self._neighbourhood(*pair) for pair in zip(scans, self.splits, strict=True)]
        self.validation_rows = np.concatenate([self._validation(index) for index in range(len(scans))])
        for scan, near in zip(scans, self.neighbourhoods, strict=True):
            if near is not None and near.rejected:
                reasons = ", ".join(f"{count} {reason}" for reason, count in near.rejected.items())
                logger.info("%s: %d anchors, rejected %s", scan.name, len(near), reasons)

    def sampler(self, rank: int = 0, ranks: int = 1) -> GroupSampler:
        """Return the sampler of the training rows of a rank.

        Args:
            rank: of this process.
            ranks: number of processes.
        """
        training = self.training
        return GroupSampler(
            self.neighbourhoods, self.members, training.seed, training.groups_per_epoch, rank=rank, ranks=ranks
        )

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of one epoch; groups that do not fill a batch are left out."""
        return len(self.sampler()) // self.training.batch_size

    def train_dataloader(self) -> DataLoader:
        """Return groups to train on; an interrupted epoch resumes."""
        rank, ranks = self._rank_and_count()
        sampler, parts = self.sampler(rank, ranks), self.runtime.gradient_accumulation_steps
        if self.trainer is not None:
            # includes a step that is done but not yet reported to every callback, as Lightning's own counter does
            progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
            done = progress.processed % (self.steps_per_epoch * parts)
            seen = done * self.training.batch_size // parts
            sampler.load_state_dict({"epoch": self.trainer.current_epoch, "seen": seen})
        return self._loader(sampler, self.training.batch_size // (ranks * parts), drop_last=True)

    def val_dataloader(self) -> DataLoader | list:
        """Return groups to validate on, each on one rank; an empty list without any."""
        if not len(self.validation_rows):
            return []
        return self._loader(FixedSampler(self.validation_rows, *self._rank_and_count()), self.training.batch_size)

    def counts_of_groups(self) -> dict[str, dict]:
        """Count, for each scan, the anchors to train on and to validate on, and the rejected patterns by reason."""
        held = np.bincount(self.validation_rows[:, 0], minlength=len(self.scans))
        return {
            scan.name: {
                "patterns": len(scan),
                "training": 0 if near is None else len(near),
                "validation": int(count),
                "rejected": (near.rejected if near is not None else {})
                | ({"near a pattern to validate on": part.margin} if part.margin else {}),
            }
            for scan, near, part, count in zip(self.scans, self.neighbourhoods, self.splits, held, strict=True)
        }

    def _neighbourhood(self, scan: Scan, part: Split) -> Neighbourhood | None:
        if not len(part.train):
            return None
        try:
            return neighbourhood(scan.positions, part.train, self.members, self.training.grouping)
        except ValueError as error:
            raise ValueError(f"{scan.name}: {error}") from None

    def _validation(self, index: int) -> np.ndarray:
        held = self.splits[index].validation
        if not len(held):
            return np.empty((0, 1 + self.members), np.int64)
        try:
            return np.insert(nearest_groups(self.scans[index].positions, held, self.members), 0, index, axis=1)
        except ValueError as error:
            raise ValueError(f"{self.scans[index].name}, to validate on: {error}") from None


class PredictionData(GroupData):
    """Groups that hold every pattern of a scan, each group on exactly one rank.

    Args:
        scan: to predict.
        group_size: patterns per group, C.
        runtime: loader processes, device, batch size.
        groups: ``all`` takes the group around each pattern, ``minimal_cover`` as few of them as hold every pattern.
        clock: records the seconds of ``load`` and ``host_to_device``.

    Attributes:
        rows: scan, which is 0, and members of each group, ``(n, 1 + C)``.
    """

    def __init__(
        self, scan: Scan, group_size: int, runtime: Runtime, groups: str = "all", clock: Clock | None = None
    ) -> None:
        super().__init__([scan], group_size, runtime, labels=False)
        self._clock = clock or Clock()
        members = nearest_groups(scan.positions, np.arange(len(scan)), group_size)
        if groups == "minimal_cover":
            members = members[cover(members, len(scan))]
        self.rows = np.insert(members, 0, 0, axis=1)

    @property
    def batch_size(self) -> int:
        """Groups per batch: the setting, or as many as suit the cache of a CPU or a GPU."""
        if self.runtime.inference_batch_size is not None:
            return self.runtime.inference_batch_size
        pixels = (self.rows.shape[1] - 1) * self.scans[0].size ** 2
        return max(1, PIXELS_AT_ONCE["cuda" if self._device.type == "cuda" else "cpu"] // pixels)

    def local_shard(self, rank: int, ranks: int) -> FixedSampler:
        """Return the sampler of the groups of one rank.

        Args:
            rank: of the process.
            ranks: number of processes.
        """
        return FixedSampler(self.rows, rank, ranks)

    def predict_dataloader(self) -> DataLoader:
        """Return the groups of this rank, in order."""
        return self._loader(self.local_shard(*self._rank_and_count()), self.batch_size)

    def transfer_batch_to_device(self, batch: Reading, device: torch.device, dataloader_idx: int) -> Reading:
        """Record the wait for the counts, and copy them to the device."""
        self._clock.waited("load")
        with self._clock("host_to_device", device):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Reading, dataloader_idx: int = 0) -> Batch:
        """Make a batch on the device."""
        with self._clock("host_to_device", batch.rows.device):
            return super().on_after_batch_transfer(batch, dataloader_idx)


def belongs_on_device(scans: Sequence[Scan], runtime: Runtime, device: torch.device) -> bool:
    """Return True if the counts are to be kept on the device.

    Where the settings leave it open, they are kept on a GPU with enough free memory; on a CPU they are in the page
    cache anyway once they have been read.

    Args:
        scans: whose counts.
        runtime: ``counts_on_device``.
        device: the computing device.
    """
    if runtime.counts_on_device != "auto":
        return runtime.counts_on_device == "always"
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return stored_bytes(scans) <= DEVICE_MEMORY_SHARE * free


def _unchanged(reading: Reading) -> Reading:
    return reading
