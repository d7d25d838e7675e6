"""Experiments: object, probe and path put together into the counts a detector would give."""

from collections.abc import Iterator

import numpy as np
import torch

from ..physics.forward import expected_counts, shift_probe
from ..physics.patches import cut_windows, split_positions
from ..physics.propagation import far_field_corner

BLOCK = 32
"""Patterns computed at a time: small enough for a processor's cache. Fixed, so that nothing depends on it."""


def expected_blocks(image: np.ndarray, probe: np.ndarray, positions: np.ndarray) -> Iterator[np.ndarray]:
    """Expected counts of a scan in blocks, float32, ``(<= BLOCK, N, N)``, zero frequency at the centre.

    Args:
        image: the object, ``(H, W)``.
        probe: modes, sqrt(photons), ``(M, N, N)``.
        positions: px, ``(J, 2)``, the object's pixel ``[0, 0]`` at the origin.

    Raises:
        ValueError: if a patch would reach outside the object.
    """
    image, probe = torch.from_numpy(image).to(torch.complex64), torch.from_numpy(probe).to(torch.complex64)
    whole, rest = split_positions(torch.from_numpy(np.ascontiguousarray(positions, np.float64)))
    corners, size = whole - probe.shape[-1] // 2, probe.shape[-1]
    for block in range(0, len(positions), BLOCK):
        part = slice(block, block + BLOCK)
        # the wave is not rolled to the corner first: that changes phases on the detector only
        counts = expected_counts(
            cut_windows(image, corners[part], size), shift_probe(probe, rest[part]), propagate=far_field_corner
        )
        yield torch.fft.fftshift(counts, dim=(-2, -1)).numpy()


def count_photons(expected: np.ndarray, first: int, seed: int) -> np.ndarray:
    """Poisson counts of patterns ``first, first + 1, ...``: each has a generator of its own, keyed by seed and index.

    Pattern j is the same whichever others are drawn with it.
    """
    counts = np.empty(expected.shape, np.int64)
    for j, pattern in enumerate(expected):
        counts[j] = np.random.Generator(np.random.Philox(key=[seed, first + j])).poisson(pattern)
    return counts
