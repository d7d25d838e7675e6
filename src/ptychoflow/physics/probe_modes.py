"""Incoherent modes of a beam: made from one, made orthogonal."""

import torch
from torch import Tensor

from .forward_model import intensity


def orthogonal_modes(probe: Tensor) -> Tensor:
    """The same incoherent beam in orthogonal modes, the brightest first; every intensity stays what it is.

    Args:
        probe: modes, ``(M, N, N)``.
    """
    flat = probe.flatten(1)
    _, vectors = torch.linalg.eigh((flat @ flat.mH).to(torch.complex128))
    return (vectors.mH.to(probe) @ flat).flip(0).view_as(probe)


def more_modes(probe: Tensor, count: int, share: float) -> Tensor:
    """A beam of ``count`` orthogonal modes: those of ``probe``, and its first one with more and more nodes across it.

    Mode by mode the first times a polynomial ``y^a x^b`` about the beam's middle, made orthogonal to those before: what
    vibration and a source of finite size do to a coherent beam.

    Args:
        probe: modes, ``(M, N, N)``; more than ``count`` are cut to the first ones.
        count: modes to have.
        share: of the light in each new mode.
    """
    photons, modes = intensity(probe).sum(), list(probe[:count])
    y, x = _from_middle(intensity(probe).sum(0))
    powers = ((total - b, b) for total in range(1, count + 1) for b in range(total + 1))
    while len(modes) < count:
        a, b = next(powers)
        wave = probe[0] * y**a * x**b
        for mode in modes:
            wave = wave - mode * torch.vdot(mode.flatten(), wave.flatten()) / intensity(mode).sum()
        modes.append(wave * (share * photons / intensity(wave).sum()).sqrt())
    stack = torch.stack(modes)
    return stack * (photons / intensity(stack).sum()).sqrt()


def _from_middle(light: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates ``(y, x)`` from the centre of mass, in units of the side: ``(N, 1)`` and ``(N,)``."""
    line = torch.arange(light.shape[-1], dtype=light.dtype, device=light.device)
    y, x = (line - share @ line / light.sum() for share in (light.sum(1), light.sum(0)))
    return y[:, None] / len(line), x / len(line)
