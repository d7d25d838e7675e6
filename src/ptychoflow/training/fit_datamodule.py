"""Refinements of the training scans, from which a network learns to correct objects between epochs."""

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

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
"""Refinements of each scan to learn from where each omits some of the patterns."""


@out_of_memory_hint(HINT_SMALLER_PROBLEM)
def training_data(scans: Sequence[Scan], network: Network, training: Training, runtime: Runtime) -> TrainingData:
    """Return the data that a network of these settings learns from.

    Args:
        scans: to train on.
        network: input and group size.
        training: grouping, split, batch size, seed.
        runtime: loader processes, devices.

    Raises:
        ValueError: if a scan is too small, patterns differ in size, or no group can be formed.
    """
    kind = FitData if network.input == "object_estimate" else TrainingData
    return kind(scans, network.group_size, training, runtime)


class FitData(TrainingData):
    """Groups to train on, each with features of a refinement of its scan, from another of the first epochs each time.

    From the second epoch of training on, half of the features are of refinements in which the network, as it was when
    the training epoch began, corrected the object after each refinement epoch: it learns from the input that it will
    get (DAgger: Ross, Gordon and Bagnell 2011, AISTATS 15, 627).

    With held-out neighbours, a refinement uses only some of the patterns, as many as the share of a group's members in
    members and held-out neighbours together; the prediction of the network is compared with the other patterns.

    Args:
        scans: to train on.
        group_size: patterns per group, C.
        training: grouping, split, batch size, seed.
        runtime: loader processes, devices.
    """

    def __init__(self, scans: Sequence[Scan], group_size: int, training: Training, runtime: Runtime) -> None:
        super().__init__(scans, group_size, training, runtime)
        began = time.perf_counter()
        rank = launcher(runtime.devices, runtime.nodes).local_rank()  # no trainer has assigned the devices yet
        self._ctx = DistributedContext(torch.device("cuda", rank) if device_kind(runtime) == "cuda" else "cpu")
        share = group_size / self.members
        self._fits = [_FitCache(scan, share, [training.seed, n], self._ctx) for n, scan in enumerate(scans)]
        self._correction: dict[str, Any] = {"epoch": 0, "weights": None}
        self._table = ScanTable(scans, labels=False, group_size=group_size)
        names = ", ".join(scan.name for scan in scans)
        logger.info("refined %s to learn from, %.1f s", names, time.perf_counter() - began)

    def batch(self, rows: np.ndarray, epoch: int | None = None) -> Batch:
        """Read the groups of some rows on the CPU, with features of an epoch of training.

        Args:
            rows: scan and members of each group, ``(B, 1 + C)``.
            epoch: of training; None for features of uncorrected refinements.
        """
        return self._features(torch.from_numpy(rows), epoch).add_to(super().batch(rows))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> tuple[Reading, "_BatchFeatures"]:
        """Cut the features on the CPU, where they and the rows are: rows on a GPU would have to be waited for."""
        trainer = self.trainer
        training = trainer is not None and trainer.training
        epoch = trainer.current_epoch if trainer is not None and training else None
        if epoch is not None and epoch > self._correction["epoch"]:
            weights = {name: value.detach().cpu().clone() for name, value in self._network().state_dict().items()}
            self.load_state_dict({"epoch": epoch, "weights": weights})
        cut = self._features(batch.rows, epoch)
        return batch, cut if self._device.type == "cpu" else cut._replace(features=cut.features.pin_memory())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> Batch:
        """Make a batch on its device and add the features."""
        reading, features = batch
        return features.add_to(super().on_after_batch_transfer(reading))

    def state_dict(self) -> dict[str, Any]:
        """Return the last epoch of training that began, and the weights that correct its refinements."""
        return self._correction

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Correct refinements by a network with the weights of a state."""
        self._correction = state_dict
        if state_dict["weights"] is None:
            return
        network = copy.deepcopy(self._network()).eval().to(self._ctx.device)
        network.load_state_dict(state_dict["weights"])
        for fit in self._fits:
            fit.add_corrected(network, state_dict["epoch"])

    def _network(self) -> ObjectCorrector:
        """Return the network that is being trained."""
        task: Any = None if self.trainer is None else self.trainer.lightning_module
        return cast(ObjectCorrector, task.network)

    def _features(self, rows: Tensor, epoch: int | None) -> "_BatchFeatures":
        """Return features of each group; anchor and epoch choose the refinement, so that resuming repeats it."""
        scan, members = rows[:, 0], rows[:, 1:]
        centre, _ = self._table.place(scan, members)
        groups, size = zip(scan.tolist(), centre.tolist(), members, strict=True), self._table.size
        features, held_out = zip(*(self._fits[n].cut(point, group, epoch, size) for n, point, group in groups))
        return _BatchFeatures(torch.stack(features), torch.stack(held_out), int(members[:, 0].sum()) % 8)


class _BatchFeatures(NamedTuple):
    """The fields that a batch has beside its groups; see :class:`Batch`."""

    features: Tensor
    held_out: Tensor
    rotation: int

    def add_to(self, batch: Batch) -> Batch:
        """Return the batch with these fields."""
        return batch._replace(**self._asdict())


class _EpochFeatures(NamedTuple):
    """Features of an object after an epoch of refinement.

    Attributes:
        features: ``(4, H, W)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        used: True for patterns that the refinement used, ``(J,)``.
    """

    features: Tensor
    origin: np.ndarray
    used: Tensor


class _FitCache:
    """Features of refinements of one scan, on the pixels of its ground truth.

    Args:
        scan: to refine.
        share: of its patterns that a refinement uses.
        seed: of the choice of patterns and their order.
        ctx: device to compute on.
    """

    def __init__(self, scan: Scan, share: float, seed: list[int], ctx: DistributedContext) -> None:
        self._scan, self._seed, self._ctx = scan, seed, ctx
        self._used_count = round(share * len(scan))
        self._uncorrected = self._all = self._refine()

    def add_corrected(self, network: ObjectCorrector, epoch: int) -> None:
        """Add as many features of refinements that a network corrects; the epoch chooses the patterns they use."""
        self._all = self._uncorrected + self._refine(network, epoch)

    def cut(self, centre: Sequence[float], members: Tensor, epoch: int | None, size: int) -> tuple[Tensor, Tensor]:
        """Cut features around a whole pixel, ``(4, N, N)``, edges repeated, and tell which members are held out.

        Without an epoch, to validate: of uncorrected refinements, so that errors can be compared.
        """
        entries = self._uncorrected if epoch is None else self._all
        features, origin, used = entries[(int(members[0]) + (epoch or 0)) % len(entries)]
        corner = np.rint(np.subtract(centre, origin)).astype(int) - size // 2
        y, x = (
            torch.arange(c, c + size).clamp(0, side - 1) for c, side in zip(corner, features.shape[1:], strict=True)
        )
        return features[:, y[:, None], x], ~used[members]

    def _refine(self, network: ObjectCorrector | None = None, epoch: int = 0) -> list[_EpochFeatures]:
        """Return features after each epoch of refinements; with a network, those after its corrections only."""
        scan, entries = self._scan, []
        subpixel_shift = np.zeros(2) if scan.truth is None else np.mod(scan.truth.origin, 1.0)
        for number in range(FITS if self._used_count < len(scan) else 1):
            rng = np.random.default_rng([*self._seed, number, epoch])
            chosen = np.sort(rng.permutation(len(scan))[: self._used_count])
            part = replace(scan, counts=scan.counts[chosen], positions=scan.positions[chosen] - subpixel_shift)
            engine = RefinementEngine(part, Refinement(seed=int(rng.integers(1 << 31))), ctx=self._ctx)
            origin, illumination = np.add(engine.origin, subpixel_shift), engine.illumination()
            used = torch.from_numpy(np.isin(np.arange(len(scan)), chosen))
            for done in range(EPOCHS):
                before, _ = run_epoch(engine, done)
                features = object_features(engine.object, before, engine.preconditioned_gradient(), illumination)
                if network is None or done:  # the first epoch comes before any correction
                    entries.append(_EpochFeatures(features.cpu(), origin, used))
                if network is not None:
                    with torch.no_grad():
                        engine.object = network.correct(features)
        return entries
