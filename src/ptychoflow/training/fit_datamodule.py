"""Fits of the scans to train on, for a network to learn how to correct them."""

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import Network, Refinement, Runtime, Training
from ..core.scan import Scan
from ..data.batch import Batch, ScanTable
from ..data.datamodule import TrainingData
from ..data.torch_dataset import Reading
from ..networks.object_network import ObjectCorrector, object_features
from ..refinement.engine import RefinementEngine
from ..refinement.short_schedule import EPOCHS, run_epoch
from ..runtime.distributed import HINT_SMALLER_PROBLEM, DistributedContext
from ..runtime.gpu import device_kind, out_of_memory_hint
from .trainer import launcher

logger = logging.getLogger(__name__)

FITS = 3
"""Fits to learn from of each scan where a part of the patterns is left out of each."""


@out_of_memory_hint(HINT_SMALLER_PROBLEM)
def training_data(scans: Sequence[Scan], network: Network, training: Training, runtime: Runtime) -> TrainingData:
    """What a network of these settings learns from.

    Raises:
        ValueError: if a scan is too small, patterns differ in size, or no group can be formed.
    """
    kind = FitData if network.input == "object_estimate" else TrainingData
    return kind(scans, network.group_size, training, runtime)


class FitData(TrainingData):
    """Groups to train on, each with a view of a fit of its scan: after one of its first epochs, another one each time.

    From the second epoch of training on, half of the views are of fits that the network, as it was when the epoch
    began, has corrected after each of their own: so it learns from what it will meet (DAgger: Ross, Gordon and Bagnell
    2011, AISTATS 15, 627).

    Where there are held_out_neighbours, a fit is given only some of the patterns, as many as the groups' share of members and
    held_out_neighbours together, and what a network makes of it is held against the others.

    Args:
        scans: what to train on.
        group_size: patterns per group, C.
        training: grouping, split, batch size, seed.
        runtime: loader processes, devices.
    """

    def __init__(self, scans: Sequence[Scan], group_size: int, training: Training, runtime: Runtime) -> None:
        super().__init__(scans, group_size, training, runtime)
        began = time.perf_counter()
        own = launcher(runtime.devices, runtime.nodes).local_rank()  # no trainer has given out the devices yet
        self._peers = DistributedContext(torch.device("cuda", own) if device_kind(runtime) == "cuda" else "cpu")
        share = group_size / self.members
        self._fitted = [_Fitted(scan, share, [training.seed, n], self._peers) for n, scan in enumerate(scans)]
        self._corrected: dict[str, Any] = {"epoch": 0, "weights": None}
        self._table = ScanTable(scans, labels=False, group_size=group_size)
        logger.info("fitted %s to learn from, %.1f s", ", ".join(s.name for s in scans), time.perf_counter() - began)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> Batch:
        return self._shown(torch.from_numpy(rows), epoch).on(super().batch(rows))

    def on_before_batch_transfer(self, batch: Reading, dataloader_idx: int = 0) -> tuple[Reading, "_Shown"]:
        """Cut the views here, where they and the rows lie: on a GPU the rows would be waited for."""
        learns = self.trainer is not None and self.trainer.training
        if learns and self.trainer.current_epoch > self._corrected["epoch"]:
            network = self.trainer.lightning_module.network
            weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
            self.load_state_dict({"epoch": self.trainer.current_epoch, "weights": weights})
        shown = self._shown(batch.rows, self.trainer.current_epoch if learns else None)
        return batch, shown if self._device.type == "cpu" else shown._replace(view=shown.view.pin_memory())

    def on_after_batch_transfer(self, batch: tuple[Reading, "_Shown"], dataloader_idx: int = 0) -> Batch:
        reading, shown = batch
        return shown.on(super().on_after_batch_transfer(reading))

    def state_dict(self) -> dict[str, Any]:
        """The epoch that began last, and the weights that corrected the fits which it shows."""
        return self._corrected

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Show fits that a network with these weights corrects."""
        self._corrected = state_dict
        if state_dict["weights"] is None:
            return
        network = copy.deepcopy(self.trainer.lightning_module.network).eval().to(self._peers.device)
        network.load_state_dict(state_dict["weights"])
        for fitted in self._fitted:
            fitted.follow(network, state_dict["epoch"])

    def _shown(self, rows: Tensor, epoch: int | None) -> "_Shown":
        """A view of each group; which one hangs on its anchor and the epoch, so that resuming keeps it."""
        scan, members = rows[:, 0], rows[:, 1:]
        centre, _ = self._table.place(scan, members)
        chosen, size = zip(scan.tolist(), centre.tolist(), members, strict=True), self._table.size
        views, held_out = zip(*(self._fitted[n].cut(place, group, epoch, size) for n, place, group in chosen))
        return _Shown(torch.stack(views), torch.stack(held_out), int(members[:, 0].sum()) % 8)


class _Shown(NamedTuple):
    """What a batch has beside groups, as :class:`Batch` says."""

    view: Tensor
    held_out: Tensor
    turn: int

    def on(self, batch: Batch) -> Batch:
        return batch._replace(**self._asdict())


class _Fitted:
    """Views of fits of one scan, on the pixels of its truth, and which patterns each fit was given.

    Args:
        scan: to fit.
        share: of its patterns that a fit is given.
        seed: of the choice of patterns and their order.
        ctx: where to compute.
    """

    def __init__(self, scan: Scan, share: float, seed: list[int], ctx: DistributedContext) -> None:
        self._scan, self._seed, self._peers = scan, seed, ctx
        self._given = round(share * len(scan))
        self._plain = self._shown = self._views()

    def follow(self, network: ObjectCorrector, epoch: int) -> None:
        """Show as many views of fits that a network corrects on their way; what they are given hangs on the epoch."""
        self._shown = self._plain + self._views(network, epoch)

    def cut(self, centre: Sequence[float], members: Tensor, epoch: int | None, size: int) -> tuple[Tensor, Tensor]:
        """One view around a whole pixel, ``(4, N, N)``, its edge repeated, and which members its fit was not given.

        Without an epoch, to validate: of the fits that nothing corrects, so that errors can be compared.
        """
        views = self._plain if epoch is None else self._shown
        seen, origin, given = views[(int(members[0]) + (epoch or 0)) % len(views)]
        corner = np.rint(np.subtract(centre, origin)).astype(int) - size // 2
        y, x = (torch.arange(c, c + size).clamp(0, side - 1) for c, side in zip(corner, seen.shape[1:], strict=True))
        return seen[:, y[:, None], x], ~given[members]

    def _views(self, network: ObjectCorrector | None = None, epoch: int = 0) -> list[tuple[Tensor, np.ndarray, Tensor]]:
        """What is seen after each epoch of fits, where it begins, and what they were given; corrected ones only."""
        scan, views = self._scan, []
        subpixel_shift = np.zeros(2) if scan.truth is None else np.mod(scan.truth.origin, 1.0)
        for number in range(FITS if self._given < len(scan) else 1):
            rng = np.random.default_rng([*self._seed, number, epoch])
            chosen = np.sort(rng.permutation(len(scan))[: self._given])
            part = replace(scan, counts=scan.counts[chosen], positions=scan.positions[chosen] - subpixel_shift)
            engine = RefinementEngine(part, Refinement(seed=int(rng.integers(1 << 31))), ctx=self._peers)
            origin, illumination = np.add(engine.origin, subpixel_shift), engine.illumination()
            given = torch.from_numpy(np.isin(np.arange(len(scan)), chosen))
            for done in range(EPOCHS):
                before, _ = run_epoch(engine, done)
                gradient = engine.preconditioned_gradient()
                seen = object_features(engine.object, before, gradient, illumination)
                if network is None or done:  # nothing has corrected the first
                    views.append((seen.cpu(), origin, given))
                if network is not None:
                    with torch.no_grad():
                        engine.object = network.correct(seen)
        return views
