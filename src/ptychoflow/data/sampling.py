"""The order in which groups come: fixed by seed, epoch and rank, and resumed where it stopped.

A group is a row ``(scan, member, member, ...)``, its anchor first.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from .grouping import Neighbourhood


class FixedSampler(Sampler[np.ndarray]):
    """One rank's share of given rows, in order: every row on exactly one rank."""

    def __init__(self, rows: np.ndarray, rank: int = 0, ranks: int = 1) -> None:
        self.rows = np.array_split(rows, ranks)[rank]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.rows)

    def table(self) -> np.ndarray:
        """The rows of this rank, ``(n, 1 + C)``."""
        return self.rows


class GroupSampler(Sampler[np.ndarray]):
    """Rows of one epoch: groups drawn and shuffled anew each time, by seed and epoch alone.

    Ranks take turns, so that any number of them together has seen the same rows after the same number of batches: an
    epoch that was stopped resumes on as many as there are now.

    Args:
        neighbourhoods: candidates of each scan; None for a scan that is not trained on.
        size: patterns per group, C.
        seed: of the draw and the order.
        epoch_size: rows per epoch over all ranks; one per anchor without it.
        rank: this process.
        ranks: how many processes share an epoch; each takes every ``ranks``-th row, all equally many.
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
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def state_dict(self, seen: int) -> dict[str, int]:
        """Where this epoch stands.

        Args:
            seen: rows that have been used over all ranks; a loader reads ahead, so that only who uses them knows.
        """
        return {"epoch": self.epoch, "seen": seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where an epoch stood: its next pass leaves out what was seen."""
        self.epoch, self._seen = state["epoch"], state["seen"]

    def __len__(self) -> int:
        return self.epoch_size // self.ranks

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.table()

    def table(self) -> np.ndarray:
        """The rows of this rank that are still to come, ``(n, 1 + C)``."""
        seen, self._seen = self._seen // self.ranks, 0
        return self.rows()[self.rank : len(self) * self.ranks : self.ranks][seen:]

    def rows(self) -> np.ndarray:
        """The whole epoch over all ranks, ``(epoch_size, 1 + C)``; one longer than the anchors passes them again."""
        rng = np.random.default_rng([self.seed, self.epoch])
        passes = [self._one_pass(rng) for _ in range(-(-self.epoch_size // self.anchors))]
        return np.concatenate(passes)[: self.epoch_size] if len(passes) > 1 else passes[0][: self.epoch_size]

    def _one_pass(self, rng: np.random.Generator) -> np.ndarray:
        rows, first = np.empty((self.anchors, 1 + self.group_size), np.int64), 0
        for index, near in enumerate(self.neighbourhoods):
            if near is not None:
                here = slice(first, first + len(near))
                rows[here, 0], rows[here, 1:] = index, near.draw(self.group_size, rng)
                first = here.stop
        return rng.permutation(rows)


class RowBatches(BatchSampler):
    """Cuts the rows of a sampler into batches: each one table, which a dataset reads whole.

    Args:
        rows: the sampler.
        batch_size: rows per batch.
        drop_last: whether to leave out a last batch that is not full.
        sampler: not used; where Lightning predicts, it puts the default sampler of the loader here.
    """

    def __init__(
        self, rows: FixedSampler | GroupSampler, batch_size: int, drop_last: bool = False, sampler: object = None
    ) -> None:
        super().__init__(rows, batch_size, drop_last)

    def __iter__(self) -> Iterator[np.ndarray]:
        rows = self.sampler.table()  # when the first batch is asked for: a loader with workers begins twice
        last = len(rows) - len(rows) % self.batch_size if self.drop_last else len(rows)
        for first in range(0, last, self.batch_size):
            yield rows[first : min(first + self.batch_size, last)]
