"""Alignment of two objects: placed by known positions, then registered, then freed of their gauge freedoms.

Ptychography leaves a global phase and a linear phase ramp undetermined, and, where the probe is refined, a scale and a
shift.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

MARGIN = 32
"""Padding before a Fourier shift, which is periodic, px."""
MIN_SHIFT = 0.02
"""Least shift that is worth an interpolation, px."""
PART_PX = 2048
"""Side of the middle part of an object in which shift and ramp are looked for, px: the transforms of a larger one would
take many times its memory."""


@dataclass(frozen=True)
class Gauge:
    """Gauge freedom of an object, ``object * scale * exp(-i ramp . r)``, r measured from the centre of the array.

    Attributes:
        scale: its phase and the ramp maximise the correlation, its magnitude fits the amplitudes.
        ramp: ``(y, x)``, rad per px.
    """

    scale: complex
    ramp: tuple[float, float]

    def remove(self, image: np.ndarray) -> np.ndarray:
        """Return the image without its gauge freedom.

        Args:
            image: complex, ``(H, W)``.

        Returns:
            ``image * scale * exp(-i ramp . r)``, ``(H, W)``.
        """
        waves = [np.exp(-1j * slope * _centred(length)) for slope, length in zip(self.ramp, image.shape, strict=True)]
        return image * (self.scale * waves[0][:, None] * waves[1])


@dataclass(frozen=True)
class Aligned:
    """An object and its ground truth, pixel on pixel.

    Attributes:
        object: freed of shift, scale and ramp, complex, ``(H, W)``.
        truth: cut to the same frame; 1 beyond its edges.
        mask: True where both are known.
        corner: row and column of the frame's first pixel in the whole truth.
        gauge: gauge freedom that was removed.
        shift: ``(y, x)`` px by which the object was off the place its positions give, and was moved back.
        correlation: of the two, 0 to 1, see :func:`correlation`.
    """

    object: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    corner: tuple[int, int]
    gauge: Gauge
    shift: tuple[float, float]
    correlation: float


def align(
    image: np.ndarray,
    origin: tuple[float, float],
    coverage: np.ndarray,
    truth: np.ndarray,
    truth_origin: tuple[float, float] = (0.0, 0.0),
    max_shift: float = 0.0,
    truth_coverage: np.ndarray | None = None,
) -> Aligned:
    """Align an object to its ground truth: place it by known positions, register it, remove the gauge freedoms.

    Args:
        image: the reconstruction, complex, ``(H, W)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        coverage: True where it is known, ``(H, W)``.
        truth: complex, ``(h, w)``.
        truth_origin: position of its pixel ``[0, 0]``.
        max_shift: how far registration may move it along an axis, px; 0 leaves it where positions put it.
        truth_coverage: where the truth is known, ``(h, w)``, if it is a reconstruction itself.

    Returns:
        Both in the frame of ``image``.

    Raises:
        ValueError: if the coverage is empty or reaches beyond the truth, or either object is not finite or all zeros.
    """
    _check_alignable(image, coverage, truth)
    offset = np.subtract(origin, truth_origin)
    whole = np.rint(offset).astype(int)
    reference, inside = window(truth, whole, image.shape)
    if truth_coverage is not None:
        coverage = coverage & inside & window(truth_coverage, whole, image.shape)[0].astype(bool)
        if not coverage.any():
            raise ValueError("the two reconstructions share no covered pixel: they are not of one scan")
    if np.any(coverage & ~inside):
        raise ValueError(
            f"the reconstruction covers {int(np.sum(coverage & ~inside))} pixels outside its ground truth of "
            f"{truth.shape} px, which begins {tuple((-whole).tolist())} px from it: give the object the "
            "scan was simulated from"
        )
    placed = _moved(image, coverage, offset - whole)
    shift = register(*placed, reference, max_shift) if max_shift > 0 else np.zeros(2)
    moved, mask = placed if not shift.any() else _moved(image, coverage, offset - whole - shift)
    gauge = find_gauge(moved, reference, mask)
    aligned = gauge.remove(moved)
    return Aligned(
        aligned,
        reference,
        mask,
        (int(whole[0]), int(whole[1])),
        gauge,
        (float(shift[0]), float(shift[1])),
        correlation(aligned, reference, mask),
    )


def find_gauge(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> Gauge:
    """Find the scale and the ramp between two objects, by least squares on ``e^{i phi}``: no phase is unwrapped.

    The ramp k maximises ``|sum z e^{-i k . r}|`` with ``z = image conj(truth)`` on the mask: the highest peak of its
    Fourier transform, then Newton's method. What it leaves of ``sum |z| |e^{i phi} - e^{i k . r + i c}|^2``
    is least.

    Args:
        image: complex, ``(H, W)``.
        truth: complex, ``(H, W)``.
        mask: pixels to compare, ``(H, W)``.

    Returns:
        The gauge freedom of ``image``.
    """
    part = _middle_part(mask)
    product = _product(image[part], truth[part], mask[part])
    ramp = _refined_peak(product, _highest_peak(product))
    if product.shape != mask.shape:
        product = _product(image, truth, mask)
        ramp = _refined_peak(product, ramp)
    total = _moments(product, ramp)[0, 0]
    amplitude, true_amplitude = np.abs(image[mask]).astype(float), np.abs(truth[mask]).astype(float)
    magnitude = amplitude @ true_amplitude / max(amplitude @ amplitude, np.finfo(float).tiny)
    return Gauge(complex(magnitude * np.exp(-1j * np.angle(total))), (float(ramp[0]), float(ramp[1])))


def normalise_gauge(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Remove global phase and ramp from an object without a ground truth, and scale its mean amplitude to about 1.

    Args:
        image: complex, ``(H, W)``.
        mask: where it is known, ``(H, W)``.

    Returns:
        The object, ``(H, W)``.
    """
    return find_gauge(image, np.ones_like(image), mask).remove(image)


