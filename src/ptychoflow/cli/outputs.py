"""Outputs and inputs of each command, for the guard that runs before the command is imported."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..io import product_kinds as kinds
from ..io.output_guard import Output
from ..io.product_kinds import ProductKind, export_kind

Outputs = Callable[[Path], list[Output]]
"""Function that returns everything a command writes for the value of one of its parameters."""


def _one(kind: ProductKind) -> Outputs:
    return lambda path: [(path, kind)]


def _report(path: Path) -> list[Output]:
    return [(path, kinds.REPORT), (path.with_name(f"{path.stem}_data"), kinds.REPORT_DATA)]


OPTIONS = ("config", "runtime", "tracking")
"""Options whose value is text or the name of a file."""
OUTPUTS: dict[str, dict[str, Outputs]] = {
    "simulate": {"output": _one(kinds.SIMULATED_SCAN)},
    "convert": {"output": _one(kinds.SCAN)},
    "inspect": {"output": _one(kinds.INSPECTION)},
    "pack": {"output": _one(kinds.DATASET)},
    "dataset label": {"output": _one(kinds.DATASET)},
    "train": {"output": lambda path: [(path, kinds.CHECKPOINT), (path.with_suffix(".json"), kinds.TRAINING_LOG)]},
    "infer": {"output": _one(kinds.PATCHES)},
    "stitch": {"output": _one(kinds.RECONSTRUCTION)},
    "reconstruct": {"output": _one(kinds.RECONSTRUCTION)},
    "pretrain": {"output": lambda path: [(path, kinds.PRIOR), (path.with_suffix(".json"), kinds.MODEL_CARD)]},
    "refine": {"output": _one(kinds.RECONSTRUCTION)},
    "evaluate": {"output": lambda path: [(path, kinds.METRICS), (path.with_suffix(""), kinds.FIGURES)]},
    "sweep": {"output": _one(kinds.SWEEP_TABLE), "figure": _one(kinds.SWEEP_FIGURE)},
    "report": {
        "output": _report,
        "csv": _one(kinds.METRICS_TABLE),
    },
    "export": {"output": lambda path: [(path, export_kind(path))]},
    "import": {"output": _one(kinds.CHECKPOINT)},
    "run-directory": {"output": lambda path: [(path, kinds.ANY_FOLDER), (path / "product.h5", kinds.RECONSTRUCTION)]},
    "config reference": {"output": _one(kinds.SETTINGS_PAGE)},
    "config schema": {"output": _one(kinds.SCHEMA)},
    "docs gallery": {"output": _one(kinds.GALLERY)},
    "docs commands": {"output": _one(kinds.COMMANDS_PAGE)},
}
"""What each command writes, by the parameter that names it."""


def outputs_of(command: str, values: Mapping[str, Any]) -> list[Output]:
    """Return everything that a command is about to write.

    Args:
        command: its name.
        values: its arguments, and ``benchmark`` where it is given.
    """
    writes = OUTPUTS.get(command, {}) | {"benchmark": _one(kinds.BENCHMARK)}
    return [output for name, of in writes.items() if values.get(name) is not None for output in of(Path(values[name]))]


def inputs_of(command: str, values: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Path]:
    """Return every file and folder that a command is about to read, and paths that may not exist.

    Args:
        command: its name.
        values: its arguments.
        settings: its sections, which name files too.
    """
    from ..readers.source_files import source_files

    written = {*OUTPUTS.get(command, {}), "benchmark"}
    named = [path for name, value in values.items() if name not in written for path in _paths(value)]
    named += [Path(text) for name in OPTIONS if (text := values.get(name)) and not text.lstrip().startswith("{")]
    if (source := settings.get("source")) is not None:
        named += source_files(source)
    if (simulation := settings.get("simulation")) is not None:
        named += map(Path, simulation.files())
    # figures and arrays stand in a folder beside a metrics file
    return [*named, *(path.with_suffix("") for path in named if path.suffix == ".json")]


def _paths(value: Any) -> Iterator[Path]:
    """Yield the paths in the value of a parameter."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _paths(part)
