"""Resumable state of a refinement: a file beside the output, until the output is written."""

import json
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from ..io.atomic import atomic_file

EVERY_S = 60
"""Least seconds between saved states."""


class ResumableState:
    """State file of the refinement that makes ``output``.

    Args:
        output: product of the refinement.
        provenance: of that product; a state of any other provenance is not resumed.

    Attributes:
        path: the state file.
    """

    def __init__(self, output: Path, provenance: dict) -> None:
        output = Path(output)
        self.path = output.with_name(f".{output.name}.resume")
        self._key = json.dumps(provenance, sort_keys=True)
        self._saved = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state to resume from; None if the file is missing, damaged or of another refinement."""
        if not self.path.is_file():
            return None
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            return None  # a refinement can always start anew
        return content["state"] if isinstance(content, dict) and content.get("key") == self._key else None

    def save(self, state: dict[str, Any], at_once: bool = False) -> None:
        """Write a state atomically, if :data:`EVERY_S` seconds have passed since the last.

        Args:
            state: tensors and plain data.
            at_once: write it in any case.
        """
        if not at_once and time.monotonic() - self._saved < EVERY_S:
            return
        with atomic_file(self.path) as partial, partial.open("wb") as file:
            torch.save({"key": self._key, "state": state}, file)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the state file, once the output is written."""
        self.path.unlink(missing_ok=True)