def register(image: np.ndarray, mask: np.ndarray, truth: np.ndarray, max_shift: float) -> np.ndarray:
    """Register an object to its ground truth: find the shift between them.

    The whole-pixel peak of the cross-correlation, then least squares on the gradient, the ramp removed anew each time.

    Args:
        image: complex, ``(H, W)``.
        mask: where it is known, ``(H, W)``.
        truth: complex, ``(H, W)``.
        max_shift: greatest shift along an axis, px.

    Returns:
        Shift ``(y, x)``, px; zero where moving the object back would not raise the correlation, or by too little to be
        worth an interpolation.
    """
    part = _middle_part(mask)
    image, mask, truth = image[part], mask[part], truth[part]
    start = find_gauge(image, truth, mask).remove(image)
    shift = _correlation_peak(start, truth, mask, max_shift)
    for _ in range(4):
        moved, inner = _moved(image, mask, -shift)
        if not inner.any():
            return np.zeros(2)
        moved = find_gauge(moved, truth, inner).remove(moved)
        shift = np.clip(shift + _small_shift(moved, truth, inner), -max_shift, max_shift)
    moved, inner = _moved(image, mask, -shift)
    if not inner.any():
        return np.zeros(2)
    moved = find_gauge(moved, truth, inner).remove(moved)
    better = correlation(moved, truth, inner) > correlation(start, truth, inner)
    return shift if better and np.abs(shift).max() > MIN_SHIFT else np.zeros(2)


