"""Samplers of groups: the order is fixed by seed, epoch and rank, and resumes where it stopped.

A group is a row ``(scan, member, member, ...)``, its anchor first.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from .grouping import Neighbourhood


class FixedSampler(Sampler[np.ndarray]):
    """Yield the share of one rank of given rows, in order: every row is on exactly one rank.

    Args:
        rows: ``(n, 1 + C)``.
        rank: of this process.
        ranks: number of processes.
    """

    def __init__(self, rows: np.ndarray, rank: int = 0, ranks: int = 1) -> None:
        self.rows = np.array_split(rows, ranks)[rank]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.rows)

    def table(self) -> np.ndarray:
        """Return the rows of this rank, ``(n, 1 + C)``."""
        return self.rows


class GroupSampler(Sampler[np.ndarray]):
    """Yield the rows of one epoch: groups drawn and shuffled anew each time, by seed and epoch alone.

    Ranks alternate, so that any number of them together has seen the same rows after the same number of batches: an
    interrupted epoch resumes on another number of ranks.

    Args:
        neighbourhoods: candidates of each scan; None for a scan that is not trained on.
        size: patterns per group, C.
        seed: of the draw and the order.
        epoch_size: rows per epoch over all ranks; one per anchor without it.
        rank: of this process.
        ranks: number of processes that share an epoch; each takes every ``ranks``-th row, all equally many.
    """

    def __init__(
        self,
        neighbourhoods: Sequence[Neighbourhood | None],
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
        self.anchors = sum(len(near) for near in neighbourhoods if near is not None)
        self.epoch_size = epoch_size or self.anchors
        self.epoch = 0
        self._seen = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def state_dict(self, seen: int) -> dict[str, int]:
        """Return the progress of this epoch.

        Args:
            seen: rows that have been used over all ranks; a loader reads in advance, so only their user knows.
        """
        return {"epoch": self.epoch, "seen": seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume an epoch: the next iteration leaves out the rows that were seen."""
        self.epoch, self._seen = state["epoch"], state["seen"]

    def __len__(self) -> int:
        return self.epoch_size // self.ranks

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.table()

    def table(self) -> np.ndarray:
        """Return the remaining rows of this rank, ``(n, 1 + C)``."""
        seen, self._seen = self._seen // self.ranks, 0
        return self.rows()[self.rank : len(self) * self.ranks : self.ranks][seen:]

    def rows(self) -> np.ndarray:
        """Return the whole epoch over all ranks, ``(epoch_size, 1 + C)``; anchors repeat where it has more rows."""
        rng = np.random.default_rng([self.seed, self.epoch])
        rounds = [self._draw_round(rng) for _ in range(-(-self.epoch_size // self.anchors))]
        return np.concatenate(rounds)[: self.epoch_size] if len(rounds) > 1 else rounds[0][: self.epoch_size]

    def _draw_round(self, rng: np.random.Generator) -> np.ndarray:
        """Return one group around every anchor, shuffled."""
        rows, first = np.empty((self.anchors, 1 + self.group_size), np.int64), 0
        for index, near in enumerate(self.neighbourhoods):
            if near is not None:
                last = first + len(near)
                rows[first:last, 0], rows[first:last, 1:] = index, near.draw(self.group_size, rng)
                first = last
        return rng.permutation(rows)


class RowBatches(BatchSampler):
    """Cut the rows of a sampler into batches, each a table that a dataset reads in one piece.

    Args:
        rows: the sampler.
        batch_size: rows per batch.
        drop_last: leave out a last batch that is not full.
        sampler: not used; where Lightning predicts, it puts the default sampler of the loader here.
    """

    def __init__(
        self, rows: FixedSampler | GroupSampler, batch_size: int, drop_last: bool = False, sampler: object = None
    ) -> None:
        super().__init__(rows, batch_size, drop_last)  # type: ignore[arg-type]  # torch's stub knows only indices
        self._rows = rows

    def __iter__(self) -> Iterator[np.ndarray]:  # type: ignore[override]  # a table in place of a list of indices
        rows = self._rows.table()  # at the first batch: a loader with workers begins twice
        last = len(rows) - len(rows) % self.batch_size if self.drop_last else len(rows)
        for first in range(0, last, self.batch_size):
            yield rows[first : min(first + self.batch_size, last)]
