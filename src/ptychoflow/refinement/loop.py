"""Epochs of a refinement, from the first to convergence, cancellation or the last."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from ..io.tensor_file import all_finite
from ..runtime.progress import track
from .engine import EpochStats, RefinedVariables, RefinementEngine
from .learned_prior import LearnedPrior
from .resume import ResumableState

logger = logging.getLogger(__name__)

SNAPSHOT_BYTES = 1 << 25
"""Largest object of which snapshots are kept, up to some fifteen of them."""
COLUMNS = ("epoch", "seconds", "cpu_seconds", "error", "phase_change")
"""Columns of the history."""


class RefinementCancelled(Exception):  # noqa: N818  (no error: it was requested)
    """Raised where a repetition of a refinement is cancelled."""


class RefinementLoop:
    """Run of a refinement engine, with its history, its snapshots and its resumable state.

    Args:
        engine: what to run.
        resumable: where the state is saved, and read from first; nowhere without it.

    Attributes:
        engine: the refinement engine.
        history: a column each for ``epoch``, ``seconds``, ``cpu_seconds``, ``error`` and ``phase_change``.
        snapshots: object at some epochs, ``(H, W)`` each.
        snapshot_epochs: those epochs; 0 is the initial object.
    """

    def __init__(self, engine: RefinementEngine, resumable: ResumableState | None = None) -> None:
        self.engine, self._resumable = engine, resumable
        self._prior = LearnedPrior.of(engine)
        self.history: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.snapshot_epochs: list[int] = [0]
        self.snapshots: list[Tensor] = [engine.object.cpu().clone()]
        self._spent = np.zeros(2)
        self._completed: tuple[int, dict[str, Tensor] | None] = 0, None  # epochs, and the start of the last
        if resumable is not None and (state := resumable.read()) is not None:
            self._resume(resumable, state)

    def run(self, name: str, on_epoch_end: Callable[[dict[str, float]], bool] = lambda row: True) -> bool:
        """Run the remaining epochs, until convergence.

        Args:
            name: of the scan, for messages.
            on_epoch_end: called after each epoch with its row of the history; False cancels the refinement.

        Returns:
            True if ``on_epoch_end`` cancelled it before its end.

        Raises:
            ValueError: if the refinement diverges.
        """
        with self.saved_on_interruption():
            return self._run(name, on_epoch_end)

    @contextmanager
    def saved_on_interruption(self) -> Iterator[None]:
        """Save the state after the last complete epoch where Ctrl-C or SIGTERM end the work within the context."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            completed, start = self._completed
            if self._resumable is not None and completed:
                if self.engine.epoch_start is not None and self.engine.epoch_start is not start:
                    self.engine.resume(self.engine.epoch_start)
                self._resumable.save(self._state(), at_once=True)
                logger.info("interrupted after epoch %d: saved its state, run again to resume", completed)
            raise

    def _run(self, name: str, on_epoch_end: Callable[[dict[str, float]], bool]) -> bool:
        settings, began = self.engine.settings, np.array([time.perf_counter(), time.process_time()])
        began -= self._spent
        last = settings.epochs
        for epoch in track(range(len(self.history["epoch"]) + 1, last + 1), "refining"):
            refined = RefinedVariables.in_epoch(epoch, settings)
            progress = (epoch - 1) / max(last - 1, 1)
            before = self.engine.object.clone()
            stats = self.engine.epoch(refined, progress, epoch <= settings.low_order_phase_epochs)
            if not np.isfinite(stats.error):
                raise ValueError(f"the refinement of {name} diverged in epoch {epoch}: lower refinement.step_size")
            if self._prior is not None and self._prior.follows(epoch):
                self._prior.correct(self.engine, before)
            self._spent = np.array([time.perf_counter(), time.process_time()]) - began
            converged = self._has_converged(stats, epoch)
            self._record(epoch, stats, snapshot=converged or epoch in _snapshot_epochs(last, self.engine.object.nbytes))
            if converged:
                tolerance = settings.convergence_tolerance
                logger.info("converged after %d of %d epochs (phase change < %g rad)", epoch, last, tolerance)
                return False
            if not on_epoch_end({column: values[-1] for column, values in self.history.items()}) and epoch < last:
                return True
            if self._resumable is not None:
                self._resumable.save(self._state())
        return False

    def _has_converged(self, stats: EpochStats, epoch: int) -> bool:
        """Return True if neither phase nor error changes any more, with all variables refined that are to be."""
        settings = self.engine.settings
        last_start = max(start or 0 for start in settings.start_epochs.values())
        if epoch <= max(last_start, settings.low_order_phase_epochs) or not self.history["error"]:
            return False
        error_change = abs(stats.error - self.history["error"][-1]) / max(stats.error, 1e-30)
        return max(stats.phase_change, error_change) < settings.convergence_tolerance

    def _record(self, epoch: int, stats: EpochStats, snapshot: bool) -> None:
        row = (epoch, *self._spent.tolist(), stats.error, stats.phase_change)
        for column, value in zip(self.history.values(), row, strict=True):
            column.append(value)
        if snapshot:
            self.snapshots.append(self.engine.object.cpu().clone())
            self.snapshot_epochs.append(epoch)
        self._completed = epoch, self.engine.epoch_start  # at once: a signal may come between two statements

    def _state(self) -> dict[str, Any]:
        """Return what a later run resumes from, without what an interrupted epoch has added."""
        completed = self._completed[0]
        snapshot_epochs = [epoch for epoch in self.snapshot_epochs if epoch <= completed]
        return {
            "engine": self.engine.state(),
            "history": {column: values[:completed] for column, values in self.history.items()},
            "snapshot_epochs": snapshot_epochs,
            "snapshots": self.snapshots[: len(snapshot_epochs)],
        }

    def _resume(self, resumable: ResumableState, state: dict[str, Any]) -> None:
        """Take over a saved state; one that does not fit is set aside, and the refinement starts anew."""
        initial = self.engine.state()
        try:
            _check_state(state, self._state(), self.engine.settings.epochs)
            self.engine.resume(state["engine"])
        except (ValueError, RuntimeError) as error:
            self.engine.resume(initial)
            resumable.set_aside(error)
            return
        self.history, self.snapshots = state["history"], state["snapshots"]
        self.snapshot_epochs = state["snapshot_epochs"]
        self._spent = np.array([self.history["seconds"][-1], self.history["cpu_seconds"][-1]])
        self._completed = self.history["epoch"][-1], None
        logger.info("resuming from epoch %d (state of an interrupted run)", self._completed[0])


