"""Fits of the scans to train on, for a network to learn how to correct them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import Network, Refinement, Runtime, Training
from ..data.batches import Batch, ScanTable
from ..data.datamodule import TrainingData
from ..data.reading import Reading
from ..fitting.fit import Fit
from ..fitting.peers import Peers
from ..networks.whole import view_of
from ..scan import Scan
from .corrections import EPOCHS, one_epoch
from .trainer import launcher

logger = logging.getLogger(__name__)

FITS = 3
"""Fits to learn from of each scan where a part of the patterns is left out of each."""


def training_data(scans: Sequence[Scan], network: Network, training: Training, runtime: Runtime) -> TrainingData:
    """What a network of these settings learns from.

    Raises:
        ValueError: if a scan is too small, patterns differ in size, or no group can be formed.
    """
    kind = FitData if network.input == "fit" else TrainingData
    return kind(scans, network.group_size, training, runtime)


class FitData(TrainingData):
    """Groups to train on, each with a view of a fit of its scan: after one of its first epochs, another one each time.

    Where there are witnesses, a fit is given only some of the patterns, as many as the groups' share of members and
    witnesses together, and what a network makes of it is held against the others.

    Args:
        scans: what to train on.
        group_size: patterns per group, C.
        training: grouping, split, batch size, seed.
        runtime: loader processes, devices.
    """

    def __init__(self, scans: Sequence[Scan], group_size: int, training: Training, runtime: Runtime) -> None:
        super().__init__(scans, group_size, training, runtime)
        began = time.perf_counter()
        gpu = torch.cuda.is_available() and runtime.accelerator != "cpu"
        own = launcher(runtime.devices, runtime.nodes).local_rank()  # no trainer has given out the devices yet
        peers = Peers(torch.device("cuda", own) if gpu else "cpu")
        share = group_size / self.members
        self._fitted = [_Fitted(scan, share, [training.seed, n], peers) for n, scan in enumerate(scans)]
        self._table = ScanTable(scans, labels=False, group_size=group_size)
        logger.info("fitted %s to learn from, %.1f s", ", ".join(s.name for s in scans), time.perf_counter() - began)

    def batch(self, rows: np.ndarray, epoch: int = 0) -> Batch:
        return self._shown(torch.from_numpy(rows), epoch).on(super().batch(rows))

    def on_before_batch_transfer(self, batch: Reading, dataloader_idx: int = 0) -> tuple[Reading, "_Shown"]:
        """Cut the views here, where they and the rows lie: on a GPU the rows would be waited for."""
        learns = self.trainer is not None and self.trainer.training
        shown = self._shown(batch.rows, self.trainer.current_epoch if learns else 0)
        return batch, shown if self._device.type == "cpu" else shown._replace(view=shown.view.pin_memory())

    def on_after_batch_transfer(self, batch: tuple[Reading, "_Shown"], dataloader_idx: int = 0) -> Batch:
        reading, shown = batch
        return shown.on(super().on_after_batch_transfer(reading))

    def _shown(self, rows: Tensor, epoch: int) -> "_Shown":
        """A view of each group; which one hangs on its anchor and the epoch, so that resuming keeps it."""
        scan, members = rows[:, 0], rows[:, 1:]
        centre, _ = self._table.place(scan, members)
        chosen, size = zip(scan.tolist(), centre.tolist(), members, strict=True), self._table.size
        views, unseen = zip(*(self._fitted[n].cut(place, group, epoch, size) for n, place, group in chosen))
        return _Shown(torch.stack(views), torch.stack(unseen), int(members[:, 0].sum()) % 8)


class _Shown(NamedTuple):
    """What a batch has beside groups, as :class:`Batch` says."""

    view: Tensor
    unseen: Tensor
    turn: int

    def on(self, batch: Batch) -> Batch:
        return batch._replace(**self._asdict())


class _Fitted:
    """Views of fits of one scan, on the pixels of its truth, and which patterns each fit was given.

    Args:
        scan: to fit.
        share: of its patterns that a fit is given.
        seed: of the choice of patterns and their order.
        peers: where to compute.
    """

    def __init__(self, scan: Scan, share: float, seed: list[int], peers: Peers) -> None:
        rest = np.zeros(2) if scan.truth is None else np.mod(scan.truth.origin, 1.0)
        self._views: list[tuple[Tensor, np.ndarray, Tensor]] = []
        for number in range(FITS if share < 1 else 1):
            rng = np.random.default_rng([*seed, number])
            chosen = np.sort(rng.permutation(len(scan))[: round(share * len(scan))])
            part = replace(scan, counts=scan.counts[chosen], positions=scan.positions[chosen] - rest)
            fit = Fit(part, Refinement(seed=int(rng.integers(1 << 31))), peers=peers)
            origin, light = np.add(fit.origin, rest), fit.light()
            given = torch.from_numpy(np.isin(np.arange(len(scan)), chosen))
            for epoch in range(EPOCHS):
                before, _ = one_epoch(fit, epoch)
                seen = view_of(fit.object, before, fit.slope(), light)
                self._views.append((seen.cpu(), origin, given))

    def cut(self, centre: Sequence[float], members: Tensor, epoch: int, size: int) -> tuple[Tensor, Tensor]:
        """One view around a whole pixel, ``(4, N, N)``, its edge repeated, and which members its fit was not given."""
        seen, origin, given = self._views[(int(members[0]) + epoch) % len(self._views)]
        corner = np.rint(np.subtract(centre, origin)).astype(int) - size // 2
        y, x = (torch.arange(c, c + size).clamp(0, side - 1) for c, side in zip(corner, seen.shape[1:], strict=True))
        return seen[:, y[:, None], x], ~given[members]
