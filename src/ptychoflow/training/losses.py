"""The losses of training, group by group: canvases against the ground truth and against the counts."""

import torch
from torch import Tensor

from ..physics.data_fidelity import LOSSES
from ..physics.forward_model import expected_counts, intensity
from ..physics.propagation import FAR_FIELD, Propagator


def diffract(canvas: Tensor, probes: Tensor, propagate: Propagator = FAR_FIELD) -> Tensor:
    """Return the expected counts of each pattern, ``(B, C, N, N)``, zero frequency at the corner.

    Args:
        canvas: object under each group, ``(B, N, N)``.
        probes: modes shifted to each pattern, sqrt(photons), ``(B, C, M, N, N)``.
        propagate: from exit waves to the detector.
    """
    return expected_counts(canvas[:, None], probes, propagate=propagate)


def physics_loss(name: str, counts: Tensor, expected: Tensor, mask: Tensor | None) -> Tensor:
    """Return the data error of that name over the batch: absolute, in photons.

    Args:
        name: of the loss in ``LOSSES``.
        counts: measured photons, ``(B, C, N, N)``.
        expected: predicted photons, ``(B, C, N, N)``.
        mask: 1 for valid detector pixels; None where all are valid.
    """
    return LOSSES[name](counts, expected, mask)


def ground_truth_error(canvas: Tensor, truth: Tensor, illumination: Tensor) -> Tensor:
    """Return ``min_phi sum D |O e^(i phi) - T|^2 / sum D |T|^2`` of each group, ``(B,)``, free of the phase offset.

    Args:
        canvas: O, ``(B, N, N)``.
        truth: T, ``(B, N, N)``.
        illumination: D of the group, photons, ``(B, N, N)``.
    """
    overlap = _modulus((illumination * canvas.conj() * truth).sum((-2, -1)))
    power = (illumination * (intensity(canvas) + intensity(truth))).sum((-2, -1))
    return (power - 2 * overlap) / (illumination * intensity(truth)).sum((-2, -1)).clamp_min(1e-12)


def patch_error(canvas: Tensor, truth: Tensor, illumination: Tensor) -> Tensor:
    """Return ``1 - |<D O, T>|^2 / (<D|O|^2> <D|T|^2>)`` of each group, ``(B,)``: independent of any complex scale.

    Args:
        canvas: O, ``(B, N, N)``.
        truth: T, ``(B, N, N)``.
        illumination: D of the group, photons, ``(B, N, N)``.
    """
    overlap = intensity((illumination * canvas.conj() * truth).sum((-2, -1)))
    power = (illumination * intensity(canvas)).sum((-2, -1)) * (illumination * intensity(truth)).sum((-2, -1))
    return 1 - overlap / power


def scale_free_error(counts: Tensor, expected: Tensor, mask: Tensor | None) -> Tensor:
    """Return the amplitude error of each group at its best scale, ``(B,)``: ``min_a sum (a A - A_0)^2 / sum A_0^2``.

    Args:
        counts: measured photons A_0^2, ``(B, C, N, N)``.
        expected: predicted photons A^2, ``(B, C, N, N)``.
        mask: 1 for valid detector pixels; None where all are valid.
    """
    amplitude, measured = expected.clamp_min(1e-12).sqrt(), counts.sqrt()
    if mask is not None:
        amplitude, measured = amplitude * mask, measured * mask
    dims = (-3, -2, -1)
    product, power = (amplitude * measured).sum(dims), amplitude.square().sum(dims)
    return 1 - product.square() / (power * measured.square().sum(dims)).clamp_min(1e-12)


def supervised_loss(truth_errors: Tensor | None, amplitude_errors: Tensor | None, labelled: Tensor) -> Tensor:
    """Average over groups the error against the ground truth where there is one, else the scale-free amplitude error.

    Args:
        truth_errors: of each group, ``(B,)``; None where no group has a ground truth.
        amplitude_errors: of each group, ``(B,)``; None where every group has one.
        labelled: True for groups with a ground truth, ``(B,)``.

    Raises:
        ValueError: if neither error is given.
    """
    if truth_errors is None:
        if amplitude_errors is None:
            raise ValueError("supervised_loss needs truth_errors or amplitude_errors, got neither: compute one")
        return amplitude_errors.mean()
    if amplitude_errors is None:
        return truth_errors.mean()
    return torch.where(labelled, truth_errors, amplitude_errors).mean()


def _modulus(value: Tensor) -> Tensor:
    """Return ``|value|`` with a finite gradient at zero."""
    return (intensity(value) + 1e-20).sqrt()
