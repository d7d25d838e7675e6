"""From a directory to a directory in one call: all steps of a reconstruction, told by events, stopped in order."""

import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config import Inference, Packing, Refinement, Runtime, Source, Stitching
from ..io.atomic import check_output
from ..io.reconstruction_h5 import ENDINGS, read_reconstruction
from ..readers.registry import read_measurement
from .convert import convert
from .pack import pack
from .refine import refine

logger = logging.getLogger(__name__)

MODEL, PRODUCT = "model.ckpt", "product.h5"
CANCELLED = 130
"""Exit code after SIGTERM or SIGINT, as ptychodus has it."""


class Stopped(BaseException):
    """Somebody asked to stop while there was nothing yet to finish in order."""


def run_directory(
    input: Path,
    output: Path,
    source: Source,
    packing: Packing = Packing(),
    inference: Inference = Inference(),
    stitching: Stitching = Stitching(),
    refinement: Refinement = Refinement(),
    model: Path | None = None,
    runtime: Runtime = Runtime(),
    dry_run: bool = False,
    events: bool = False,
) -> int:
    """Reconstruct a directory into a directory, all steps in one call.

    Reads the standard directory of ptychodus, or any measurement. Makes ``product.h5``: converts and packs; with a
    model, predicts and stitches; refines.

    SIGTERM ends it after the current epoch with a product that says it is partial. Exit codes: 0 done, 1 failed, 2 bad
    input, 130 stopped.

    Args:
        input: a standard directory of ptychodus, or any measurement.
        output: a directory for ``product.h5``.
        source: how to read it.
        packing: how much of the patterns to keep.
        inference: what to keep of each patch.
        stitching: weights and phases.
        refinement: epochs, steps, what to refine.
        model: a checkpoint to start with; ``model.ckpt`` of the input without it, and a uniform object without that.
        runtime: devices and threads.
        dry_run: only say what would be done.
        events: report progress on stdout, one JSON object a line.

    Returns:
        Exit code: 0, or 130 after SIGTERM or SIGINT; ``product.h5`` is then partial and says so, or not there yet.

    Raises:
        FileNotFoundError: if the input or the model is missing.
        ValueError: if either is damaged, or they do not suit each other.
        OSError: if the output cannot be written.

    Example:
        ptychoflow run-directory standard-directory reconstructed --events > events.jsonl
    """
    tell = Events(events)
    try:
        with _signals(Stop(tell)) as stop:
            model = _model(input, model)
            steps = ["convert", "pack", *(["reconstruct"] if model else []), "refine"]
            _announce(input, output, source, model, steps, refinement.epochs, dry_run, tell)
            if dry_run:
                return 0
            sections = (packing, inference, stitching, refinement)
            partial = _reconstruct(output / PRODUCT, source, model, sections, runtime, stop)
    except Stopped:
        tell("cancelled", product=None)
        logger.warning("stopped before there was anything to keep")
        return CANCELLED
    except Exception as error:
        tell("error", message=" ".join(str(error).split()))
        raise
    tell("cancelled" if partial else "finished", product=str(output / PRODUCT), partial=partial or None)
    return CANCELLED if partial else 0


class Events:
    """Says what happens, for programs that listen.

    Args:
        wanted: False to be silent.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def __call__(self, event: str, **metadata: Any) -> None:
        if self._wanted:
            print(json.dumps({"event": event, "time": round(time.time(), 3), **metadata}), file=sys.stdout, flush=True)


class Stop:
    """Whether somebody asked to stop; before there is anything to finish, that ends the work at once.

    Attributes:
        asked: whether.
        orderly: True while the work itself looks at ``asked`` and ends in order.
    """

    def __init__(self, tell: Events) -> None:
        self.asked, self.orderly, self.tell = False, False, tell

    def step(self, name: str) -> None:
        """Say which step begins; none does where a request was lost, as one raised in a destructor is."""
        if self.asked:
            raise Stopped
        self.tell("step", step=name)

    def __call__(self, *_: object) -> None:
        again, self.asked = self.asked, True
        if not again:
            self.tell("cancelling")
        if again or not self.orderly:
            raise Stopped


def _announce(
    input: Path,
    output: Path,
    source: Source,
    model: Path | None,
    steps: list[str],
    epochs: int,
    dry_run: bool,
    tell: Events,
) -> None:
    """Say what was found and what comes of it."""
    found = read_measurement(input, source)
    count, height, width = found.patterns.shape
    told = {"input": str(input), "output": str(output / PRODUCT), "steps": steps, "model": str(model or "")}
    told |= {"format": found.metadata["format"], "patterns": [count, height, width], "epochs": epochs}
    tell("plan" if dry_run else "started", **told)
    if dry_run:
        logger.info("would read %d patterns of %d x %d px (%s) from %s", count, height, width, told["format"], input)
        logger.info("would %s and write %s", ", ".join(steps), output / PRODUCT)


def _reconstruct(
    product: Path, source: Source, model: Path | None, sections: tuple, runtime: Runtime, stop: Stop
) -> str:
    """Make the product; returns what is partial about it."""
    packing, inference, stitching, refinement = sections
    check_output(product, *ENDINGS)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        dataset, stitched = place / "dataset", place / "stitched.h5"
        stop.step("convert")
        convert(place / "scan.cxi", source)
        stop.step("pack")
        pack(place / "scan.cxi", dataset, packing)
        (place / "scan.cxi").unlink()
        if model is not None:
            from .reconstruct import reconstruct  # needs lightning, which the core does not have

            stop.step("reconstruct")
            reconstruct(model, dataset, stitched, inference, stitching, runtime)

        def go_on(row: dict[str, float]) -> bool:
            stop.tell("epoch", of=refinement.epochs, **row)
            return not stop.asked

        stop.step("refine")
        stop.orderly = True
        refine(dataset, product, refinement, stitched if model is not None else None, runtime, go_on)
        return str(read_reconstruction(product).metadata.get("partial", ""))


@contextmanager
def _signals(stop: Stop) -> Iterator[Stop]:
    """SIGTERM and SIGINT ask ``stop``."""
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _model(input: Path, model: Path | None) -> Path | None:
    """The checkpoint to start with, if there is one."""
    if model is None:
        return input / MODEL if (input / MODEL).is_file() else None
    if not model.is_file():
        raise FileNotFoundError(f"there is no model {model}")
    return model
