"""Image metrics of an object against its ground truth, aligned by :mod:`ptychoflow.metrics.alignment`.

Phases are compared on ``angle(object conj(truth))``, so that only the ground truth itself is unwrapped.
"""

import warnings

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity
from skimage.restoration import unwrap_phase

from .alignment import correlation, find_gauge

PEAK_8_BIT = 255.0
"""Peak that much of the literature's PSNR assumes for data of unit range: 48.13 dB above the range's own."""
SSIM_WINDOW = 7


def image_metrics(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, low_cycles: float) -> dict[str, float | None]:
    """Compute all metrics of an aligned object.

    Args:
        image: complex, its gauge freedom removed, ``(H, W)``.
        truth: complex, ``(H, W)``.
        mask: pixels to compare, ``(H, W)``.
        low_cycles: frequency below which an error is low-frequency, cycles across the field of view.

    Returns:
        Metrics by name; None where a truth without contrast leaves one undefined.

    Raises:
        ValueError: if the mask is empty.
    """
    _check_shapes(image, truth, mask)
    error = phase_error(image, truth)
    amplitude, amplitude_truth = np.abs(image), np.abs(truth)
    phase_truth = unwrapped_phase(truth, mask)
    phase_range, amplitude_range = value_range(phase_truth, mask), value_range(amplitude_truth, mask)
    phase_rms, amplitude_rms = rms(error, mask), rms(amplitude - amplitude_truth, mask)
    return {
        "complex_nrmse": complex_nrmse(image, truth, mask),
        "phase_mae_rad": float(np.abs(error[mask]).mean()),
        "phase_rms_rad": phase_rms,
        "phase_low_frequency_rms_rad": low_frequency_rms(error, mask, low_cycles),
        "phase_range_rad": phase_range,
        "phase_psnr_truth_range": psnr(phase_rms, phase_range),
        "phase_psnr_peak255": psnr(phase_rms, PEAK_8_BIT),
        "phase_ssim_truth_range": ssim(phase_truth + error, phase_truth, mask, phase_range),
        "phase_correlation": phase_correlation(image, truth, mask),
        "amplitude_mae": float(np.abs(amplitude - amplitude_truth)[mask].mean()),
        "amplitude_range": amplitude_range,
        "amplitude_psnr_truth_range": psnr(amplitude_rms, amplitude_range),
        "amplitude_psnr_peak255": psnr(amplitude_rms, PEAK_8_BIT),
        "amplitude_ssim_truth_range": ssim(amplitude, amplitude_truth, mask, amplitude_range),
        "amplitude_correlation": pearson(amplitude, amplitude_truth, mask),
        "correlation": correlation(image, truth, mask),
    }


