"""Reconstruct a directory into a directory: all steps in one call, with progress events and orderly cancellation."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from ..config import Inference, Packing, Refinement, Runtime, Source, Stitching
from ..io.reconstruction_h5 import read_reconstruction
from ..readers.registry import read_measurement
from ..runtime.cancellation import CancellationHandler, Cancelled, Events, handle_signals
from .convert import convert
from .pack import pack
from .refine import refine

logger = logging.getLogger(__name__)

MODEL, PRODUCT = "model.ckpt", "product.h5"
CANCELLED = 130
"""Exit code after SIGTERM or SIGINT, as ptychodus has it."""


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
    emit = Events(events)
    try:
        with handle_signals(CancellationHandler(emit)) as cancellation:
            model = _find_model(input, model)
            steps = ["convert", "pack", *(["reconstruct"] if model else []), "refine"]
            _announce(input, output, source, model, steps, refinement.epochs, dry_run, emit)
            if dry_run:
                return 0
            sections = (packing, inference, stitching, refinement)
            partial = _reconstruct(output / PRODUCT, source, model, sections, runtime, cancellation)
    except Cancelled:
        emit("cancelled", product=None)
        logger.warning("cancelled before the first epoch; nothing written")
        return CANCELLED
    except Exception as error:
        emit("error", message=" ".join(str(error).split()))
        raise
    emit("cancelled" if partial else "finished", product=str(output / PRODUCT), partial=partial or None)
    return CANCELLED if partial else 0


def _announce(
    input: Path,
    output: Path,
    source: Source,
    model: Path | None,
    steps: list[str],
    epochs: int,
    dry_run: bool,
    emit: Events,
) -> None:
    """Emit the measurement and the planned steps."""
    measurement = read_measurement(input, source)
    count, height, width = measurement.patterns.shape
    plan: dict[str, Any] = {"input": str(input), "output": str(output / PRODUCT), "steps": steps}
    plan |= {"model": str(model or ""), "format": measurement.metadata["format"]}
    plan |= {"patterns": [count, height, width], "epochs": epochs}
    emit("plan" if dry_run else "started", **plan)
    if dry_run:
        logger.info("would read %d patterns of %d x %d px (%s) from %s", count, height, width, plan["format"], input)
        logger.info("would %s and write %s", ", ".join(steps), output / PRODUCT)


def _reconstruct(
    product: Path,
    source: Source,
    model: Path | None,
    sections: tuple[Packing, Inference, Stitching, Refinement],
    runtime: Runtime,
    cancellation: CancellationHandler,
) -> str:
    """Write the product; return the reason if it is partial, else an empty string."""
    packing, inference, stitching, refinement = sections
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        dataset, stitched = place / "dataset", place / "stitched.h5"
        cancellation.step("convert")
        convert(place / "scan.cxi", source)
        cancellation.step("pack")
        pack(place / "scan.cxi", dataset, packing)
        (place / "scan.cxi").unlink()
        if model is not None:
            from .reconstruct import reconstruct  # needs lightning, which the core does not have

            cancellation.step("reconstruct")
            reconstruct(model, dataset, stitched, inference, stitching, runtime)

        def on_epoch_end(row: dict[str, float]) -> bool:
            cancellation.emit("epoch", of=refinement.epochs, **row)
            return not cancellation.requested

        cancellation.step("refine")
        cancellation.cooperative = True
        refine(dataset, product, refinement, stitched if model is not None else None, runtime, on_epoch_end)
        return str(read_reconstruction(product).metadata.get("partial", ""))


def _find_model(input: Path, model: Path | None) -> Path | None:
    """Return the checkpoint to start with, if any."""
    if model is None:
        return input / MODEL if (input / MODEL).is_file() else None
    if not model.is_file():
        raise FileNotFoundError(f"model {model} not found: check the path in --model")
    return model
