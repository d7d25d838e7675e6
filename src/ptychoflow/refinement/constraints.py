"""Constraints on object and probe, as proximal steps between epochs: each moves part of the way to where it holds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Constraints
from ..physics.forward_model import intensity
from ..physics.propagation import far_field_corner, far_field_corner_inverse

TV_ITERATIONS, TV_STEP = 20, 0.125
"""Iterations of the dual of total variation, and their step: 1/8 is the greatest that converges (Chambolle 2004)."""
PEAK_STRUCTURE = 0.25
"""Least structure factor of the positions, 0 to 1, at a spatial frequency of the raster."""
PEAK_RADIUS, RING_RADIUS = 2, 6
"""Half widths of a raster peak in the spectrum of the object, and of the ring of frequencies around it."""


@dataclass(frozen=True)
class ConstraintContext:
    """Geometry that constraints need.

    Attributes:
        positions: position of each pattern in pixels of the object, ``(J, 2)``.
        weight: illumination of each pixel of the object, ``(H, W)``.
    """

    positions: Tensor
    weight: Tensor


def constrain_object(image: Tensor, settings: Constraints, context: ConstraintContext) -> Tensor:
    """Apply the constraints of the object, ``(H, W)``, in the order of the settings."""
    if settings.amplitude_at_most_one:
        image = image * (1 - settings.amplitude_at_most_one * (1 - 1 / image.abs().clamp_min(1)))
    if settings.phase_only:
        image = torch.lerp(image, image.sgn(), settings.phase_only)
    if settings.total_variation:
        image = denoise_total_variation(image, settings.total_variation)
    if settings.low_pass:
        image = torch.lerp(image, low_pass(image, settings.low_pass_cycles_per_px), settings.low_pass)
    if settings.raster_peaks:
        image = image - settings.raster_peaks * raster_artefact(image, context.positions, context.weight)
    return image


def constrain_probe(probe: Tensor, settings: Constraints) -> Tensor:
    """Apply support and aperture to the modes of a probe, or to its variations, ``(M, N, N)``."""
    size = probe.shape[-1]
    if settings.probe_support:
        outside = _distance(size, probe.device) > settings.probe_support_diameter_px / 2
        probe = torch.where(outside, (1 - settings.probe_support) * probe, probe)
    if settings.probe_aperture:
        outside = torch.fft.ifftshift(_distance(size, probe.device) > settings.probe_aperture_diameter_px / 2)
        spectrum = far_field_corner(probe)
        probe = far_field_corner_inverse(torch.where(outside, (1 - settings.probe_aperture) * spectrum, spectrum))
    return probe


def centring_shift(probe: Tensor, strength: float) -> tuple[int, int]:
    """Return the whole-pixel shift that centres a probe ``(M, N, N)`` on its centre of mass, times the strength."""
    power = intensity(probe).sum(0)
    line = torch.arange(power.shape[-1], dtype=power.dtype, device=power.device) - power.shape[-1] // 2
    centre = torch.stack([power.sum(1) @ line, power.sum(0) @ line]) / power.sum().clamp_min(1e-30)
    y, x = (-strength * centre).round().int().tolist()
    return y, x


def power_factor(probe: Tensor, photons: Tensor, strength: float) -> Tensor:
    """Return the factor that brings a probe's photons towards ``photons``; the object is to be divided by it."""
    return 1 + strength * ((photons / intensity(probe).sum().clamp_min(1e-30)).sqrt() - 1)


def denoise_total_variation(image: Tensor, weight: float) -> Tensor:
    """Minimise ``1/2 sum |x - image|^2 + weight sum |grad x|`` by its dual.

    Chambolle 2004, Journal of Mathematical Imaging and Vision 20, 89.

    Real and imaginary part share one gradient, so that edges of amplitude and phase coincide.

    Args:
        image: complex, ``(H, W)``.
        weight: in units of the object, dimensionless.

    Returns:
        The minimiser after some iterations, ``(H, W)``.
    """
    dual = image.new_zeros(2, *image.shape)
    for _ in range(TV_ITERATIONS):
        gradient = _gradient(_divergence(dual) - image / weight)
        length = intensity(gradient).sum(0).sqrt()
        dual = (dual + TV_STEP * gradient) / (1 + TV_STEP * length)
    return image - weight * _divergence(dual)


