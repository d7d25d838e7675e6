"""Fit object, probe, positions to the counts: the last mile from the network's result, the whole way from nothing."""

import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..config import Refinement, Runtime
from ..core.reconstruction import ENDINGS, Reconstruction, name_for, read_reconstruction, write_reconstruction
from ..core.scan import Scan
from ..io.atomic import check_output, made_of_another, provenance
from ..io.dataset import open_dataset
from ..refinement.engine import Fit, Free, Pass
from ..refinement.resume import Unfinished
from ..refinement.uncertainty import phase_uncertainty
from ..runtime.distributed import SMALLER, Peers
from ..runtime.gpu import advising
from ..runtime.progress import track

logger = logging.getLogger(__name__)


@advising(SMALLER)
def refine(
    dataset: Path,
    output: Path,
    refinement: Refinement = Refinement(),
    start: Path | None = None,
    runtime: Runtime = Runtime(),
    go_on: Callable[[dict[str, float]], bool] = lambda row: True,
) -> None:
    """Refine a reconstruction of a scan, or reconstruct it from a flat object.

    One that was broken off after more than a minute goes on where it was.

    Args:
        dataset: the scan.
        output: the reconstruction, a ptychodus product, with its history.
        refinement: epochs, steps, what to refine.
        start: reconstruction to start from, such as ``stitch`` or an earlier ``refine`` wrote: its object, probe and
            positions; a flat object without it.
        runtime: devices and threads.
        go_on: is called after each epoch with its row of the history, and after each epoch of the fits that repeat it
            for its uncertainty, which have a ``repetition``; False ends the fit there, and what is written says that it
            is partial.

    Raises:
        FileNotFoundError: if the dataset or the start is missing.
        ValueError: if either is damaged, the output is no ``.h5``, or the fit fails.
        OSError: if the output cannot be written.
    """
    check_output(output, *ENDINGS)
    scan = open_dataset(dataset)
    begin = None if start is None else read_reconstruction(start)
    logger.info("read %s: %d patterns of %d px; starting from %s", dataset, len(scan), scan.size, start or "nothing")
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    peers = Peers.of(runtime)
    made_by = provenance(refinement, dataset=dataset, start=start)
    if begin is not None and (other := made_of_another(begin.facts, made_by)) is not None:
        logger.warning(
            "%s was made from another dataset than %s (%s): its object, probe and positions are taken for this one's",
            *(start, dataset, other),
        )
    course = Course(Fit(scan, refinement, begin, peers), Unfinished(output, made_by))
    course.fit.warn(scan.name)
    stopped = course.run(scan.name, go_on)
    partial = f"stopped after epoch {course.history['epoch'][-1]} of {refinement.epochs}" if stopped else ""
    coverage, spread = course.fit.covered(), None
    if refinement.uncertainty and not stopped:
        try:
            spread = _spread(scan, course.fit, coverage, begin, peers, go_on)
        except Abandoned:
            partial = "stopped before it was known how certain the phase is"
    if peers.rank > 0:
        return
    facts = {"start": None if start is None else Path(start).name, "patterns": len(scan), "devices": peers.count}
    facts |= {"partial": partial} if partial else {}
    facts["provenance"] = made_by
    write_reconstruction(output, _result(course, scan, coverage, spread, output, facts))
    course.forget()
    error, epochs, seconds = (course.history[name][-1] for name in ("error", "epoch", "seconds"))
    logger.info("refined %s: R-factor %.4f after %d epochs, %.1f s", output, error, epochs, seconds)


class Abandoned(Exception):
    """A repetition of a fit was told to stop."""


def _spread(
    scan: Scan,
    fit: Fit,
    coverage: np.ndarray,
    begin: Reconstruction | None,
    peers: Peers,
    go_on: Callable[[dict[str, float]], bool],
) -> np.ndarray:
    """How far each pixel's phase is to be trusted, rad, from repetitions of a fit.

    Raises:
        Abandoned: if ``go_on`` ends one of them.
    """
    began, numbers = time.perf_counter(), itertools.count(1)

    def again(other: Scan) -> Fit:
        repetition, number = Course(Fit(other, fit.settings, begin, peers)), next(numbers)
        if repetition.run(f"a repetition of {scan.name}", lambda row: go_on(row | {"repetition": number})):
            raise Abandoned
        return repetition.fit

    spread = phase_uncertainty(scan, fit, coverage, again)
    if peers.rank == 0:
        middle, took = np.median(spread[coverage]), time.perf_counter() - began
        logger.info("repeated the fit thrice, %.1f s: phases are certain to %.2g rad (median deviation)", took, middle)
    return spread


class Course:
    """A fit from its first epoch to its last: what it was like on the way, and whether to go on.

    Args:
        fit: what gets better.
        unfinished: where its state is kept and looked for; nowhere without it.

    Attributes:
        history: a column each for ``epoch``, ``seconds``, ``cpu_seconds``, ``error`` and ``phase_change``.
        snapshots: the object at some epochs, those in ``kept``.
    """

    def __init__(self, fit: Fit, unfinished: Unfinished | None = None) -> None:
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
            free, smooth = Free.in_epoch(epoch, settings), epoch <= settings.smooth_epochs
            done = self.fit.epoch(free, (epoch - 1) / max(last - 1, 1), smooth)
            if not np.isfinite(done.error):
                raise ValueError(f"the fit of {name} diverged in epoch {epoch}: lower refinement.step")
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

    def _settled(self, done: Pass, epoch: int) -> bool:
        """Whether neither the phase nor the error changes any more, though everything to fit has been let free."""
        settings = self.fit.settings
        all_free = max(settings.probe_from or 0, settings.positions_from or 0, settings.brightness_from or 0)
        if epoch <= max(all_free, settings.smooth_epochs) or not self.history["error"]:
            return False
        change = abs(done.error - self.history["error"][-1]) / max(done.error, 1e-30)
        return done.phase_change < settings.settled and change < settings.settled

    def _note(self, epoch: int, done: Pass, keep: bool) -> None:
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


def _result(
    course: Course, scan: Scan, coverage: np.ndarray, spread: np.ndarray | None, output: Path, facts: dict
) -> Reconstruction:
    fit = course.fit
    spent = {name: course.history[name][-1] for name in ("seconds", "cpu_seconds")}
    return Reconstruction(
        object=fit.object.cpu().numpy(),
        origin=fit.origin,
        probe=fit.probe.cpu().numpy(),
        positions=fit.positions.cpu().numpy(),
        geometry=scan.geometry,
        weight=fit.light().cpu().numpy(),
        coverage=coverage,
        phase_uncertainty=spread,
        brightness=None if fit.steady else fit.brightness.cpu().numpy(),
        name=name_for(output, scan.name),
        history=course.history,
        snapshots=torch.stack(course.snapshots).numpy(),
        facts=facts | {"snapshot_epochs": course.kept} | spent,
    )


def _snapshot_epochs(epochs: int) -> list[int]:
    """Epochs whose object is kept: each of the first, then ever fewer, and the last."""
    kept = {1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 800}
    return sorted(epoch for epoch in kept | {epochs} if epoch <= epochs)