def _check_state(state: dict[str, Any], initial: dict[str, Any], epochs: int) -> None:
    """Refuse a state that is not one of this refinement.

    Args:
        state: what was read.
        initial: the state before the first epoch.
        epochs: of the refinement.

    Raises:
        ValueError: naming what does not fit.
    """
    saved, history, snapshots = (state.get(name) for name in ("engine", "history", "snapshots"))
    if not isinstance(saved, dict) or not isinstance(history, dict) or not isinstance(snapshots, list):
        raise ValueError("the state lacks parts")
    images = {f"snapshot {number}": image for number, image in enumerate(snapshots)}
    expected = initial["engine"] | dict.fromkeys(images, initial["engine"]["object"])
    for name, tensor in expected.items():
        found = (saved | images).get(name)
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{name} of the state is not {tensor.dtype} {tuple(tensor.shape)}")
        if not all_finite(found):
            raise ValueError(f"{name} of the state holds NaN or infinity")
    done = len(history.get("epoch") or ())
    columns = [history.get(name) for name in COLUMNS]
    whole = all(isinstance(column, list) and len(column) == done and _is_finite(column) for column in columns)
    if (
        not done
        or not whole
        or set(history) != set(COLUMNS)
        or history["epoch"] != list(range(1, done + 1))
        or done > epochs
    ):
        raise ValueError(f"the history of the state is not one of 1 to {epochs} epochs")
    numbers = state.get("snapshot_epochs")
    if not isinstance(numbers, list) or not _is_finite(numbers) or len(numbers) != len(snapshots):
        raise ValueError("snapshots of the state have no epochs")


def _is_finite(column: list[Any]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in column)


def _snapshot_epochs(epochs: int, object_bytes: int) -> list[int]:
    """Return the epochs whose object is kept: ever fewer towards the last, which is one of them.

    Of an object that is too large for them only the last is kept.
    """
    if object_bytes > SNAPSHOT_BYTES:
        return [epochs]
    kept = {1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 800}
    return sorted(epoch for epoch in kept | {epochs} if epoch <= epochs)
