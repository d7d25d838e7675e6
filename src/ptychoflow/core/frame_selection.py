"""Selection of patterns by number, as settings name them: ``[3, 17, "120:140"]``."""

from collections.abc import Sequence

import numpy as np


def selected_patterns(selection: Sequence[int | str], count: int, setting: str) -> np.ndarray:
    """Return True for each pattern that a setting names, ``(J,)``.

    Args:
        selection: numbers, counted from 0, and ranges ``"first:stop"`` or ``"first:"``, as in Python.
        count: number of patterns.
        setting: its name in messages.

    Raises:
        ValueError: if a number is beyond the last pattern.
    """
    selected = np.zeros(count, bool)
    for entry in selection:
        first, _, stop = str(entry).partition(":")
        start, end = int(first), int(stop or count) if ":" in str(entry) else int(first) + 1
        if start >= count or end > count:
            raise ValueError(f"{setting} names {entry}, expected numbers from 0 to {count - 1}: correct it")
        selected[start:end] = True
    return selected