def correlation(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Compute the magnitude of the complex Pearson correlation, with the ground truth's own ramp removed from both.

    Neither means nor ramps count, so that a uniform object scores 0.

    Args:
        image: complex, ``(H, W)``.
        truth: complex, ``(H, W)``.
        mask: pixels to compare, ``(H, W)``.

    Returns:
        Correlation, 0 to 1.
    """
    own = find_gauge(truth, np.ones_like(truth), mask)
    a, b = (own.remove(part)[mask].astype(np.complex128) for part in (image, truth))
    a, b = a - a.mean(), b - b.mean()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    # a uniform object leaves nothing but rounding
    floor = 1e-6 * abs(own.scale) ** 2 * np.linalg.norm(image[mask]) * np.linalg.norm(truth[mask])
    return float(abs(np.vdot(b, a)) / norm) if norm > floor else 0.0


def twin_correlation(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Compute the :func:`correlation` of the twin image ``conj(O(-r))`` with the ground truth, at its best shift.

    Far-field patterns of an even probe do not distinguish the two: where this is greater than the object's own
    correlation, the twin was reconstructed.

    Args:
        image: complex, ``(H, W)``.
        truth: complex, ``(H, W)``.
        mask: where both are known, ``(H, W)``.

    Returns:
        Correlation, 0 to 1; 0 where the two overlap on less than a quarter of the mask.
    """
    twin, twin_mask = image[::-1, ::-1].conj(), mask[::-1, ::-1]
    shift = _correlation_peak(
        normalise_gauge(twin, twin_mask), normalise_gauge(truth, mask), mask, max(image.shape), twin_mask
    ).astype(int)
    moved, inside = window(twin, shift, twin.shape)
    overlap = mask & inside & window(twin_mask, shift, twin.shape)[0].astype(bool)
    if overlap.sum() < 0.25 * mask.sum():
        return 0.0
    return correlation(find_gauge(moved, truth, overlap).remove(moved), truth, overlap)


def window(image: np.ndarray, corner: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cut a part out of an image, padded with 1 beyond its edges.

    Args:
        image: ``(H, W)``.
        corner: row and column of the part's first pixel, may lie outside.
        shape: height and width of the part, px.

    Returns:
        The part, and True where it lies inside the image.
    """
    part, inside = np.ones(shape, image.dtype), np.zeros(shape, bool)
    first = np.maximum(corner, 0)
    last = np.maximum(np.minimum(np.add(corner, shape), image.shape), first)
    target = tuple(slice(a - c, b - c) for a, b, c in zip(first, last, corner, strict=True))
    part[target] = image[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    inside[target] = True
    return part, inside


def _check_alignable(image: np.ndarray, coverage: np.ndarray, truth: np.ndarray) -> None:
    if image.ndim != 2 or truth.ndim != 2:
        raise ValueError(
            f"expected two images, got an object of shape {image.shape} and a ground truth of shape {truth.shape}"
        )
    if coverage.shape != image.shape:
        raise ValueError(f"the coverage has shape {coverage.shape}, expected that of the object, {image.shape}")
    if not coverage.any():
        raise ValueError("the coverage is empty: the reconstruction has no known pixel to evaluate")
    if not np.isfinite(truth).all():
        raise ValueError("the ground truth holds NaN or infinity")
    if not np.any(truth):
        raise ValueError("the ground truth is all zeros: give the object the scan was simulated from")


def _moved(image: np.ndarray, mask: np.ndarray, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift an object by ``(y, x)`` px; return it and the part of its mask that no unknown pixel contributes to."""
    if not np.any(by):
        return image, mask
    # pixels beyond the mask are arbitrary: extend the known ones, or the edge rings
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    grown = np.pad(image[tuple(nearest)], MARGIN, mode="symmetric")
    moved = fft.ifft2(ndimage.fourier_shift(fft.fft2(grown), by))[MARGIN:-MARGIN, MARGIN:-MARGIN]
    inner = ndimage.binary_erosion(mask, np.ones((9, 9))) if np.any(by != np.rint(by)) else mask
    return moved, ndimage.shift(inner.astype(np.uint8), np.rint(by), order=0, mode="constant") > 0


def _middle_part(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the part of at most :data:`PART_PX` on a side in the middle of a mask; all where that would be empty."""
    slices = []
    for axis, length in enumerate(mask.shape):
        known = np.flatnonzero(mask.any(1 - axis))
        first = (
            0
            if len(known) == 0
            else int(np.clip((known[0] + known[-1] + 1 - PART_PX) // 2, 0, max(0, length - PART_PX)))
        )
        slices.append(slice(first, min(first + PART_PX, length)))
    return (slices[0], slices[1]) if mask[tuple(slices)].any() else (slice(None), slice(None))


def _product(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return ``image conj(truth)`` on the mask, 0 beyond, in double precision."""
    return np.where(mask, image * truth.conj(), 0).astype(np.complex128)


def _highest_peak(product: np.ndarray) -> np.ndarray:
    """Return the ramp at the highest peak of the Fourier transform, rad per px, on a grid twice as fine."""
    shape = [fft.next_fast_len(2 * length) for length in product.shape]
    peak = np.unravel_index(np.argmax(np.abs(fft.fft2(product, shape))), shape)
    return np.array([2 * np.pi * fft.fftfreq(length)[index] for length, index in zip(shape, peak, strict=True)])


def _refined_peak(product: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """Refine the peak near ``ramp`` by Newton's method on ``|S|^2``."""
    reach = np.pi / np.array(product.shape)  # half the distance to the next sample of the array's own transform
    start = ramp
    for _ in range(8):
        m = _moments(product, ramp)
        s, first = m[0, 0], -1j * np.array([m[1, 0], m[0, 1]])
        second = -np.array([[m[2, 0], m[1, 1]], [m[1, 1], m[0, 2]]])
        gradient = 2 * (s.conj() * first).real
        hessian = 2 * (np.outer(first.conj(), first) + s.conj() * second).real
        if not np.all(np.linalg.eigvalsh(hessian) < 0):
            return ramp
        step = np.clip(-np.linalg.solve(hessian, gradient), -reach, reach)
        ramp = np.clip(ramp + step, start - reach, start + reach)
        if np.all(np.abs(step) < 1e-12):
            break
    return ramp


def _moments(product: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """Return ``sum z e^{-i k . r} y^a x^b`` for a, b = 0, 1, 2, as a 3 x 3 array."""
    bases = [
        np.exp(-1j * slope * _centred(length)) * _centred(length) ** np.arange(3)[:, None]
        for slope, length in zip(ramp, product.shape, strict=True)
    ]
    return bases[0] @ product @ bases[1].T


def _centred(length: int) -> np.ndarray:
    return np.arange(length) - (length - 1) / 2


def _correlation_peak(
    image: np.ndarray, truth: np.ndarray, mask: np.ndarray, max_shift: float, image_mask: np.ndarray | None = None
) -> np.ndarray:
    """Return the whole-pixel shift of an object from its truth, by their cross-correlation, means removed."""
    parts = []
    for part, known in ((image, mask if image_mask is None else image_mask), (truth, mask)):
        shape = [fft.next_fast_len(2 * length) for length in part.shape]
        parts.append(fft.fft2(np.where(known, part - part[known].mean(), 0), shape))
    lags = np.abs(fft.ifft2(parts[0] * parts[1].conj()))
    rows, columns = (np.rint(fft.fftfreq(length) * length).astype(int) for length in lags.shape)
    allowed = (np.abs(rows)[:, None] <= max_shift) & (np.abs(columns) <= max_shift)
    peak = np.unravel_index(np.argmax(np.where(allowed, lags, -1)), lags.shape)
    return np.array([rows[peak[0]], columns[peak[1]]], float)


def _small_shift(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the shift s, ``(y, x)`` px, with ``image(r) ~ truth(r - s)``, by least squares on their mean gradient."""
    gradients = np.stack([part[mask] for part in np.gradient((image + truth) / 2)])
    normal = (gradients.conj() @ gradients.T).real
    if np.linalg.cond(normal) > 1e8:
        return np.zeros(2)
    return np.linalg.solve(normal, -(gradients.conj() @ (image - truth)[mask]).real)
