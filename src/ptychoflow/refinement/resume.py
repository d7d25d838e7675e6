"""Resumable state of a refinement: a file beside the output, until the output is written."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from ..io.tensor_file import check_checksum, read_tensors, set_aside, write_tensors

logger = logging.getLogger(__name__)

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
        """Return the state to resume from; None if the file is missing, unusable or of another refinement.

        An unusable file is set aside with a warning: a refinement can always start anew.
        """
        try:
            # a folder, a pipe or a broken link is unusable as well
            if not (self.path.exists() or self.path.is_symlink()):
                return None
            content = read_tensors(self.path)
            if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
                raise ValueError(f"{self.path} holds no state of a refinement")
            check_checksum(content, self.path)
        except ValueError as error:
            self.set_aside(error)
            return None
        return content["state"] if content.get("key") == self._key else None

    def set_aside(self, reason: object) -> None:
        """Move the state out of the way, with a warning that says why."""
        logger.warning("cannot resume (%s): moved to %s, starting anew", reason, set_aside(self.path).name)

    def save(self, state: dict[str, Any], at_once: bool = False) -> None:
        """Write a state atomically, if :data:`EVERY_S` seconds have passed since the last.

        Args:
            state: tensors and plain data.
            at_once: write it in any case.
        """
        if not at_once and time.monotonic() - self._saved < EVERY_S:
            return
        write_tensors(self.path, {"key": self._key, "state": state})
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the state file, once the output is written."""
        self.path.unlink(missing_ok=True)
