"""Groups of patterns as batches: whole-batch reads from memory maps, in an order that a seed and an epoch fix."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..config import Runtime, Training
from ..scan import Scan
from .grouping import Neighbourhood, neighbourhood, split_block


class Batch(NamedTuple):
    """Groups of patterns, each with its own probe; diffraction has zero frequency at the corner.

    Attributes:
        counts: photons, float32, ``(B, C, N, N)``, corner layout.
        probe: modes in sqrt(photons), ``(B, M, N, N)``; scans with fewer modes have dark ones.
        relative: ``position - centre`` of each member, px, float64, ``(B, C, 2)``.
        centre: the group's place, whole pixels from the truth's origin, px, float64, ``(B, 2)``.
        members: pattern indices, anchor first, ``(B, C)``.
        scan: which scan, ``(B,)``.
        mask: 1 where a detector pixel counts, ``(B, 1, N, N)``, corner layout; None where all do.
        truth: the object around ``centre``, complex64, ``(B, N, N)``, 0 in scans without; None where no scan has one.
        labelled: True in scans with a truth, ``(B,)``.
    """

    counts: Tensor
    probe: Tensor
    relative: Tensor
    centre: Tensor
    members: Tensor
    scan: Tensor
    mask: Tensor | None
    truth: Tensor | None
    labelled: Tensor


class GroupDataset(Dataset):
    """Reads groups out of scans; an index is a row ``(scan, member, member, ...)``, a batch one read per scan.

    Args:
        scans: what to read; their counts may be memory maps.
        labels: whether to cut the truth.

    Raises:
        ValueError: if the scans have patterns of several sizes.
    """

    def __init__(self, scans: Sequence[Scan], labels: bool = True) -> None:
        sizes = {scan.name: scan.size for scan in scans}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"expected patterns of one size, got {sizes}: pack them with the same crop")
        self.scans = list(scans)
        self.labels = labels and any(scan.truth is not None for scan in scans)
        self.size = scans[0].size
        self.probes = _stack_modes([scan.probe for scan in scans])
        self.masks = _stack_masks(scans)

    def __getitem__(self, row: np.ndarray) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[np.ndarray]) -> Batch:
        rows = np.asarray(rows)
        scan, members = rows[:, 0], rows[:, 1:]
        counts = np.empty((*members.shape, self.size, self.size), np.float32)
        centre, relative = np.empty((len(rows), 2)), np.empty((*members.shape, 2))
        truth = np.zeros((len(rows), self.size, self.size), np.complex64) if self.labels else None
        for index in np.unique(scan):
            here, source = scan == index, self.scans[index]
            counts[here] = to_corner(source.counts[members[here]])
            centre[here], relative[here] = place_groups(source, members[here])
            if truth is not None and source.truth is not None:
                truth[here] = cut_truth(source, centre[here])
        return Batch(
            counts=torch.from_numpy(counts),
            probe=torch.from_numpy(self.probes[scan]),
            relative=torch.from_numpy(relative),
            centre=torch.from_numpy(centre),
            members=torch.from_numpy(members),
            scan=torch.from_numpy(scan),
            mask=None if self.masks is None else torch.from_numpy(self.masks[scan]),
            truth=None if truth is None else torch.from_numpy(truth),
            labelled=torch.tensor([self.scans[index].truth is not None for index in scan]),
        )


def to_corner(counts: np.ndarray) -> np.ndarray:
    """Patterns as float32 with zero frequency moved from the middle to the corner, in one pass."""
    half = counts.shape[-1] // 2
    rest = counts.shape[-1] - half
    corner = np.empty(counts.shape, np.float32)
    corner[..., :rest, :rest], corner[..., :rest, rest:] = counts[..., half:, half:], counts[..., half:, :half]
    corner[..., rest:, :rest], corner[..., rest:, rest:] = counts[..., :half, half:], counts[..., :half, :half]
    return corner


def place_groups(scan: Scan, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each group's canvas lies, and its members on it.

    The centre is the mean of the members' positions moved to a whole pixel of the truth (or of the position frame
    without one), so that cutting labels and stitching interpolate nothing.

    Returns:
        Centres ``(B, 2)`` and members' positions relative to them ``(B, C, 2)``, px.
    """
    positions = scan.positions[members]
    origin = np.asarray(scan.truth.origin if scan.truth is not None else (0.0, 0.0))
    centre = np.round(positions.mean(1) - origin) + origin
    return centre, positions - centre[:, None]


