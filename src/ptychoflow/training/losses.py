"""What a network is trained to make small, group by group: canvases against the truth and against the counts."""

import torch
from torch import Tensor

from ..physics.data_fidelity import LOSSES
from ..physics.forward_model import expected_counts, intensity
from ..physics.propagation import far_field_corner


def diffract(canvas: Tensor, probes: Tensor) -> Tensor:
    """Expected counts of each pattern, ``(B, C, N, N)``, zero frequency at the corner.

    Args:
        canvas: the object under each group, ``(B, N, N)``.
        probes: modes moved to each pattern, ``(B, C, M, N, N)``.
    """
    return expected_counts(canvas[:, None], probes, propagate=far_field_corner)


def physics_loss(name: str, counts: Tensor, expected: Tensor, mask: Tensor | None) -> Tensor:
    """The data error of that name, over the batch: absolute, in photons."""
    return LOSSES[name](counts, expected, mask)


def ground_truth_error(canvas: Tensor, truth: Tensor, light: Tensor) -> Tensor:
    """``min_phi sum D |O e^(i phi) - T|^2 / sum D |T|^2`` of each group, ``(B,)``: only the phase offset is free.

    Args:
        canvas: ``(B, N, N)``.
        truth: ``(B, N, N)``.
        light: D, the group's illumination, ``(B, N, N)``.
    """
    overlap = _modulus((light * canvas.conj() * truth).sum((-2, -1)))
    power = (light * (intensity(canvas) + intensity(truth))).sum((-2, -1))
    return (power - 2 * overlap) / (light * intensity(truth)).sum((-2, -1)).clamp_min(1e-12)


def patch_error(canvas: Tensor, truth: Tensor, light: Tensor) -> Tensor:
    """``1 - |<D O, T>|^2 / (<D|O|^2> <D|T|^2>)`` of each group, ``(B,)``: blind to any complex scale."""
    overlap = intensity((light * canvas.conj() * truth).sum((-2, -1)))
    return 1 - overlap / ((light * intensity(canvas)).sum((-2, -1)) * (light * intensity(truth)).sum((-2, -1)))


def scale_free_error(counts: Tensor, expected: Tensor, mask: Tensor | None) -> Tensor:
    """Amplitude error of each group under its best scalar, ``(B,)``: ``min_a sum (a A - A_0)^2 / sum A_0^2``."""
    amplitude, measured = expected.clamp_min(1e-12).sqrt(), counts.sqrt()
    if mask is not None:
        amplitude, measured = amplitude * mask, measured * mask
    dims = (-3, -2, -1)
    product, power = (amplitude * measured).sum(dims), amplitude.square().sum(dims)
    return 1 - product.square() / (power * measured.square().sum(dims)).clamp_min(1e-12)


def supervised_loss(truth_errors: Tensor | None, amplitude_errors: Tensor | None, labelled: Tensor) -> Tensor:
    """Mean over groups of the error against the truth where there is one, else of the scale-free amplitude error."""
    if truth_errors is None:
        return amplitude_errors.mean()
    if amplitude_errors is None:
        return truth_errors.mean()
    return torch.where(labelled, truth_errors, amplitude_errors).mean()


def _modulus(value: Tensor) -> Tensor:
    """``|value|`` with a finite gradient at zero."""
    return (intensity(value) + 1e-20).sqrt()
