"""How well a few steps of iterative ptychography fit the counts under several orientations of the scan at once."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..core.arrays import as_tensor
from ..core.scan import Scan
from ..physics.propagation import far_field_corner, far_field_corner_inverse, to_corner
from .cropping import crop

N_SAMPLED = 1024
"""Patterns among which the liveliest place is looked for."""
LIGHT_KEPT = 0.95
SMALLEST, LARGEST = 32, 128
STEP, SMOOTHING = 0.3, 0.3


def most_structured_region(scan: Scan, count: int) -> Scan:
    """The ``count`` patterns around the place where patterns differ most, the beam centred, cut to where the light is.

    An empty or far corner of a sample tells nothing about how the scan lies.
    """
    some = np.unique(np.linspace(0, len(scan) - 1, N_SAMPLED).astype(int))
    amplitudes = np.sqrt(scan.counts[some].astype(np.float32))
    liveliness = ((amplitudes - amplitudes.mean(0)) ** 2).sum((1, 2))
    tree, share = cKDTree(scan.positions[some]), max(1, min(len(some), count * len(some) // len(scan)))
    around = liveliness[tree.query(scan.positions[some], k=share)[1].reshape(len(some), -1)].mean(1)
    middle = scan.positions[some[np.argmax(around)]]
    kept = np.sort(cKDTree(scan.positions).query(middle, k=min(count, len(scan)))[1].reshape(-1))
    return _cut(_part(scan, kept))


def fit(scan: Scan, positions: Tensor, epochs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What ``epochs`` passes of PIE make of the patterns, for every set of positions at once.

    Each set has its own object and probe; they see the same patterns in the same order. Steps are small, because large
    ones fit noise, and the probe waits for the object for one pass.

    Args:
        scan: patterns and the probe to start from.
        positions: ``(K, J, 2)`` px.
        epochs: passes, at least two.
        seed: of the order of the patterns.

    Returns:
        The R-factor of each pattern in the last pass, ``sum((sqrt(I) - sqrt(counts))^2) / mean sum(counts)``,
        ``(K, J)``, and the objects, ``(K, H, W)``.
    """
    with _one_thread():
        return _fit(scan, positions, epochs, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps this small are slower on several threads, and very much so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(scan: Scan, positions: Tensor, epochs: int, seed: int) -> tuple[Tensor, Tensor]:
    amplitudes = torch.from_numpy(np.sqrt(to_corner(as_tensor(np.ascontiguousarray(scan.counts))).numpy()))
    mask = _mask(scan)
    size, sets = scan.size, len(positions)
    corners = torch.round(positions - positions.amin(1, keepdim=True)).long()
    height, width = (corners.amax((0, 1)) + size).tolist()
    objects = torch.ones(sets, height, width, dtype=torch.complex64)
    windows = objects.unfold(1, size, 1).unfold(2, size, 1)
    probes = torch.from_numpy(scan.probe).expand(sets, -1, -1, -1).clone()
    errors, each = torch.zeros(sets, len(scan)), torch.arange(sets)
    shuffled = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for j in torch.randperm(len(scan), generator=shuffled).tolist():
            y, x = corners[:, j].unbind(-1)
            patches = windows[each, y, x]
            waves = far_field_corner(patches[:, None] * probes)
            modelled = (waves.real.square() + waves.imag.square()).sum(1).clamp_min(1e-8).sqrt()
            errors[:, j] = ((modelled - amplitudes[j]).square() * mask).sum((-2, -1))
            gain = torch.where(mask > 0, amplitudes[j] / modelled, 1.0) - 1
            change = far_field_corner_inverse(waves * gain[:, None])
            windows[each, y, x] = patches + _step(probes, change).sum(1)
            if epoch > 0:
                probes = probes + _step(patches[:, None], change)
    return errors / amplitudes.square().sum((-2, -1)).mean(), objects


def _step(factor: Tensor, change: Tensor) -> Tensor:
    """What a change of the exit wave asks of the other factor: the regularised rPIE step."""
    light = (factor.real.square() + factor.imag.square()).sum(1, keepdim=True)
    least = light.amax((-2, -1), keepdim=True)
    return STEP * factor.conj() * change / ((1 - SMOOTHING) * light + SMOOTHING * least)


def _mask(scan: Scan) -> Tensor:
    mask = np.ones((scan.size, scan.size), bool) if scan.mask is None else scan.mask
    return to_corner(as_tensor(np.ascontiguousarray(mask)))


def _part(scan: Scan, kept: np.ndarray) -> Scan:
    counts = np.asarray(scan.counts[kept])
    return dataclasses.replace(scan, counts=counts, positions=scan.positions[kept], truth=None)


def _cut(scan: Scan) -> Scan:
    """The beam rolled to the middle, and the smallest square of a power of two that holds nearly all the light."""
    mean = scan.counts.mean(0, dtype=np.float64)
    offset = tuple(int(np.rint(scan.size // 2 - at)) for at in centroid(mean))
    counts = np.roll(scan.counts, offset, axis=(-2, -1))
    mask = None if scan.mask is None else np.roll(scan.mask, offset, axis=(-2, -1))
    scan = dataclasses.replace(scan, counts=counts, mask=mask)
    mean, half, size = np.roll(mean, offset, axis=(-2, -1)), scan.size // 2, SMALLEST
    while size < LARGEST and mean[(slice(half - size // 2, half + size // 2),) * 2].sum() < LIGHT_KEPT * mean.sum():
        size *= 2
    if size >= scan.size:
        return scan
    return crop(scan, size)


def centroid(pattern: np.ndarray) -> tuple[float, float]:
    """Where the light of a pattern lies on average, ``(y, x)`` px."""
    total = pattern.sum()
    if total <= 0:
        return pattern.shape[0] // 2, pattern.shape[1] // 2
    y = (pattern.sum(1) * np.arange(pattern.shape[0])).sum() / total
    return float(y), float((pattern.sum(0) * np.arange(pattern.shape[1])).sum() / total)
