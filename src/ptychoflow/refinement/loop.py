"""Epochs of a refinement, from the first to convergence, cancellation or the last."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..config import Refinement
from ..io.tensor_file import all_finite
from ..runtime.progress import track
from .annealing import CyclePosition, cycle_lengths, position_in_cycle
from .engine import EpochStats, RefinedVariables, RefinementEngine
from .held_out import NOISY, KeptEpoch, pixel_noise
from .learned_prior import LearnedPrior
from .resume import ResumableState

logger = logging.getLogger(__name__)

SNAPSHOT_BYTES = 1 << 25
"""Largest object of which snapshots are kept, up to some fifteen of them."""
COLUMNS = ("epoch", "seconds", "cpu_seconds", "error", "phase_change")
"""Columns of the history; ``held_out`` is one more where pixels are held out."""


class RefinementCancelled(Exception):  # noqa: N818  (no error: it was requested)
    """Raised where a repetition of a refinement is cancelled."""


class RefinementLoop:
    """Run of a refinement engine, with its history, its snapshots and its resumable state.

    Args:
        engine: what to run.
        resumable: where the state is saved, and read from first; nowhere without it.

    Attributes:
        engine: the refinement engine.
        history: a column each for ``epoch``, ``seconds``, ``cpu_seconds``, ``error`` and ``phase_change``, and for
            ``held_out`` where pixels are held out.
        snapshots: object at some epochs, ``(H, W)`` each.
        snapshot_epochs: those epochs; 0 is the initial object.
    """

    def __init__(self, engine: RefinementEngine, resumable: ResumableState | None = None) -> None:
        self.engine, self._resumable = engine, resumable
        self._prior = LearnedPrior.of(engine)
        self._cycles = _cycle_lengths(engine.settings)
        self._kept = KeptEpoch() if self._holds_out() else None
        if self._kept is None:
            self._cycles = [engine.settings.epochs]
        else:
            engine.hold_out_pixels()
        self.history: dict[str, list[Any]] = {name: [] for name in _columns(self._kept is not None)}
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
            cancelled = self._run(name, on_epoch_end)
            self._restore_kept_epoch()
        return cancelled

    @property
    def kept_epoch(self) -> int | None:
        """Epoch whose state is the result, as held-out pixels decided; None where none are held out."""
        return None if self._kept is None else self._kept.epoch

    def _holds_out(self) -> bool:
        """Return True if held-out pixels decide: by default where photons are few and there are several cycles."""
        stop = self.engine.settings.stop
        several = stop == "auto" and len(self._cycles) > 1
        return stop == "held_out" or (several and pixel_noise(self.engine.illumination()) > NOISY)

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
        last, done = settings.epochs, len(self.history["epoch"])
        if done and self._fits_noise(done):
            return False
        for epoch in track(range(done + 1, last + 1), "refining"):
            position = position_in_cycle(epoch, self._cycles)
            stats = self._epoch(name, epoch, position)
            self._spent = np.array([time.perf_counter(), time.process_time()]) - began
            converged = position.ends_refinement and self._has_converged(stats, epoch)
            self._record(epoch, stats, snapshot=converged or epoch in _snapshot_epochs(last, self.engine.object.nbytes))
            if self._fits_noise(epoch):
                return False
            if converged:
                tolerance = settings.convergence_tolerance
                logger.info("converged after %d of %d epochs (phase change < %g rad)", epoch, last, tolerance)
                return False
            if not on_epoch_end({column: values[-1] for column, values in self.history.items()}) and epoch < last:
                return True
            if self._resumable is not None:
                self._resumable.save(self._state())
        return False

    def _epoch(self, name: str, epoch: int, position: CyclePosition) -> EpochStats:
        """Run an epoch, with the correction by a prior where one follows."""
        settings = self.engine.settings
        refined = RefinedVariables.in_epoch(epoch, settings)
        with_low_order_phase = position.number <= settings.low_order_phase_epochs
        stats = self.engine.epoch(refined, position.progress, with_low_order_phase)
        if not np.isfinite(stats.error):
            raise ValueError(f"the refinement of {name} diverged in epoch {epoch}: lower refinement.step_size")
        start = self.engine.epoch_start
        assert start is not None
        if self._prior is not None and self._prior.follows(epoch):
            self._prior.correct(self.engine, start["object"])
            if self._kept is not None:
                stats = replace(stats, held_out=self.engine.held_out_error())
        if self._kept is not None and stats.held_out is not None:
            self._kept.add(epoch, stats.held_out, start)
        return stats

    def _fits_noise(self, epoch: int) -> bool:
        """Return True after a cycle at whose end held-out pixels are predicted worse than before it."""
        position = position_in_cycle(epoch, self._cycles)
        return self._kept is not None and position.ends_cycle and self._kept.epoch < epoch

    def _restore_kept_epoch(self) -> None:
        """Return the engine to the end of the kept epoch."""
        if self._kept is None or self._kept.state is None:
            return
        self.engine.resume(self._kept.state)
        logger.info(
            "kept epoch %d of %d, which predicts held-out pixels best (R-factor %.4f)",
            *(self._kept.epoch, len(self.history["epoch"]), self.history["held_out"][self._kept.epoch - 1]),
        )

    def _has_converged(self, stats: EpochStats, epoch: int) -> bool:
        """Return True if neither phase nor error changes any more, with all variables refined that are to be."""
        settings = self.engine.settings
        last_start = max(start or 0 for start in settings.start_epochs.values())
        if epoch <= max(last_start, settings.low_order_phase_epochs) or not self.history["error"]:
            return False
        error_change = abs(stats.error - self.history["error"][-1]) / max(stats.error, 1e-30)
        return max(stats.phase_change, error_change) < settings.convergence_tolerance

    def _record(self, epoch: int, stats: EpochStats, snapshot: bool) -> None:
        row: list[Any] = [epoch, *self._spent.tolist(), stats.error, stats.phase_change]
        row += [] if self._kept is None else [stats.held_out]
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
            "kept": None if self._kept is None else self._kept.state,
        }

    def _resume(self, resumable: ResumableState, state: dict[str, Any]) -> None:
        """Take over a saved state; one that does not fit is set aside, and the refinement starts anew."""
        initial = self.engine.state()
        try:
            _check_state(state, self._state(), self.engine.settings.epochs)
            self._resume_kept_epoch(state)
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

    def _resume_kept_epoch(self, state: dict[str, Any]) -> None:
        """Choose the kept epoch anew from the history of a saved state, and take over its saved engine state."""
        if self._kept is None:
            return
        kept = KeptEpoch()
        for epoch, error in enumerate(state["history"]["held_out"], 1):
            kept.add(epoch, error, state["kept"])
        if (kept.epoch == len(state["history"]["epoch"])) != (state["kept"] is None):
            raise ValueError("the kept epoch of the state is not that of its history")
        self._kept = kept


def _columns(with_held_out: bool) -> tuple[str, ...]:
    """Return the columns of the history."""
    return (*COLUMNS, "held_out") if with_held_out else COLUMNS


def _cycle_lengths(settings: Refinement) -> list[int]:
    """Return the epochs of each annealing cycle where held-out pixels decide how many.

    A prior is one more remedy against noise: with it, all epochs are one cycle, of which the best epoch is kept.
    """
    if settings.prior != "none":
        return [settings.epochs]
    return cycle_lengths(settings.epochs, max(start or 0 for start in settings.start_epochs.values()))


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
    _check_tensors(saved | images, expected)
    if isinstance(kept := state.get("kept"), dict):
        _check_tensors(kept, initial["engine"])
    elif kept is not None:
        raise ValueError("the kept epoch of the state is none")
    _check_history(history, tuple(initial["history"]), epochs)
    numbers = state.get("snapshot_epochs")
    if not isinstance(numbers, list) or not _is_finite(numbers) or len(numbers) != len(snapshots):
        raise ValueError("snapshots of the state have no epochs")


def _check_tensors(tensors: dict[str, Any], expected: dict[str, Tensor]) -> None:
    """Refuse tensors that are missing, of another shape or dtype than expected, or not finite."""
    for name, tensor in expected.items():
        found = tensors.get(name)
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{name} of the state is not {tensor.dtype} {tuple(tensor.shape)}")
        if not all_finite(found):
            raise ValueError(f"{name} of the state holds NaN or infinity")


def _check_history(history: dict[str, Any], names: tuple[str, ...], epochs: int) -> None:
    """Refuse a history that has not the columns of these names, or not one to ``epochs`` rows."""
    done = len(history.get("epoch") or ())
    columns = [history.get(name) for name in names]
    whole = all(isinstance(column, list) and len(column) == done and _is_finite(column) for column in columns)
    if (
        not done
        or not whole
        or set(history) != set(names)
        or history["epoch"] != list(range(1, done + 1))
        or done > epochs
    ):
        raise ValueError(f"the history of the state is not one of 1 to {epochs} epochs")


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
