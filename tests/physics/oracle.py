"""The forward model once more, as slow sums in NumPy that share nothing with the library's."""

import numpy as np


def expected_counts(image: np.ndarray, probe: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """``sum_m |F[P_m(r - d) O(r + n)]|^2`` with explicit Fourier matrices, ``(J, N, N)``, zero frequency central."""
    size = probe.shape[-1]
    n = np.arange(size) - size // 2
    fourier = np.exp(-2j * np.pi * np.outer(n, n) / size) / np.sqrt(size)
    patterns = np.zeros((len(positions), size, size))
    for pattern, position in zip(patterns, positions):
        whole = np.rint(position).astype(int)
        (top, left), (dy, dx) = whole - size // 2, position - whole
        patch = image[top : top + size, left : left + size]
        for mode in probe:
            shifted = _sinc(size, dy) @ mode @ _sinc(size, dx).T
            pattern += np.abs(fourier @ (shifted * patch) @ fourier.T) ** 2
    return patterns


def _sinc(size: int, shift: float) -> np.ndarray:
    """Matrix of the periodic sinc interpolation that moves a line by ``+shift``."""
    k = np.arange(size) - size // 2
    distance = np.subtract.outer(np.arange(size), np.arange(size)) - shift
    return np.exp(2j * np.pi * k * distance[..., None] / size).sum(-1) / size
