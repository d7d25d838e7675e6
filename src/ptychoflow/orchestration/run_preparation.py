"""Preparation of a run: its folder, and the config that runs, from a measurement or from a config."""

import logging
from pathlib import Path
from typing import Any

import yaml

from ..commands.inspect_file import write_inspection
from ..config import Source, load_config, merge
from ..config.loading import validate
from ..readers.download import resolve_path
from ..readers.inspection import inspect_file
from ..readers.inspection_report import lines
from .run_folder import SUFFIX, RunFolder, default_folder, file_state, find_folder, new_folder

logger = logging.getLogger(__name__)

CONFIGS = (".yaml", ".yml")
"""Endings of files that are configs, not measurements."""
SHOWN = ("missing:", "doubt:")
"""Lines of an inspection that are shown before a run; all of them are in its folder."""
PATHS = ("file", "positions", "probe", "images")
"""Settings that name files, by which a config may name them relative to its folder."""


def prepare(file: Path, output: Path | None, overrides: dict[str, Any], numbered: bool = False) -> RunFolder:
    """Return the folder of a run with the config to run, as an earlier run of the same left it, or a new one.

    Args:
        file: a measurement or a config.
        output: the run folder; None chooses it.
        overrides: sections of a config laid over those of the config, or over those that the inspection proposes.
        numbered: where another run has the output, take the next name with a number, as without an output.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged, or a setting is wrong, or the output is the folder of another run.
        OSError: if the place of the folder is not writable.
    """
    if file.suffix.lower() in CONFIGS:
        return _prepare_config(file, output, overrides)
    return _prepare_measurement(file, output, overrides, numbered or output is None)


def _prepare_measurement(file: Path, output: Path | None, overrides: dict[str, Any], numbered: bool) -> RunFolder:
    """Inspect a measurement and lay the overrides over the proposed config."""
    settings = dict(overrides)
    source = validate(Source, settings.pop("source", {}) | {"file": str(file)}, "source.")
    path = resolve_path(source)
    source = source.model_copy(update={"file": str(path.resolve())})
    request = {"file": file_state(path), "settings": overrides}
    folder = find_folder(output or default_folder(file, path), request, numbered)
    if folder.resumed:
        return folder
    logger.info("inspecting %s", path)
    with new_folder(folder, request) as fresh:
        inspection = inspect_file(path, source)
        write_inspection(inspection, fresh.inspection)
        proposed = (fresh.inspection / "config.yaml").read_text(encoding="utf-8")
        fresh.config.write_text(_laid_over(proposed, settings) if settings else proposed, encoding="utf-8")
        load_config(fresh.config)
    for line in lines(inspection):
        if line.startswith(SHOWN):
            logger.info("%s", line)
    return folder


def _laid_over(config: str, settings: dict[str, Any]) -> str:
    """Return a config with settings laid over it, and its head of comments."""
    head = [line for line in config.splitlines() if line.startswith("#")]
    merged = merge(yaml.safe_load(config), settings)
    return "\n".join([*head, yaml.safe_dump(merged, sort_keys=False)])


def _prepare_config(file: Path, output: Path | None, overrides: dict[str, Any]) -> RunFolder:
    """Lay the overrides over a config; what it names relative to its folder or the current one gets its whole path."""
    load_config(file)
    data = _with_whole_paths(merge(yaml.safe_load(file.read_text(encoding="utf-8")), overrides), file.parent)
    load_config(data)
    folder = find_folder(output or Path(f"{file.stem}{SUFFIX}"), {"config": data}, numbered=output is None)
    if not folder.resumed:
        with new_folder(folder, {"config": data}) as fresh:
            fresh.config.write_text(f"# {file.resolve()}\n" + yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return folder


def _with_whole_paths(data: Any, folder: Path, key: str = "") -> Any:
    """Return settings in which the names of files that exist are whole paths."""
    if isinstance(data, dict):
        return {name: _with_whole_paths(value, folder, name) for name, value in data.items()}
    if isinstance(data, list):
        return [_with_whole_paths(value, folder, key) for value in data]
    if isinstance(data, str) and key in PATHS:
        places = (Path(data), folder / data)
        return next((str(place.resolve()) for place in places if place.exists()), data)
    return data
