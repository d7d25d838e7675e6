"""The epochs of a refinement, from the first to convergence, cancellation or the last."""

import logging
import time
from collections.abc import Callable

import numpy as np

from ..runtime.progress import track
from .engine import EpochStats, RefinedVariables, RefinementEngine
from .resume import ResumableState

logger = logging.getLogger(__name__)


class RefinementCancelled(Exception):  # noqa: N818  (no error: somebody asked for it)
    """A repetition of a fit was told to stop."""


class RefinementLoop:
    """A fit from its first epoch to its last: what it was like on the way, and whether to go on.

    Args:
        fit: what gets better.
        unfinished: where its state is kept and looked for; nowhere without it.

    Attributes:
        history: a column each for ``epoch``, ``seconds``, ``cpu_seconds``, ``error`` and ``phase_change``.
        snapshots: the object at some epochs, those in ``kept``.
    """

    def __init__(self, fit: RefinementEngine, unfinished: ResumableState | None = None) -> None:
        self.fit, self._unfinished = fit, unfinished
        self.history = {name: [] for name in ("epoch", "seconds", "cpu_seconds", "error", "phase_change")}
        self.kept, self.snapshots = [0], [fit.object.cpu().clone()]
        self._spent = np.zeros(2)
        if unfinished is not None and (state := unfinished.read()) is not None:
            self._resume(state)

    def run(self, name: str, go_on: Callable[[dict[str, float]], bool] = lambda row: True) -> bool:
        """Go through the epochs that are left, until the fit has settled; whether ``go_on`` ended it before.

        Raises:
            ValueError: if the fit diverges.
        """
        settings, began = self.fit.settings, np.array([time.perf_counter(), time.process_time()])
        began -= self._spent
        last = settings.epochs
        for epoch in track(range(len(self.history["epoch"]) + 1, last + 1), "refining"):
            free, smooth = RefinedVariables.in_epoch(epoch, settings), epoch <= settings.low_order_phase_epochs
            done = self.fit.epoch(free, (epoch - 1) / max(last - 1, 1), smooth)
            if not np.isfinite(done.error):
                raise ValueError(f"the fit of {name} diverged in epoch {epoch}: lower refinement.step_size")
            self._spent = np.array([time.perf_counter(), time.process_time()]) - began
            settled = self._settled(done, epoch)
            self._note(epoch, done, keep=settled or epoch in _snapshot_epochs(last))
            if settled:
                logger.info("settled after %d of %d epochs", epoch, last)
                return False
            if not go_on({column: values[-1] for column, values in self.history.items()}) and epoch < last:
                return True
            if self._unfinished is not None:
                self._unfinished.save(self._state())
        return False

    def forget(self) -> None:
        """What it made is written: nobody will go on from its state."""
        self._unfinished.forget()

    def _settled(self, done: EpochStats, epoch: int) -> bool:
        """Whether neither the phase nor the error changes any more, though everything to fit has been let free."""
        settings = self.fit.settings
        all_free = max(
            settings.probe_start_epoch or 0, settings.position_start_epoch or 0, settings.intensity_start_epoch or 0
        )
        if epoch <= max(all_free, settings.low_order_phase_epochs) or not self.history["error"]:
            return False
        change = abs(done.error - self.history["error"][-1]) / max(done.error, 1e-30)
        return done.phase_change < settings.convergence_tolerance and change < settings.convergence_tolerance

    def _note(self, epoch: int, done: EpochStats, keep: bool) -> None:
        row = (epoch, *self._spent.tolist(), done.error, done.phase_change)
        for column, value in zip(self.history.values(), row, strict=True):
            column.append(value)
        if keep:
            self.kept.append(epoch)
            self.snapshots.append(self.fit.object.cpu().clone())

    def _state(self) -> dict:
        return {"fit": self.fit.state(), "history": self.history, "kept": self.kept, "snapshots": self.snapshots}

    def _resume(self, state: dict) -> None:
        self.fit.resume(state["fit"])
        self.history, self.kept, self.snapshots = state["history"], state["kept"], state["snapshots"]
        self._spent = np.array([self.history["seconds"][-1], self.history["cpu_seconds"][-1]])
        logger.info("going on after epoch %d, where an earlier run was broken off", self.history["epoch"][-1])


def _snapshot_epochs(epochs: int) -> list[int]:
    """Epochs whose object is kept: each of the first, then ever fewer, and the last."""
    kept = {1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 800}
    return sorted(epoch for epoch in kept | {epochs} if epoch <= epochs)
