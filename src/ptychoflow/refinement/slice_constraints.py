"""Slices of a thick sample between epochs: what diffraction does not tell apart along the beam."""

import torch
from torch import Tensor

from ..core.scan import Geometry
from ..physics.forward_model import intensity


def beyond_cone(slices: Tensor, spacing_m: float, geometry: Geometry) -> Tensor:
    """Filter what of the slices, or of their change, diffraction hardly tells apart along the beam.

    A detector that collects waves up to an angle theta sees frequencies ``|k_z| < theta k_xy`` of the sample; with
    ``x = k_z / (theta k_xy)`` the factor ``x^2 / (1 + x^2)`` passes what lies beyond that cone. It is 0 along
    ``k_z = 0``: of the mean over all slices it passes nothing.

    Args:
        slices: complex, ``(S, H, W)``.
        spacing_m: distance between slices, m.
        geometry: pixel and wavelength; theta is ``wavelength / (2 pixel)``.

    Returns:
        Filtered slices, ``(S, H, W)``.
    """
    pixel_m, theta = geometry.pixel_size_m, geometry.wavelength_m / (2 * geometry.pixel_size_m)
    k_z, y, x = (torch.fft.fftfreq(side, device=slices.device) for side in slices.shape)
    across = (y[:, None].square() + x.square()) * (theta / pixel_m) ** 2
    along = (k_z / spacing_m).square()[:, None, None]
    factor = torch.where(along > 0, along / (along + across), 0.0)
    return torch.fft.ifftn(torch.fft.fftn(slices) * factor)


def centring_steps(slices: Tensor, weight: Tensor, strength: float) -> int:
    """Return the whole slices by which a sample is to move downstream, so that its centre of mass is in the middle.

    Args:
        slices: complex, ``(S, H, W)``.
        weight: illumination, ``(H, W)``: a slice counts by its weighted variance.
        strength: fraction of the distance to move.
    """
    share = weight / weight.sum()
    mean = (slices * share).sum((1, 2), keepdim=True)
    content = (intensity(slices - mean) * share).sum((1, 2))
    numbers = torch.arange(len(slices), device=slices.device, dtype=content.dtype)
    centre = (content * numbers).sum() / content.sum().clamp_min(1e-30)
    return int((strength * ((len(slices) - 1) / 2 - centre)).round())


def move_slices(slices: Tensor, steps: int) -> Tensor:
    """Move slices downstream by whole numbers; what would leave is multiplied into the outermost slice.

    Args:
        slices: complex, ``(S, H, W)``.
        steps: less than S in magnitude, negative upstream.

    Returns:
        Slices, ``(S, H, W)``, with ones where none came from.
    """
    if steps < 0:
        return move_slices(slices.flip(0), -steps).flip(0)
    if steps == 0:
        return slices
    moved = torch.ones_like(slices)
    moved[steps:] = slices[: len(slices) - steps]
    moved[-1] *= slices[len(slices) - steps :].prod(0)
    return moved
