"""Diffraction patterns that stay on disk: shape and dtype are known, patterns are read when they are indexed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Stack:
    """A lazy array of patterns, ``(J, H, W)``, which slices like an array along its first axis.

    Args:
        shape: ``(J, H, W)``.
        dtype: of the patterns.
        read: returns patterns ``start`` to ``stop`` (exclusive) as an array.
        absent: True for patterns that the file announces but does not hold, ``(J,)``; None where it holds all.
    """

    ndim = 3

    def __init__(
        self,
        shape: Sequence[int],
        dtype: np.dtype,
        read: Callable[[int, int], np.ndarray],
        absent: np.ndarray | None = None,
    ) -> None:
        self.shape = tuple(int(side) for side in shape)
        self.dtype = np.dtype(dtype)
        self._read = read
        self.absent = absent

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple):
            return self[key[0]][(slice(None), *key[1:])]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self._read(start, max(start, stop)) if step == 1 else self[np.arange(start, stop, step)]
        if isinstance(key, (int, np.integer)):
            return self[[int(key)]][0]
        indices = np.array([range(len(self))[int(index)] for index in key], np.int64)
        runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
        pieces = [self._read(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._read(0, len(self)), dtype)

    def map(self, change: Callable[[np.ndarray], np.ndarray], sides: Sequence[int], dtype: np.dtype) -> "Stack":
        """Return a stack whose patterns are changed as they are read.

        Args:
            change: takes and returns patterns, ``(n, H, W)`` to ``(n, H', W')``.
            sides: ``(H', W')`` of a changed pattern.
            dtype: of a changed pattern.
        """
        return Stack(
            (len(self), *sides),
            dtype,
            lambda start, stop: change(self._read(start, stop)).astype(dtype, copy=False),
            self.absent,
        )

    def without_reading_absent(self) -> "Stack":
        """Return a stack that gives zeros for absent patterns, which their file may fail to read."""
        if self.absent is None:
            return self
        absent = self.absent

        def read(start: int, stop: int) -> np.ndarray:
            patterns = np.zeros((stop - start, *self.shape[1:]), self.dtype)
            stored = np.flatnonzero(~absent[start:stop])
            patterns[stored] = self[start + stored]
            return patterns

        return Stack(self.shape, self.dtype, read, absent)

    def take(self, kept: np.ndarray) -> "Stack":
        """Return a stack of the patterns of these indices, ``(K,)``."""
        absent = None if self.absent is None else self.absent[kept]
        return Stack((len(kept), *self.shape[1:]), self.dtype, lambda start, stop: self[kept[start:stop]], absent)


def stack_of(array: np.ndarray) -> Stack:
    """Wrap an array or memory map ``(..., H, W)`` as a stack; its leading axes are flattened in row-major order."""
    sides = array.shape[-2:]
    count = int(np.prod(array.shape[:-2], dtype=np.int64))
    flat = array.reshape(count, *sides)
    return Stack(flat.shape, flat.dtype, lambda start, stop: np.array(flat[start:stop]))


def concatenate_stacks(stacks: Sequence[Stack]) -> Stack:
    """Concatenate stacks along the patterns, ``(J1 + J2 + ..., H, W)``.

    Raises:
        ValueError: if their patterns differ in size.
    """
    sides = {stack.shape[1:] for stack in stacks}
    if len(sides) != 1:
        raise ValueError(f"got parts with patterns of different sizes {sorted(sides)}: convert them as separate scans")
    ends = np.cumsum([len(stack) for stack in stacks])
    dtype = np.result_type(*(stack.dtype for stack in stacks))

    def read(start: int, stop: int) -> np.ndarray:
        pieces = [np.empty((0, *stacks[0].shape[1:]), dtype)]
        for stack, end in zip(stacks, ends, strict=True):
            first, last = max(start, end - len(stack)), min(stop, end)
            if first < last:
                pieces.append(stack[first - end + len(stack) : last - end + len(stack)])
        return np.concatenate(pieces)

    absent = np.concatenate([np.zeros(len(s), bool) if s.absent is None else s.absent for s in stacks])
    return Stack((int(ends[-1]), *stacks[0].shape[1:]), dtype, read, absent if absent.any() else None)