def cut_truth(scan: Scan, centre: np.ndarray) -> np.ndarray:
    """The truth around whole-pixel centres, ``(B, N, N)``; its edge is repeated beyond it, where no light falls."""
    first = np.round(centre - np.asarray(scan.truth.origin)).astype(np.int64) - scan.size // 2
    height, width = scan.truth.object.shape
    rows = np.clip(first[:, :1] + np.arange(scan.size), 0, height - 1)
    columns = np.clip(first[:, 1:] + np.arange(scan.size), 0, width - 1)
    return scan.truth.object[rows[:, :, None], columns[:, None, :]]


def _stack_modes(probes: list[np.ndarray]) -> np.ndarray:
    """Probes of several scans as one array ``(scans, M, N, N)``, dark modes where a scan has fewer."""
    modes = max(len(probe) for probe in probes)
    return np.stack([np.pad(p, ((0, modes - len(p)), (0, 0), (0, 0))) for p in probes]).astype(np.complex64)


def _stack_masks(scans: Sequence[Scan]) -> np.ndarray | None:
    if all(scan.mask is None for scan in scans):
        return None
    everywhere = np.ones((scans[0].size, scans[0].size), np.float32)
    return np.stack([to_corner(everywhere if scan.mask is None else scan.mask)[None] for scan in scans])


class FixedSampler(Sampler[np.ndarray]):
    """One rank's share of given rows, in order: every row on exactly one rank."""

    def __init__(self, rows: np.ndarray, rank: int = 0, ranks: int = 1) -> None:
        self.rows = np.array_split(rows, ranks)[rank]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.rows)


