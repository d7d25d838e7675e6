"""How much each pixel of a patch is worth: the same for all patches of a scan."""

import numpy as np
import torch
from torch import Tensor

from ..config import Stitching
from ..core.scan import Scan
from ..io.patch_store import PatchSet
from ..physics.forward_model import intensity

AT_ONCE = 1 << 16
"""Positions at a time."""


def patch_weights(scan: Scan, patches: PatchSet, stitching: Stitching) -> Tensor:
    """Weights of the pixels of a patch, ``(S, S)``: the mean light of the groups over its greatest, or 1."""
    if stitching.weighting == "uniform":
        return torch.ones(patches.size, patches.size)
    light = group_light(scan, patches)
    first = scan.size // 2 - patches.size // 2
    return (light / light.max())[first : first + patches.size, first : first + patches.size].contiguous()


def group_light(scan: Scan, patches: PatchSet) -> Tensor:
    """Mean light on the canvas of a group, ``(N, N)``, photons: the probe's at the places of all their members.

    A mean of shifts is one product in Fourier space: ``F^-1[F[|P|^2] mean_j exp(-2 pi i q r_j)]``.
    """
    frequency = np.fft.fftfreq(scan.size)
    total = np.zeros((scan.size, scan.size), complex)
    for first in range(0, len(patches), AT_ONCE):
        here = slice(first, first + AT_ONCE)
        relative = (scan.positions[patches.members[here]] - patches.positions[here, None]).reshape(-1, 2)
        along_y, along_x = np.moveaxis(np.exp(-2j * np.pi * relative[:, :, None] * frequency), 1, 0)
        total += along_y.T @ along_x
    probe = intensity(torch.from_numpy(scan.probe)).sum(0).double()
    light = torch.fft.ifft2(torch.fft.fft2(probe) * torch.from_numpy(total / len(patches))).real
    return light.clamp_min(0).float()