def phase_error(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the phase error ``angle(image conj(truth))``.

    Args:
        image: complex, ``(H, W)``.
        truth: complex, ``(H, W)``.

    Returns:
        Phase error, rad in (-pi, pi], ``(H, W)``.
    """
    return np.angle(image * truth.conj())


def complex_nrmse(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Compute the complex NRMSE, ``sqrt(sum |image - truth|^2 / sum |truth|^2)`` on the mask.

    Args:
        image: complex, ``(H, W)``.
        truth: complex, ``(H, W)``.
        mask: pixels to compare, ``(H, W)``.
    """
    return float(np.linalg.norm((image - truth)[mask]) / np.linalg.norm(truth[mask]))


def rms(values: np.ndarray, mask: np.ndarray) -> float:
    """Compute the root mean square on the mask.

    Args:
        values: real, ``(H, W)``.
        mask: pixels to take, ``(H, W)``.
    """
    return float(np.sqrt(np.mean(np.square(values[mask], dtype=np.float64))))


def psnr(error_rms: float, peak: float) -> float | None:
    """Compute the peak signal-to-noise ratio ``20 log10(peak / rms)``.

    Args:
        error_rms: rms error.
        peak: in the same unit.

    Returns:
        PSNR, dB; None without a peak, at most 200 for a perfect image.
    """
    return None if peak <= 0 else float(20 * np.log10(peak / max(error_rms, peak * 1e-10)))


def value_range(values: np.ndarray, mask: np.ndarray) -> float:
    """Compute the range of values on the mask; 0 for an image that is uniform but for rounding.

    Args:
        values: real, ``(H, W)``.
        mask: pixels to take, ``(H, W)``.
    """
    known = values[mask]
    extent = float(known.max() - known.min())
    return extent if extent > 1e-5 * max(1.0, float(np.abs(known).max())) else 0.0


def ssim(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, data_range: float) -> float | None:
    """Compute the mean structural similarity (SSIM) over the pixels whose whole window lies on the mask.

    It depends on the mean of the images: a phase must have its mean at 0, as :func:`unwrapped_phase` returns it.

    Args:
        image: real, ``(H, W)``.
        truth: real, ``(H, W)``.
        mask: pixels to compare, ``(H, W)``.
        data_range: the range of the truth.

    Returns:
        SSIM; None without such pixels, or for a truth without contrast.
    """
    inner = ndimage.binary_erosion(mask, np.ones((SSIM_WINDOW, SSIM_WINDOW)))
    if data_range <= 0 or not inner.any():
        return None
    similarity = structural_similarity(
        np.where(mask, image, truth), truth, win_size=SSIM_WINDOW, data_range=data_range, full=True
    )[1]
    return float(similarity[inner].mean())


def pearson(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Compute the Pearson correlation of real images on the mask; 0 where one of them is uniform.

    Args:
        image: real, ``(H, W)``.
        truth: real, ``(H, W)``.
        mask: pixels to compare, ``(H, W)``.
    """
    a, b = (part[mask].astype(np.float64) for part in (image, truth))
    a, b = a - a.mean(), b - b.mean()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm > 1e-12 * len(a) else 0.0


def phase_correlation(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Compute the Pearson correlation of the phases, with the ground truth's own ramp removed from both.

    Alignment gives the truth's ramp to any image; without it a uniform one scores 0.

    Args:
        image: complex, ``(H, W)``.
        truth: complex, ``(H, W)``.
        mask: pixels to compare, ``(H, W)``.
    """
    own = find_gauge(truth, np.ones_like(truth), mask)
    levelled = [own.remove(part) for part in (image, truth)]
    image_phase, truth_phase = (np.angle(part * np.conj(part[mask].sum())) for part in levelled)
    return pearson(image_phase, truth_phase, mask)


def low_frequency_rms(error: np.ndarray, mask: np.ndarray, low_cycles: float) -> float:
    """Compute the root mean square of the low-frequency part of a phase error.

    Data error and Fourier ring correlation both hide this part. Never more than the whole root mean square.

    Args:
        error: phase error, rad, ``(H, W)``.
        mask: pixels to take, ``(H, W)``.
        low_cycles: frequencies below it are taken, cycles across the field of view.

    Returns:
        Rms, rad.
    """
    spectrum = np.fft.fft2(np.where(mask, error, 0), norm="ortho")
    cycles = [np.fft.fftfreq(length) * length for length in error.shape]
    low = np.hypot(cycles[0][:, None], cycles[1]) < low_cycles
    return float(np.sqrt(np.sum(np.abs(spectrum[low]) ** 2) / mask.sum()))


def unwrapped_phase(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the phase with its mean near 0, unwrapped where it comes near the cut.

    Args:
        image: complex, ``(H, W)``.
        mask: where it is known, ``(H, W)``.

    Returns:
        Phase, rad, ``(H, W)``; 0 outside the mask.
    """
    phase = np.angle(image * np.conj(image[mask].sum()))
    if np.abs(phase[mask]).max() > 0.95 * np.pi:
        with warnings.catch_warnings():  # a mask one pixel wide is valid here
            warnings.simplefilter("ignore")
            phase = unwrap_phase(np.ma.array(phase, mask=~mask), rng=0).filled(0)
    return np.where(mask, phase, 0)


def relative_std(image: np.ndarray, mask: np.ndarray) -> float:
    """Compute the contrast of an object: its standard deviation over the magnitude of its mean; 0 if uniform.

    Args:
        image: complex, ``(H, W)``.
        mask: where it is known, ``(H, W)``.
    """
    known = image[mask].astype(np.complex128)
    return float(known.std() / max(abs(known.mean()), np.finfo(float).tiny))


def crop_to(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns that a mask extends over.

    Args:
        mask: ``(H, W)``, not empty.
    """
    rows, columns = np.nonzero(mask)
    return slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)


def _check_shapes(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> None:
    if not image.shape == truth.shape == mask.shape:
        raise ValueError(
            f"expected one shape, got an object of {image.shape} px, a ground truth of {truth.shape} px and a mask of "
            f"{mask.shape} px"
        )
    if not mask.any():
        raise ValueError("the coverage is empty: the reconstruction has no known pixel to evaluate")