class GroupSampler(Sampler[np.ndarray]):
    """Rows ``(scan, members...)`` of one epoch: groups drawn and shuffled anew each time, by seed and epoch alone.

    A training that resumes within an epoch sets :attr:`done`, the rows of it that this rank has already seen.

    Args:
        neighbourhoods: candidates of each scan.
        size: patterns per group, C.
        seed: of the draw and the order.
        epoch_size: rows per epoch over all ranks; one per anchor without it.
        rank: this process.
        ranks: how many processes share an epoch; each takes every ``ranks``-th row, all equally many.
    """

    def __init__(
        self,
        neighbourhoods: Sequence[Neighbourhood],
        size: int,
        seed: int,
        epoch_size: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.neighbourhoods = neighbourhoods
        self.group_size = size
        self.seed = seed
        self.rank, self.ranks = rank, ranks
        self.epoch_size = epoch_size or sum(map(len, neighbourhoods))
        self.epoch = 0
        self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.epoch_size // self.ranks

    def __iter__(self) -> Iterator[np.ndarray]:
        done, self.done = self.done, 0
        return iter(self.rows()[self.rank : len(self) * self.ranks : self.ranks][done:])

    def rows(self) -> np.ndarray:
        """The whole epoch over all ranks, ``(epoch_size, 1 + C)``; one longer than the anchors passes them again."""
        rng = np.random.default_rng([self.seed, self.epoch])
        passes = -(-self.epoch_size // sum(map(len, self.neighbourhoods)))
        rows = [rng.permutation(self._one_pass(rng)) for _ in range(passes)]
        return np.concatenate(rows)[: self.epoch_size]

    def _one_pass(self, rng: np.random.Generator) -> np.ndarray:
        groups = [scan.draw(self.group_size, rng) for scan in self.neighbourhoods]
        return np.concatenate([np.insert(group, 0, index, axis=1) for index, group in enumerate(groups)])


class TrainingData(lightning.LightningDataModule):
    """Groups to train on, and groups of one block of each scan to validate on; the two share no pattern.

    Args:
        scans: what to train on.
        group_size: patterns per group, C.
        training: grouping, split, batch size, seed.
        runtime: loader processes.

    Raises:
        ValueError: if a scan is too small, patterns differ in size, or labels are asked for that a scan does not have.
    """

    def __init__(self, scans: Sequence[Scan], group_size: int, training: Training, runtime: Runtime) -> None:
        super().__init__()
        self.group_size, self.training, self.runtime = group_size, training, runtime
        self.groups = GroupDataset(scans, labels=training.guide != "amplitude")
        self.neighbourhoods, validation = [], []
        for index, scan in enumerate(scans):
            train, held = split_block(
                scan.positions, training.validation_fraction, 2 * group_size, training.seed + index
            )
            self.neighbourhoods.append(self._neighbourhood(scan, train, training.grouping.neighbours))
            if len(held):
                nearest = self._neighbourhood(scan, held, group_size - 1).nearest(group_size)
                validation.append(np.insert(nearest, 0, index, axis=1))
        self.validation_rows = np.concatenate(validation) if validation else np.empty((0, 1 + group_size), np.int64)

    def sampler(self, rank: int = 0, ranks: int = 1) -> GroupSampler:
        """The training rows of a rank."""
        training = self.training
        return GroupSampler(
            self.neighbourhoods, self.group_size, training.seed, training.groups_per_epoch, rank=rank, ranks=ranks
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; what does not fill a batch is left for the next one."""
        return len(self.sampler()) // self.training.batch_size

    def train_dataloader(self) -> DataLoader:
        sampler = self.sampler(self.trainer.global_rank, self.trainer.world_size)
        batch_size = self.training.batch_size // self.trainer.world_size
        # a checkpoint saved within an epoch leaves the rest of that epoch
        seen = self.trainer.fit_loop.epoch_loop.batch_progress.current.completed
        sampler.done = batch_size * (seen % self.steps_per_epoch)
        return _loader(self.groups, sampler, batch_size, self.runtime, drop_last=True)

    def val_dataloader(self) -> DataLoader | list:
        if not len(self.validation_rows):
            return []
        ranks = self.trainer.world_size
        # Lightning averages over ranks as if each had equally many
        rows = self.validation_rows[: len(self.validation_rows) // ranks * ranks]
        sampler = FixedSampler(rows, self.trainer.global_rank, ranks)
        return _loader(self.groups, sampler, self.training.batch_size, self.runtime)

    def _neighbourhood(self, scan: Scan, patterns: np.ndarray, neighbours: int) -> Neighbourhood:
        try:
            return neighbourhood(scan.positions, patterns, neighbours)
        except ValueError as error:
            raise ValueError(f"{scan.name}: {error}") from None


class PredictionData(lightning.LightningDataModule):
    """Every pattern of a scan as the anchor of one group, each group on exactly one rank."""

    def __init__(self, scan: Scan, group_size: int, runtime: Runtime) -> None:
        super().__init__()
        self.runtime = runtime
        self.groups = GroupDataset([scan], labels=False)
        nearest = neighbourhood(scan.positions, np.arange(len(scan)), group_size - 1).nearest(group_size)
        self.rows = np.insert(nearest, 0, 0, axis=1)

    def share(self, rank: int, ranks: int) -> FixedSampler:
        """The groups of one rank."""
        return FixedSampler(self.rows, rank, ranks)

    def predict_dataloader(self) -> DataLoader:
        sampler = self.share(self.trainer.global_rank, self.trainer.world_size)
        return _loader(self.groups, sampler, self.runtime.prediction_batch, self.runtime)


def _loader(groups: GroupDataset, sampler: Sampler, batch_size: int, runtime: Runtime, drop_last: bool = False):
    """A plain loader whose batches the dataset reads whole."""
    return DataLoader(
        groups,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=runtime.workers,
        collate_fn=_as_read,
        pin_memory=torch.cuda.is_available() and runtime.accelerator != "cpu",
        drop_last=drop_last,
        persistent_workers=False,
        prefetch_factor=4 if runtime.workers else None,
    )


def _as_read(batch: Batch) -> Batch:
    return batch
