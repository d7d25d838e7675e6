"""Metrics without a ground truth: the R-factor of a reconstruction, and raster artefacts in its object."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree

from ..core.instrument import IDEAL, Instrument
from ..core.reconstruction import Reconstruction
from ..io.count_reader import CountReader
from ..physics.data_fidelity import amplitude_error
from ..physics.detector_response import point_spread_matrix
from ..physics.forward_model import expected_counts, in_detector_frame, probe_spectrum, shift_probe, shift_spectrum
from ..physics.multislice import slice_transfer, transmit
from ..physics.patches import cut_windows, split_positions
from ..physics.probe_variations import vary_probe
from ..physics.propagation import FAR_FIELD, Propagator, propagator_of, to_corner

BLOCK = 32
"""Patterns computed at a time: small enough for a processor's cache."""


@dataclass(frozen=True)
class DataConsistency:
    """Data consistency, the R-factor ``R = sum (sqrt(I) - sqrt(counts))^2 / sum(counts)``.

    Attributes:
        r_factor: over all patterns.
        per_pattern: of each pattern, ``(J,)``.
        noise_floor: R-factor of the counting statistics alone, where the expected counts are right.
    """

    r_factor: float
    per_pattern: np.ndarray
    noise_floor: float


def expected_patterns(
    image: np.ndarray,
    origin: tuple[float, float],
    probe: np.ndarray,
    positions: np.ndarray,
    probe_scale: np.ndarray | None = None,
    instrument: Instrument = IDEAL,
    propagate: Propagator = FAR_FIELD,
    transfer: torch.Tensor | None = None,
) -> Iterator[np.ndarray]:
    """Compute the expected counts of a reconstruction's patterns, in blocks.

    Args:
        image: the object, ``(H, W)``, or the slices of a thick one, ``(S, H, W)``; beyond its edges it is padded with
            its mean.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        probe: modes, sqrt(photons), ``(M, N, N)``.
        positions: px, ``(J, 2)``.
        probe_scale: amplitude of the probe at each pattern relative to ``probe``, ``(J,)``; 1 without it.
        instrument: variations of the probe at these patterns, background, point spread.
        propagate: from exit waves to the detector, as ``propagator_of`` makes it of a geometry.
        transfer: of the vacuum between two slices, :func:`~ptychoflow.physics.multislice.slice_transfer`.

    Yields:
        Expected counts, float32, ``(b, N, N)`` with b up to :data:`BLOCK`, zero frequency at the centre.
    """
    size = probe.shape[-1]
    whole, subpixel_shift = split_positions(torch.from_numpy(np.asarray(positions, np.float64) - np.asarray(origin)))
    corners, padded = _padded(image, whole - size // 2, size)
    modes = torch.from_numpy(np.ascontiguousarray(probe, np.complex64))
    background, point_spread = _detector_terms(instrument, size)
    for first in range(0, len(positions), BLOCK):
        part = slice(first, first + BLOCK)
        probes = _shifted_probes(modes, instrument.at_patterns(part), subpixel_shift[part])
        if probe_scale is not None:
            probes = probes * torch.from_numpy(probe_scale[part])[:, None, None, None]
        if transfer is None:
            windows = cut_windows(padded, corners[part], size)
        else:  # the exit wave of each mode takes the place of the probe, behind which nothing is left
            layers = torch.stack([cut_windows(layer, corners[part], size) for layer in padded])
            probes, windows = transmit(probes, layers, transfer)[1], torch.ones(size, size)
        expected = expected_counts(
            windows, probes, background, in_detector_frame(propagate, subpixel_shift[part]), point_spread
        )
        yield torch.fft.fftshift(expected, dim=(-2, -1)).numpy()


def expected_by(reconstruction: Reconstruction, patterns: Sequence[int] | slice = slice(None)) -> Iterator[np.ndarray]:
    """Compute the expected counts of some patterns of a reconstruction, as :func:`expected_patterns`."""
    scale, geometry, thick = reconstruction.probe_scale, reconstruction.geometry, reconstruction.slices is not None
    lengths = reconstruction.probe.shape[-1], geometry.pixel_size_m, geometry.wavelength_m
    return expected_patterns(
        reconstruction.object if reconstruction.slices is None else reconstruction.slices,
        reconstruction.origin,
        reconstruction.probe,
        reconstruction.positions[patterns],
        None if scale is None else scale[patterns],
        reconstruction.instrument.at_patterns(patterns),
        propagator_of(reconstruction.geometry, reconstruction.probe.shape[-1]),
        slice_transfer(*lengths, reconstruction.slice_spacing_m).to(torch.complex64) if thick else None,
    )


def compare_counts(
    expected: Iterator[np.ndarray], counts: np.ndarray, mask: np.ndarray | None = None, fano_factor: float = 1.0
) -> DataConsistency:
    """Compare expected with measured counts.

    Args:
        expected: in blocks, as :func:`expected_patterns` yields them.
        counts: measured, ``(J, N, N)``, may be a memory map.
        mask: True where a detector pixel is valid, ``(N, N)``.
        fano_factor: variance over mean of a count; 1 for Poisson noise.

    Returns:
        R-factors and noise floor.
    """
    valid, reader = None if mask is None else torch.from_numpy(mask), CountReader(counts)
    r_factors, photons, noise, done = [], [], 0.0, 0
    for block in expected:
        measured = torch.from_numpy(reader.read(np.arange(done, done + len(block))).astype(np.float32))
        r_factors += [
            float(amplitude_error(n, e, valid)) for n, e in zip(measured, torch.from_numpy(block), strict=True)
        ]
        noise += float(counting_noise(block if mask is None else block[:, mask], fano_factor).sum())
        photons += (measured if valid is None else measured * valid).sum((-2, -1), dtype=torch.float64).tolist()
        done += len(block)
    weights = np.maximum(photons, 1)  # a pattern without photons has an R of its own, see amplitude_error
    total = float(np.sum(weights))
    return DataConsistency(float(np.dot(r_factors, weights) / total), np.asarray(r_factors), noise / total)


def counting_noise(expected: np.ndarray, fano_factor: float = 1.0) -> np.ndarray:
    """Compute ``E[(sqrt(n) - sqrt(I))^2]`` for counts n of expectation I: near F / 4 where there are many.

    Counts are Poisson; with another Fano factor F they are F times Poisson counts of expectation ``I / F``.

    Args:
        expected: I, any shape.
        fano_factor: variance over mean of a count, F.

    Returns:
        Variance of the amplitudes, the same shape.
    """
    if fano_factor != 1:
        return fano_factor * counting_noise(expected / fano_factor)
    roots = np.sqrt(np.maximum(expected, 0))
    table, step = _noise_table()
    many = 0.25 + 7 / 64 / np.maximum(expected, 1)
    return np.where(roots < step * (len(table) - 1), np.interp(roots, step * np.arange(len(table)), table), many)


def raster_artifact_ratio(
    image: np.ndarray, origin: tuple[float, float], positions: np.ndarray, mask: np.ndarray
) -> float:
    """Compute the raster-artefact ratio: the change of an object where its nearest scan position changes.

    The mean squared difference of neighbouring pixels across borders of the scan's Voronoi cells, over that within.

    Args:
        image: complex, ``(H, W)``; an object, or its ratio to the ground truth, which is more sensitive.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        positions: px, ``(J, 2)``.
        mask: pixels to compare, ``(H, W)``.

    Returns:
        Ratio; 1 without raster artefacts.
    """
    grid = np.moveaxis(np.indices(image.shape), 0, -1) + np.asarray(origin)
    cell = KDTree(positions).query(grid)[1]
    on_border, within = [], []
    for axis in (0, 1):
        known = np.logical_and(*_neighbours(mask, axis))
        change = np.abs(np.subtract(*_neighbours(image, axis))) ** 2
        border = np.not_equal(*_neighbours(cell, axis))
        on_border.append(change[known & border])
        within.append(change[known & ~border])
    inside, across = np.concatenate(within), np.concatenate(on_border)
    if len(across) == 0 or len(inside) == 0 or inside.mean() == 0:
        return 1.0
    return float(across.mean() / inside.mean())


def _neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    return (values[1:], values[:-1]) if axis == 0 else (values[:, 1:], values[:, :-1])


def _shifted_probes(modes: torch.Tensor, instrument: Instrument, shift: torch.Tensor) -> torch.Tensor:
    """Return the probe of each pattern, with its variation, at its sub-pixel shift ``(b, 2)``: ``(b, M, N, N)``."""
    if instrument.probe_variations is None or instrument.variation_weights is None:
        return shift_probe(modes, shift)
    variations, weights = map(torch.from_numpy, (instrument.probe_variations, instrument.variation_weights))
    spectra = vary_probe(probe_spectrum(modes), probe_spectrum(variations), weights)
    return shift_spectrum(spectra, shift)


def _detector_terms(instrument: Instrument, size: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return background and matrix of the point spread in corner layout, as ``expected_counts`` takes them."""
    background, sigma_px = instrument.background, instrument.point_spread_px
    return (
        None if background is None else to_corner(torch.from_numpy(background)),
        point_spread_matrix(size, sigma_px, corner=True).float() if sigma_px > 0 else None,
    )


def _padded(image: np.ndarray, corners: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the corners in, and the object padded to, an image that holds all windows."""
    before = (-corners.amin(0)).clamp_min(0).numpy()
    after = (corners.amax(0).numpy() + size - np.asarray(image.shape[-2:])).clip(0)
    margins = list(zip(before, after, strict=True))
    layers = [
        np.pad(layer.astype(np.complex64), margins, constant_values=complex(layer.mean()))
        for layer in (image if image.ndim == 3 else [image])
    ]
    grown = np.stack(layers) if image.ndim == 3 else layers[0]
    return corners + torch.from_numpy(before), torch.from_numpy(grown)


@functools.cache
def _noise_table() -> tuple[np.ndarray, float]:
    """Return the expectation, summed term by term, for roots of the expected counts from 0 to 10, and their step."""
    step = 0.02
    roots = step * np.arange(501)
    n = np.arange(301)
    log_factorial = np.concatenate([[0], np.cumsum(np.log(n[1:]))])
    mean = np.maximum(roots**2, 1e-300)[:, None]
    probability = np.exp(n * np.log(mean) - mean - log_factorial)
    return (probability * (np.sqrt(n) - roots[:, None]) ** 2).sum(1), step
