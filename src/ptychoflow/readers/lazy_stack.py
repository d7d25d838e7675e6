"""Patterns that stay on disk: their shape and dtype are known, a piece is read when somebody asks for it."""

from collections.abc import Callable, Sequence

import numpy as np


class Stack:
    """A pile of patterns, ``(J, H, W)``, read in pieces; slices like an array along its first axis.

    Args:
        shape: of the whole.
        dtype: of the whole.
        read: gives patterns ``start`` to ``stop`` (exclusive) as an array.
    """

    ndim = 3

    def __init__(self, shape: Sequence[int], dtype: np.dtype, read: Callable[[int, int], np.ndarray]) -> None:
        self.shape = tuple(int(side) for side in shape)
        self.dtype = np.dtype(dtype)
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: object) -> np.ndarray:
        if isinstance(key, tuple):
            return self[key[0]][(slice(None), *key[1:])]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self._read(start, max(start, stop)) if step == 1 else self[np.arange(start, stop, step)]
        if isinstance(key, (int, np.integer)):
            return self[[int(key)]][0]
        indices = (range(len(self))[int(index)] for index in key)
        pieces = [self._read(index, index + 1) for index in indices]
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._read(0, len(self)), dtype)

    def map(self, change: Callable[[np.ndarray], np.ndarray], sides: Sequence[int], dtype: np.dtype) -> "Stack":
        """Every piece changed as it is read; ``sides`` and ``dtype`` are those of a changed pattern."""
        return Stack((len(self), *sides), dtype, lambda start, stop: change(self._read(start, stop)).astype(dtype))

    def take(self, kept: np.ndarray) -> "Stack":
        """Only the patterns of these indices."""
        return Stack((len(kept), *self.shape[1:]), self.dtype, lambda start, stop: self[kept[start:stop]])


def stack_of(array: np.ndarray) -> Stack:
    """An array or memory map as a stack; leading axes beyond the third from the end are run together, row by row."""
    sides = array.shape[-2:]
    count = int(np.prod(array.shape[:-2], dtype=np.int64))
    flat = array.reshape(count, *sides)
    return Stack(flat.shape, flat.dtype, lambda start, stop: np.array(flat[start:stop]))


def joined(stacks: Sequence[Stack]) -> Stack:
    """Stacks one after another.

    Raises:
        ValueError: if their patterns differ in size.
    """
    sides = {stack.shape[1:] for stack in stacks}
    if len(sides) != 1:
        raise ValueError(f"the parts hold patterns of different sizes {sorted(sides)}: read them one by one")
    ends = np.cumsum([len(stack) for stack in stacks])
    dtype = np.result_type(*(stack.dtype for stack in stacks))

    def read(start: int, stop: int) -> np.ndarray:
        pieces = [np.empty((0, *stacks[0].shape[1:]), dtype)]
        for stack, end in zip(stacks, ends, strict=True):
            first, last = max(start, end - len(stack)), min(stop, end)
            if first < last:
                pieces.append(stack[first - end + len(stack) : last - end + len(stack)])
        return np.concatenate(pieces)

    return Stack((int(ends[-1]), *stacks[0].shape[1:]), dtype, read)
