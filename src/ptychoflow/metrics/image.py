"""Measures of an object against its truth, both in one frame: see :mod:`ptychoflow.metrics.alignment`.

Phases are compared on ``angle(object conj(truth))``, so that nothing is unwrapped but the truth itself.
"""

import warnings

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity
from skimage.restoration import unwrap_phase

from .alignment import correlation, find_gauge

PEAK_8_BIT = 255.0
"""The peak that much of the literature's PSNR assumes for data of unit range: 48.13 dB above the range's own."""
SSIM_WINDOW = 7


def image_metrics(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, low_cycles: float) -> dict[str, float | None]:
    """Every measure of an aligned object, by name; None where a truth without contrast leaves it undefined.

    Args:
        image: complex, freed of its gauge, ``(H, W)``.
        truth: complex, ``(H, W)``.
        mask: where to measure, ``(H, W)``.
        low_cycles: what counts as low frequency, cycles across the field of view.

    Raises:
        ValueError: if the mask is empty.
    """
    _check(image, truth, mask)
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
    """``angle(image conj(truth))``, rad in (-pi, pi]."""
    return np.angle(image * truth.conj())


def complex_nrmse(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """``sqrt(sum |image - truth|^2 / sum |truth|^2)``."""
    return float(np.linalg.norm((image - truth)[mask]) / np.linalg.norm(truth[mask]))


def rms(values: np.ndarray, mask: np.ndarray) -> float:
    """Root mean square on the mask."""
    return float(np.sqrt(np.mean(np.square(values[mask], dtype=np.float64))))


def psnr(error_rms: float, peak: float) -> float | None:
    """``20 log10(peak / rms)``, dB; None without a peak, at most 200 for a perfect image."""
    return None if peak <= 0 else float(20 * np.log10(peak / max(error_rms, peak * 1e-10)))


def value_range(values: np.ndarray, mask: np.ndarray) -> float:
    """Greatest less least value on the mask; 0 for what is flat but for rounding."""
    known = values[mask]
    spread = float(known.max() - known.min())
    return spread if spread > 1e-5 * max(1.0, float(np.abs(known).max())) else 0.0


def ssim(image: np.ndarray, truth: np.ndarray, mask: np.ndarray, data_range: float) -> float | None:
    """Mean structural similarity over the pixels whose whole window lies on the mask; None where there are none.

    It depends on the mean of the images: a phase is to have its mean at 0, as :func:`unwrapped_phase` gives it.

    Args:
        image: real, ``(H, W)``.
        truth: real, ``(H, W)``.
        mask: where to measure.
        data_range: the range of the truth.
    """
    inner = ndimage.binary_erosion(mask, np.ones((SSIM_WINDOW, SSIM_WINDOW)))
    if data_range <= 0 or not inner.any():
        return None
    similarity = structural_similarity(
        np.where(mask, image, truth), truth, win_size=SSIM_WINDOW, data_range=data_range, full=True
    )[1]
    return float(similarity[inner].mean())


def pearson(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Pearson correlation of real images on the mask, 0 where one of them is flat."""
    a, b = (part[mask].astype(np.float64) for part in (image, truth))
    a, b = a - a.mean(), b - b.mean()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm > 1e-12 * len(a) else 0.0


def phase_correlation(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """:func:`pearson` of the phases, each about its mean, once the truth's own ramp is taken from both.

    Alignment gives the truth's ramp to any image; without it a flat one scores 0.
    """
    own = find_gauge(truth, np.ones_like(truth), mask)
    levelled = [own.remove(part) for part in (image, truth)]
    return pearson(*(np.angle(part * np.conj(part[mask].sum())) for part in levelled), mask)


def low_frequency_rms(error: np.ndarray, mask: np.ndarray, low_cycles: float) -> float:
    """Root mean square of what varies slowly in a phase error: fewer than so many cycles across the field of view.

    This is what data error and Fourier ring correlation both hide. Never more than the whole root mean square.
    """
    spectrum = np.fft.fft2(np.where(mask, error, 0), norm="ortho")
    cycles = [np.fft.fftfreq(length) * length for length in error.shape]
    low = np.hypot(cycles[0][:, None], cycles[1]) < low_cycles
    return float(np.sqrt(np.sum(np.abs(spectrum[low]) ** 2) / mask.sum()))


def unwrapped_phase(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The phase, its mean near 0, unwrapped where it comes near the cut; 0 outside the mask."""
    phase = np.angle(image * np.conj(image[mask].sum()))
    if np.abs(phase[mask]).max() > 0.95 * np.pi:
        with warnings.catch_warnings():  # a mask one pixel wide is no mistake here
            warnings.simplefilter("ignore")
            phase = unwrap_phase(np.ma.array(phase, mask=~mask), rng=0).filled(0)
    return np.where(mask, phase, 0)


def relative_std(image: np.ndarray, mask: np.ndarray) -> float:
    """How far from flat an object is, without a truth: standard deviation over the magnitude of the mean; 0 if flat."""
    known = image[mask].astype(np.complex128)
    return float(known.std() / max(abs(known.mean()), np.finfo(float).tiny))


def crop_to(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that a mask reaches over."""
    return tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))


def _check(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> None:
    if not image.shape == truth.shape == mask.shape:
        raise ValueError(f"the object has shape {image.shape}, its truth {truth.shape}, the mask {mask.shape}")
    if not mask.any():
        raise ValueError("the coverage is empty: nothing was reconstructed, so nothing can be measured")
