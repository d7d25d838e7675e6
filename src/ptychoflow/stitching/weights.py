"""Weights of the pixels of a patch, the same for all patches of a scan."""

import numpy as np
import torch
from torch import Tensor

from ..config import Stitching
from ..core.scan import Scan
from ..io.patch_store import PatchSet
from ..physics.forward_model import intensity

BATCH = 1 << 16
"""Groups at a time."""


def patch_weights(scan: Scan, patches: PatchSet, stitching: Stitching) -> Tensor:
    """Compute the weights of the pixels of a patch.

    Args:
        scan: the patches were predicted from it.
        patches: their size, members and positions.
        stitching: ``weighting``, ``illumination`` or ``uniform``.

    Returns:
        Mean illumination of the groups over its greatest, or 1, ``(S, S)``.
    """
    if stitching.weighting == "uniform":
        return torch.ones(patches.size, patches.size)
    illumination = group_illumination(scan, patches)
    first = scan.size // 2 - patches.size // 2
    return (illumination / illumination.max())[first : first + patches.size, first : first + patches.size].contiguous()


def group_illumination(scan: Scan, patches: PatchSet) -> Tensor:
    """Compute the mean illumination of a group: the sum of probe intensities at its members, over all groups.

    A mean of shifts is one product in Fourier space: ``F^-1[F[|P|^2] mean_j exp(-2 pi i q r_j)]``.

    Args:
        scan: the patches were predicted from it.
        patches: members and positions of the groups.

    Returns:
        Illumination on the canvas of a group, photons, ``(N, N)``.
    """
    frequency = np.fft.fftfreq(scan.size)
    total = np.zeros((scan.size, scan.size), complex)
    for first in range(0, len(patches), BATCH):
        batch = slice(first, first + BATCH)
        relative = (scan.positions[patches.members[batch]] - patches.positions[batch, None]).reshape(-1, 2)
        along_y, along_x = np.moveaxis(np.exp(-2j * np.pi * relative[:, :, None] * frequency), 1, 0)
        total += along_y.T @ along_x
    probe_intensity = intensity(torch.from_numpy(scan.probe)).sum(0).double()
    illumination = torch.fft.ifft2(torch.fft.fft2(probe_intensity) * torch.from_numpy(total / len(patches))).real
    return illumination.clamp_min(0).float()
