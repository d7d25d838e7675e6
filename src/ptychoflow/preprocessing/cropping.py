"""Scans as a smaller detector, or one with wider pixels, would have measured them."""

import dataclasses

import numpy as np

from ..core.scan import GroundTruth, Scan


def crop(scan: Scan, size: int) -> Scan:
    """Crop a scan to the central ``size`` pixels of its detector.

    A smaller detector resolves less: the object pixel grows by N / size, so positions in pixels shrink by as much. The
    probe keeps the photons that fall on the remaining detector area. The ground truth is low-passed to the new pixel.
    In the near field a smaller detector sees less of the sample, at the same pixel: the probe is cut alike.

    Args:
        scan: patterns of ``(N, N)`` px.
        size: side of the remaining detector, px.

    Raises:
        ValueError: if the patterns are smaller than ``size``.
    """
    if size > scan.size:
        raise ValueError(
            f"packing.crop is {size} px, but the patterns of {scan.name} have {scan.size} px: crop to less"
        )
    shrink = 1.0 if scan.geometry.near_field else size / scan.size
    window = centre(scan.size, size)
    geometry = scan.geometry
    return dataclasses.replace(
        scan,
        counts=scan.counts[:, window, window],
        positions=scan.positions * shrink,
        probe=(resize_near_field if scan.geometry.near_field else resize_far_field)(scan.probe, size),
        mask=None if scan.mask is None else scan.mask[window, window],
        truth=scan.truth if scan.truth is None or shrink == 1 else _resample_truth(scan.truth, shrink),
        geometry=dataclasses.replace(geometry, pixel_size_m=geometry.pixel_size_m / shrink),
        metadata=scan.metadata | {"cropped_from_px": scan.size},
    )


def centre(size: int, kept: int) -> slice:
    """Return the slice of the central ``kept`` of ``size`` pixels; zero frequency lies at ``kept // 2``."""
    start = size // 2 - kept // 2
    return slice(start, start + kept)


def resize_far_field(probe: np.ndarray, size: int) -> np.ndarray:
    """Return the probe for a detector of ``size`` pixels of the same width: its far field is cropped or zero-padded.

    The transform is unitary: pixels that both detectors have keep their values, and so their photons.

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


def resize_near_field(probe: np.ndarray, size: int) -> np.ndarray:
    """Return the probe for a near-field detector of ``size`` pixels of the same width: cut, or padded with zeros.

    Args:
        probe: modes, ``(M, N, N)``.
        size: side of the other detector, px.

    Returns:
        Modes, complex64, ``(M, size, size)``.
    """
    old, common = probe.shape[-1], min(probe.shape[-1], size)
    resized = np.zeros((*probe.shape[:-2], size, size), np.complex64)
    resized[..., centre(size, common), centre(size, common)] = probe[..., centre(old, common), centre(old, common)]
    return resized


def coarsen_far_field(probe: np.ndarray, factor: int) -> np.ndarray:
    """Return the probe for a detector whose pixels are ``factor`` times as wide.

    Its far field is sampled more coarsely, so it spans the central part of the field of view only. The middle of a wide
    pixel lies ``(factor - 1) / 2`` narrow ones beyond its frequency, which a phase ramp accounts for. Variation within
    a pixel is lost, as on any detector.

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
    """Far field of a probe ``(M, N, N)``: the wave on the detector, zero frequency in the middle, unitary."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe, axes=axes), norm="ortho"), axes=axes)


def _resample_truth(truth: GroundTruth, shrink: float) -> GroundTruth:
    """Resample the object to pixels ``1 / shrink`` as large after a low pass; its first pixel keeps its place."""
    rows, columns = (_lanczos(side, shrink) for side in truth.object.shape)
    resampled = (rows @ truth.object @ columns.T).astype(np.complex64)
    slices = None if truth.slices is None else (rows @ truth.slices @ columns.T).astype(np.complex64)
    resampled = resampled if slices is None else slices.prod(0)
    positions = None if truth.positions is None else truth.positions * shrink
    y, x = truth.origin
    origin = float(y) * shrink, float(x) * shrink
    return GroundTruth(resampled, origin, positions, slices, truth.slice_spacing_m)


def _lanczos(side: int, shrink: float, lobes: int = 4) -> np.ndarray:
    """Return a matrix ``(new, side)`` that resamples a line by a Lanczos-windowed sinc; its rows sum to 1."""
    new = int((side - 1) * shrink) + 1
    distance = np.arange(new)[:, None] - np.arange(side) * shrink  # new pixels
    weights = np.where(abs(distance) < lobes, np.sinc(distance) * np.sinc(distance / lobes), 0)
    return weights / weights.sum(1, keepdims=True)


def centroid(pattern: np.ndarray) -> tuple[float, float]:
    """Return the centre of mass of a pattern ``(H, W)``, ``(y, x)`` px."""
    total = pattern.sum()
    if total <= 0:
        return pattern.shape[0] // 2, pattern.shape[1] // 2
    y = (pattern.sum(1) * np.arange(pattern.shape[0])).sum() / total
    return float(y), float((pattern.sum(0) * np.arange(pattern.shape[1])).sum() / total)
