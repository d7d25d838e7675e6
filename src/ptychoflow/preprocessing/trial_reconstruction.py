"""Short PIE reconstructions of part of a scan under several candidate sets of positions at once."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..core.arrays import as_tensor
from ..core.scan import Scan
from ..io.count_reader import CountReader
from ..physics.propagation import propagator_of, to_corner
from ..runtime.memory import check_memory
from .cropping import centroid, crop

N_SAMPLED = 1024
"""Patterns among which the most structured region is searched."""
INTENSITY_KEPT = 0.95
SMALLEST, LARGEST = 32, 128
STEP_SIZE, REGULARISATION = 0.3, 0.3
PIXEL_BYTES = torch.complex64.itemsize
"""Memory per pixel of an object."""


def most_structured_region(scan: Scan, count: int) -> Scan:
    """Select the ``count`` patterns around the place where patterns differ most, centred and cropped to the intensity.

    Patterns of an empty corner of a sample do not depend on the orientation of the scan.

    Args:
        scan: the whole scan.
        count: number of patterns.
    """
    return region_of(scan, most_structured_patterns(scan, count))


def region_of(scan: Scan, patterns: np.ndarray) -> Scan:
    """Select some patterns, with the beam in the middle, cropped to the intensity; positions scale with the crop."""
    return _centre_and_crop(_select(scan, patterns))


def most_structured_patterns(scan: Scan, count: int, among: np.ndarray | None = None) -> np.ndarray:
    """Return the indices of the ``count`` patterns around the place where patterns differ most, in order.

    Args:
        scan: the whole scan.
        count: number of patterns.
        among: indices of the patterns to select from; all without it.
    """
    numbers = np.arange(len(scan)) if among is None else among
    positions = scan.positions[numbers]
    some = np.unique(np.linspace(0, len(numbers) - 1, N_SAMPLED).astype(int))
    amplitudes = np.sqrt(CountReader(scan.counts).read(numbers[some]).astype(np.float32))
    structure = ((amplitudes - amplitudes.mean(0)) ** 2).sum((1, 2))
    tree, share = cKDTree(positions[some]), max(1, min(len(some), count * len(some) // len(numbers)))
    around = structure[tree.query(positions[some], k=share)[1].reshape(len(some), -1)].mean(1)
    middle = positions[some[np.argmax(around)]]
    return numbers[np.sort(cKDTree(positions).query(middle, k=min(count, len(numbers)))[1].reshape(-1))]


def reconstruct_trials(scan: Scan, positions: Tensor, epochs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Run PIE with every set of positions at once.

    Each set has its own object and probe; all take the same patterns in the same order. Steps are small, because large
    ones fit noise, and the probe is fixed in the first epoch.

    Args:
        scan: patterns and the initial probe.
        positions: K sets of positions, ``(K, J, 2)``, px.
        epochs: at least two.
        seed: of the order of the patterns.

    Returns:
        The R-factor of each pattern in the last epoch, ``sum((sqrt(I) - sqrt(counts))^2) / mean sum(counts)``,
        ``(K, J)``, and the objects, ``(K, H, W)``.

    Raises:
        OSError: if memory does not hold the objects.
    """
    with _one_thread():
        return _reconstruct_trials(scan, positions, epochs, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: updates this small are slower on several, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _reconstruct_trials(scan: Scan, positions: Tensor, epochs: int, seed: int) -> tuple[Tensor, Tensor]:
    counts = to_corner(as_tensor(np.ascontiguousarray(scan.counts))).numpy()
    amplitudes = torch.from_numpy(np.sqrt(counts).astype(np.float32))
    mask = _mask(scan)
    size, sets = scan.size, len(positions)
    corners = torch.round(positions - positions.amin(1, keepdim=True)).long()
    height, width = (corners.amax((0, 1)) + size).tolist()
    check_memory(
        PIXEL_BYTES * sets * height * width,
        f"a trial reconstruction of {height} x {width} px in {sets} orientations",
        "check the unit of the positions",
    )
    objects = torch.ones(sets, height, width, dtype=torch.complex64)
    windows = objects.unfold(1, size, 1).unfold(2, size, 1)
    probes = torch.from_numpy(scan.probe.astype(np.complex64)).expand(sets, -1, -1, -1).clone()
    errors, rows = torch.zeros(sets, len(scan)), torch.arange(sets)
    propagate = propagator_of(scan.geometry, size)
    shuffled = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for j in torch.randperm(len(scan), generator=shuffled).tolist():
            y, x = corners[:, j].unbind(-1)
            patches = windows[rows, y, x]
            waves = propagate(patches[:, None] * probes)
            modelled = (waves.real.square() + waves.imag.square()).sum(1).clamp_min(1e-8).sqrt()
            errors[:, j] = ((modelled - amplitudes[j]).square() * mask).sum((-2, -1))
            gain = torch.where(mask > 0, amplitudes[j] / modelled, 1.0) - 1
            exit_wave_update = propagate.adjoint(waves * gain[:, None])
            windows[rows, y, x] = patches + _rpie_update(probes, exit_wave_update).sum(1)
            if epoch > 0:
                probes = probes + _rpie_update(patches[:, None], exit_wave_update)
    return errors / amplitudes.square().sum((-2, -1)).mean(), objects


def _rpie_update(factor: Tensor, exit_wave_update: Tensor) -> Tensor:
    """Compute the rPIE update of one factor, object or probe, of the exit wave from the other one."""
    intensity = (factor.real.square() + factor.imag.square()).sum(1, keepdim=True)
    peak = intensity.amax((-2, -1), keepdim=True)
    return STEP_SIZE * factor.conj() * exit_wave_update / ((1 - REGULARISATION) * intensity + REGULARISATION * peak)


def _mask(scan: Scan) -> Tensor:
    mask = np.ones((scan.size, scan.size), bool) if scan.mask is None else scan.mask
    return to_corner(as_tensor(np.ascontiguousarray(mask)))


def _select(scan: Scan, kept: np.ndarray) -> Scan:
    counts = CountReader(scan.counts).read(kept)
    return dataclasses.replace(scan, counts=counts, positions=scan.positions[kept], truth=None)


def _centre_and_crop(scan: Scan) -> Scan:
    """Roll the beam to the middle; crop to the smallest square of a power of two with nearly all the intensity."""
    if scan.geometry.near_field:  # no direct beam to centre, and the beam fills the detector
        return scan
    mean = scan.counts.mean(0, dtype=np.float64)
    offset = tuple(int(np.rint(scan.size // 2 - at)) for at in centroid(mean))
    counts = np.roll(scan.counts, offset, axis=(-2, -1))
    mask = None if scan.mask is None else np.roll(scan.mask, offset, axis=(-2, -1))
    scan = dataclasses.replace(scan, counts=counts, mask=mask)
    mean, half, size = np.roll(mean, offset, axis=(-2, -1)), scan.size // 2, SMALLEST
    while size < LARGEST and mean[(slice(half - size // 2, half + size // 2),) * 2].sum() < INTENSITY_KEPT * mean.sum():
        size *= 2
    if size >= scan.size:
        return scan
    return crop(scan, size)