def low_pass(image: Tensor, cutoff: float) -> Tensor:
    """Multiply the spectrum of an object ``(H, W)`` with a Gaussian that is 1/2 at ``cutoff``, cycles/px."""
    y, x = (torch.fft.fftfreq(side, device=image.device) for side in image.shape)
    ratio = (y[:, None].square() + x.square()) / cutoff**2
    return torch.fft.ifft2(torch.fft.fft2(image) * torch.exp2(-ratio))


def raster_artefact(image: Tensor, positions: Tensor, weight: Tensor) -> Tensor:
    """Estimate what of an object is a raster artefact: its spectrum in excess at the frequencies of the raster.

    These are the frequencies of high structure factor of the positions. A scan without a period has none.

    Args:
        image: complex, ``(H, W)``.
        positions: of the patterns, px of the object, ``(J, 2)``.
        weight: illumination of each pixel, ``(H, W)``: the artefact is looked for where the object is known.

    Returns:
        Artefact to subtract, ``(H, W)``.
    """
    known = (weight / weight.max().clamp_min(1e-30)).clamp_max(0.5) * 2
    mean = (image * known).sum() / known.sum().clamp_min(1e-30)
    spectrum = torch.fft.fft2((image - mean) * known)
    peaks = _raster_peaks(positions, image.shape)
    excess = torch.zeros_like(spectrum)
    height, width = image.shape
    for y, x in peaks.tolist():
        rows = torch.arange(y - RING_RADIUS, y + RING_RADIUS + 1, device=image.device) % height
        columns = torch.arange(x - RING_RADIUS, x + RING_RADIUS + 1, device=image.device) % width
        box = spectrum[rows[:, None], columns]
        inner = slice(RING_RADIUS - PEAK_RADIUS, RING_RADIUS + PEAK_RADIUS + 1)
        ring = torch.ones(box.shape, dtype=torch.bool, device=image.device)
        ring[inner, inner] = False
        usual = box.abs()[ring].median()
        peak = box[inner, inner]
        excess[rows[inner][:, None], columns[inner]] = peak * (1 - usual / peak.abs().clamp_min(1e-30)).clamp_min(0)
    return torch.fft.ifft2(excess) * known


def _raster_peaks(positions: Tensor, shape: torch.Size) -> Tensor:
    """Return the frequencies of the positions' periods, as indices ``(y, x)`` of the spectrum, ``(K, 2)``."""
    height, width = shape
    points = torch.zeros(shape, device=positions.device)
    index = positions.round().long()
    points[index[:, 0] % height, index[:, 1] % width] = 1
    structure = torch.fft.fft2(points).abs() / len(positions)
    extent = (positions.amax(0) - positions.amin(0)).clamp_min(1)
    # nearer than a few periods of the whole scan to zero lies the scan's own shape
    y, x = (torch.fft.fftfreq(side, 1 / side, device=positions.device).abs() for side in shape)
    near = (y[:, None] * extent[0] / height < 4) & (x * extent[1] / width < 4)
    structure = torch.where(near, 0, structure)
    padded = torch.nn.functional.pad(structure[None, None], (2, 2, 2, 2), mode="circular")
    highest = torch.nn.functional.max_pool2d(padded, 5, stride=1)[0, 0]
    return ((structure == highest) & (structure > PEAK_STRUCTURE)).nonzero()


def _distance(size: int, device: torch.device) -> Tensor:
    """Return the distance of each pixel of a probe from its origin ``N // 2``, px, ``(N, N)``."""
    line = torch.arange(size, device=device, dtype=torch.float32) - size // 2
    return torch.hypot(line[:, None], line.expand(size, size))


def _gradient(image: Tensor) -> Tensor:
    """Return forward differences along y and x, 0 beyond the edge, ``(2, H, W)``."""
    gradient = image.new_zeros(2, *image.shape)
    gradient[0, :-1] = image[1:] - image[:-1]
    gradient[1, :, :-1] = image[:, 1:] - image[:, :-1]
    return gradient


def _divergence(field: Tensor) -> Tensor:
    """Return the divergence of a field ``(2, H, W)``: minus the adjoint of :func:`_gradient`."""
    y, x = field
    divergence = torch.zeros_like(y)
    divergence[:-1] += y[:-1]
    divergence[1:] -= y[:-1]
    divergence[:, :-1] += x[:, :-1]
    divergence[:, 1:] -= x[:, :-1]
    return divergence
