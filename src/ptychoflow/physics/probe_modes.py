"""Incoherent modes of a mixed-state probe: their number and their orthogonality."""

import torch
from torch import Tensor

from .forward_model import intensity


def orthogonalise_modes(probe: Tensor) -> Tensor:
    """Return the orthogonal modes of the same mixed state, the strongest first; all intensities stay the same.

    Args:
        probe: modes, ``(M, N, N)``.

    Returns:
        Modes, ``(M, N, N)``.
    """
    flat = probe.flatten(1)
    _, vectors = torch.linalg.eigh((flat @ flat.mH).to(torch.complex128))
    return (vectors.mH.to(probe) @ flat).flip(0).view_as(probe)


def add_modes(probe: Tensor, count: int, share: float) -> Tensor:
    """Extend a probe to ``count`` orthogonal modes, by its first mode with more and more nodes across it.

    Each new mode is the first times a polynomial ``y^a x^b`` about the centre of mass, made orthogonal to those before:
    what vibration and a source of finite size do to a coherent beam.

    Args:
        probe: modes, ``(M, N, N)``; more than ``count`` are cut to the first ones.
        count: number of modes to return.
        share: fraction of the photons in each new mode.

    Returns:
        Modes with the photons of ``probe``, ``(count, N, N)``.
    """
    photons, modes = intensity(probe).sum(), list(probe[:count])
    y, x = _centred_coordinates(intensity(probe).sum(0))
    powers = ((total - b, b) for total in range(1, count + 1) for b in range(total + 1))
    while len(modes) < count:
        a, b = next(powers)
        wave = probe[0] * y**a * x**b
        for mode in modes:
            wave = wave - mode * torch.vdot(mode.flatten(), wave.flatten()) / intensity(mode).sum()
        modes.append(wave * (share * photons / intensity(wave).sum()).sqrt())
    stack = torch.stack(modes)
    return stack * (photons / intensity(stack).sum()).sqrt()


def rms_radius(probe_intensity: Tensor) -> float:
    """Return the root of the mean square distance from the probe's centre of mass, px."""
    line = torch.arange(probe_intensity.shape[-1], dtype=probe_intensity.dtype, device=probe_intensity.device)
    share = probe_intensity / probe_intensity.sum()
    variance_x, variance_y = (s @ line.square() - (s @ line).square() for s in (share.sum(0), share.sum(1)))
    return float((variance_x + variance_y).sqrt())


def _centred_coordinates(probe_intensity: Tensor) -> tuple[Tensor, Tensor]:
    """Return coordinates ``(y, x)`` from the centre of mass, in units of the side: ``(N, 1)`` and ``(N,)``."""
    line = torch.arange(probe_intensity.shape[-1], dtype=probe_intensity.dtype, device=probe_intensity.device)
    y, x = (
        line - projection @ line / probe_intensity.sum()
        for projection in (probe_intensity.sum(1), probe_intensity.sum(0))
    )
    return y[:, None] / len(line), x / len(line)
