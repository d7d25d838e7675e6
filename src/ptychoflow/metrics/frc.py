"""Fourier ring correlation (FRC) of two complex images: up to which spatial frequency they agree.

Means are removed and the edge of the coverage is tapered, so that two uniform images, which agree trivially, score 0.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

THRESHOLDS = ("1/2", "1/7", "half-bit")
LOW_FREQUENCY_RINGS = 4
"""Rings of periods of a quarter of the field or more, which can disagree where all finer rings agree."""


@dataclass(frozen=True)
class RingCorrelation:
    """A correlation curve from ring 1, one cycle across the shorter side, up to Nyquist.

    Attributes:
        frequency: of each ring, cycles per px.
        correlation: ``Re sum A B* / sqrt(sum |A|^2 sum |B|^2)`` over the ring, -1 to 1.
        samples: independent Fourier samples of each ring: fewer than it has pixels, because the taper correlates them.
    """

    frequency: np.ndarray
    correlation: np.ndarray
    samples: np.ndarray

    def threshold(self, name: str) -> np.ndarray:
        """Return a threshold curve: a constant, or half a bit of information per sample.

        half-bit: van Heel and Schatz, J. Struct. Biol. 151 (2005), eq. 17.

        Args:
            name: one of :data:`THRESHOLDS`.

        Returns:
            Threshold of each ring.
        """
        if name != "half-bit":
            over, under = name.split("/")
            return np.full(len(self.frequency), int(over) / int(under))
        root = np.sqrt(np.maximum(self.samples, 1))
        return (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)

    def crossing(self, name: str) -> float | None:
        """Return the frequency at which the curve falls below a threshold.

        A resolution is the finest period that agrees: the curve counts from the first ring above the threshold, if
        that is one of the first :data:`LOW_FREQUENCY_RINGS`.

        Args:
            name: one of :data:`THRESHOLDS`.

        Returns:
            Frequency, cycles per px; 0 if none of those rings is above, None if the curve never falls below.
        """
        above = self.correlation - self.threshold(name)
        if not (above[:LOW_FREQUENCY_RINGS] >= 0).any():
            return 0.0
        first = int(np.argmax(above >= 0))
        below = first + np.flatnonzero(above[first:] < 0)
        if len(below) == 0:
            return None
        last = below[0]
        share = above[last - 1] / (above[last - 1] - above[last])
        return float(self.frequency[last - 1] + share * (self.frequency[last] - self.frequency[last - 1]))

    @property
    def area(self) -> float:
        """Mean of the curve up to Nyquist, all rings of one width."""
        return float(self.correlation.mean())

    def summary(self, pixel_size_m: float) -> dict:
        """Return crossings, area and the raw curve as plain data.

        Args:
            pixel_size_m: side of a pixel, m.
        """
        return {
            "area": self.area,
            "crossings": {name: _length(self.crossing(name), pixel_size_m) for name in THRESHOLDS},
            "frequency_cycles_per_px": self.frequency.tolist(),
            "frequency_cycles_per_m": (self.frequency / pixel_size_m).tolist(),
            "correlation": self.correlation.tolist(),
            "half_bit": self.threshold("half-bit").tolist(),
            "samples": self.samples.tolist(),
        }


def ring_correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray, taper: float = 8) -> RingCorrelation:
    """Compute the Fourier ring correlation of two images.

    Args:
        first: complex, aligned with the second, ``(H, W)``.
        second: complex, ``(H, W)``.
        mask: where both are known, ``(H, W)``.
        taper: width of the cosine edge inside the mask, px.

    Returns:
        The correlation curve.

    Raises:
        ValueError: if shapes differ, the mask is empty, or narrower than 4 px.
    """
    if not first.shape == second.shape == mask.shape:
        raise ValueError(
            f"expected one shape, got images of {first.shape} and {second.shape} px and a mask of {mask.shape} px"
        )
    if not mask.any():
        raise ValueError("the two images share no covered pixel: align reconstructions of one scan")
    rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    first, second, mask = (part[rows, columns] for part in (first, second, mask))
    if min(mask.shape) < 4:
        raise ValueError(f"the two images share {mask.shape} px, expected at least 4 along each axis")
    weight = edge_taper(mask, taper)
    spectra = [np.fft.fft2(_without_mean(part, weight)) for part in (first, second)]
    ring, count = _rings(mask.shape)
    cross = _ring_sum((spectra[0] * spectra[1].conj()).real, ring, count)
    power = [_ring_sum(np.abs(spectrum) ** 2, ring, count) for spectrum in spectra]
    norm = np.sqrt(power[0] * power[1])
    share = np.sum(weight**2) ** 2 / np.sum(weight**4) / weight.size
    return RingCorrelation(
        frequency=np.arange(1, count + 1) / min(mask.shape),
        correlation=np.divide(cross, norm, out=np.zeros(count), where=norm > 0),
        samples=share * _ring_sum(np.ones(mask.shape), ring, count),
    )


def edge_taper(mask: np.ndarray, width: float) -> np.ndarray:
    """Return a weight that rises from 0 outside a mask to 1 within it, as a squared sine.

    Args:
        mask: ``(H, W)``.
        width: of the edge, px.

    Returns:
        Weight, ``(H, W)``.
    """
    if width <= 0:
        return mask.astype(float)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return np.sin(np.pi / 2 * np.clip(depth / (width + 1), 0, 1)) ** 2


def _without_mean(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    image = image.astype(np.complex128)
    residual = image - np.sum(weight * image) / np.sum(weight)
    # a uniform image leaves nothing but rounding, which must not correlate with anything
    uniform = np.abs(residual[weight > 0]).max() < 1e-6 * np.abs(image[weight > 0]).max()
    return np.zeros_like(image) if uniform else weight * residual


def _rings(shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Return the ring of each frequency, 0 at zero frequency and beyond Nyquist, and the number of rings."""
    shorter = min(shape)
    y, x = (np.fft.fftfreq(length) for length in shape)
    ring = np.rint(np.hypot(y[:, None], x) * shorter).astype(int)
    return np.where(ring <= shorter // 2, ring, 0), shorter // 2


def _ring_sum(values: np.ndarray, ring: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(ring.ravel(), values.ravel(), count + 1)[1:]


def _length(frequency: float | None, pixel_size_m: float) -> dict:
    """Return a crossing in cycles per px and as half a period; a curve that never crosses is beyond Nyquist."""
    known = 0.5 if frequency is None else frequency
    half_period = None if known == 0 else 0.5 / known
    return {
        "cycles_per_px": known,
        "half_period_px": half_period,
        "half_period_m": None if half_period is None else half_period * pixel_size_m,
        "beyond_nyquist": frequency is None,
    }
