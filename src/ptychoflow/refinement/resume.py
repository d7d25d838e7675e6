"""A fit that is broken off goes on where it was: its state lies beside what it makes, until that is made."""

import json
import pickle
import time
from pathlib import Path

import torch

from ..io.atomic import atomic_file

EVERY_S = 60
"""Seconds between saved states."""


class ResumableState:
    """The state of a fit on its way to ``output``.

    Args:
        output: what the fit makes.
        provenance: provenance; a state that was made by anything else is not gone on from.
    """

    def __init__(self, output: Path, provenance: dict) -> None:
        output = Path(output)
        self.path = output.with_name(f".{output.name}.unfinished")
        self._key = json.dumps(provenance, sort_keys=True)
        self._saved = time.monotonic()

    def read(self) -> dict | None:
        """The state to go on from, if there is one."""
        if not self.path.is_file():
            return None
        try:
            found = torch.load(self.path, weights_only=True, map_location="cpu")
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            return None  # a fit can always begin anew
        return found["state"] if isinstance(found, dict) and found.get("key") == self._key else None

    def save(self, state: dict) -> None:
        """Keep a state, whole or not at all, if the last one was kept long ago."""
        if time.monotonic() - self._saved < EVERY_S:
            return
        with atomic_file(self.path) as partial, partial.open("wb") as file:
            torch.save({"key": self._key, "state": state}, file)
        self._saved = time.monotonic()

    def forget(self) -> None:
        """The fit is finished."""
        self.path.unlink(missing_ok=True)
