"""A detector with fewer or wider pixels, and what follows for pixel size, positions, probe and truth."""

import dataclasses

import numpy as np

from ..core.scan import Geometry, GroundTruth, Scan


def crop(scan: Scan, size: int) -> Scan:
    """The scan as a detector of the central ``size`` pixels would have measured it.

    A smaller detector resolves less: the object pixel grows by N / size, so positions in pixels shrink by as much. The
    probe keeps the light that falls on the detector area that is left. The truth is low-passed to the new pixel.

    Raises:
        ValueError: if the patterns are smaller than ``size``.
    """
    if size > scan.size:
        raise ValueError(f"packing.crop is {size} px but the patterns of {scan.name} are {scan.size} px: crop to less")
    shrink = size / scan.size
    window = centre(scan.size, size)
    geometry = scan.geometry
    return dataclasses.replace(
        scan,
        counts=scan.counts[:, window, window],
        positions=scan.positions * shrink,
        probe=resize_far_field(scan.probe, size),
        mask=None if scan.mask is None else scan.mask[window, window],
        truth=None if scan.truth is None else _resample_truth(scan.truth, shrink),
        geometry=Geometry(geometry.pixel_size_m / shrink, geometry.wavelength_m, geometry.detector_distance_m),
        metadata=scan.metadata | {"cropped_from_px": scan.size},
    )


def centre(size: int, kept: int) -> slice:
    """The central ``kept`` of ``size`` pixels: zero frequency comes to lie at ``kept // 2``."""
    start = size // 2 - kept // 2
    return slice(start, start + kept)


def resize_far_field(probe: np.ndarray, size: int) -> np.ndarray:
    """The probe as it is seen by a detector of ``size`` pixels of the same kind: cut, or dark where it is larger.

    The transform is unitary: the light that both detectors see is conserved, and its pixels keep their values.

    Args:
        probe: modes, ``(M, N, N)``.
        size: side of the other detector, px.

    Returns:
        Modes over the same field of view, complex64, ``(M, size, size)``.
    """
    axes, old = (-2, -1), probe.shape[-1]
    wave = far_field_of(probe)
    common = min(old, size)
    resized = np.zeros((*probe.shape[:-2], size, size), complex)
    resized[..., centre(size, common), centre(size, common)] = wave[..., centre(old, common), centre(old, common)]
    resized = np.fft.ifft2(np.fft.ifftshift(resized, axes=axes), norm="ortho")
    return np.fft.fftshift(resized, axes=axes).astype(np.complex64)


def coarsen_far_field(probe: np.ndarray, factor: int) -> np.ndarray:
    """The probe as it is seen by a detector whose pixels are ``factor`` times as wide.

    Its far field is sampled more coarsely, so it spans the central part of the field of view only. The middle of a wide
    pixel lies ``(factor - 1) / 2`` narrow ones beyond the frequency it stands for: a phase ramp says so. What varies
    within a pixel is not seen, as on any detector.

    Args:
        probe: modes, ``(M, N, N)``.
        factor: divides N into an even number.

    Returns:
        Modes, complex64, ``(M, N / factor, N / factor)``.
    """
    size = probe.shape[-1]
    ramp = np.exp(-1j * np.pi * (factor - 1) * (np.arange(size) - size // 2) / size)
    window = centre(size, size // factor)
    return (probe * ramp[:, None] * ramp)[..., window, window].astype(np.complex64)


def far_field_of(probe: np.ndarray) -> np.ndarray:
    """The wave on the detector, zero frequency in the middle, unitary, ``(M, N, N)``."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe, axes=axes), norm="ortho"), axes=axes)


def _resample_truth(truth: GroundTruth, shrink: float) -> GroundTruth:
    """The object on pixels ``1 / shrink`` as large, low-passed to what they can show; its first pixel stays put."""
    rows, columns = (_lanczos(side, shrink) for side in truth.object.shape)
    resampled = (rows @ truth.object @ columns.T).astype(np.complex64)
    positions = None if truth.positions is None else truth.positions * shrink
    return GroundTruth(resampled, tuple(float(value) * shrink for value in truth.origin), positions)


def _lanczos(side: int, shrink: float, lobes: int = 4) -> np.ndarray:
    """Matrix ``(new, side)`` that resamples a line by a Lanczos-windowed sinc, each row summing to 1."""
    new = int((side - 1) * shrink) + 1
    distance = np.arange(new)[:, None] - np.arange(side) * shrink  # new pixels
    weights = np.where(abs(distance) < lobes, np.sinc(distance) * np.sinc(distance / lobes), 0)
    return weights / weights.sum(1, keepdims=True)
