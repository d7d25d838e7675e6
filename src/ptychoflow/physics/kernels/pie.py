"""Updates of the regularised ptychographical iterative engine (rPIE) on a batch of patterns, without gradients.

Maiden, Johnson and Li 2017, Optica 4, 736. Per pattern, with the modes ``P_m`` of the probe, the object ``O`` under it
and the measured amplitude ``sqrt(counts)``:

1. exit waves on the detector, ``Psi_m = F[P_m O]``: :mod:`ptychoflow.physics.propagation`;
2. modulus constraint, ``Psi_m' = Psi_m sqrt(counts) / sqrt(sum_m |Psi_m|^2)``: :func:`modulus_and_residual` and
   :func:`exit_wave_update_`, which gives ``Psi_m' - Psi_m``; ``psi_m' - psi_m`` is its inverse transform;
3. object update, ``O += beta sum_m P_m* (psi_m' - psi_m) / ((1 - alpha) sum_m |P_m|^2 + alpha max sum_m |P_m|^2)``:
   :func:`object_update_terms` and :func:`rpie_object_updates_`;
4. probe update, the same with the roles of probe and object exchanged, averaged over the batch:
   :func:`rpie_probe_update`.

On a CPU by the C kernels in ``pie.c``, where a compiler is found; else, and on other devices, by torch.
"""

import ctypes
import functools

import numpy as np
import torch
from torch import Tensor

from ..forward_model import total_intensity
from ..patches import window_pixels
from ..propagation import to_corner
from .build import call, compiled

MIN_COUNTS = 1e-12
"""Least expected counts of a pixel: below them the modulus constraint has no direction."""
SOURCE = "pie.c"
COUNT_TYPES = {torch.uint8: "uint8", torch.uint16: "uint16", torch.uint32: "uint32", torch.float32: "float32"}
"""Names of the types of counts for which there is a kernel, by dtype."""


def kernels_for(values: Tensor) -> ctypes.CDLL | None:
    """Return the C kernels for the device and precision of ``values``; None where torch computes instead."""
    return compiled(SOURCE, values.real.dtype) if values.device.type == "cpu" else None


def corner_amplitudes(counts: Tensor) -> Tensor:
    """Compute the roots of counts, with the zero frequency moved from the centre to the corner.

    Correctly rounded in both implementations, as torch's root is not.

    Args:
        counts: as stored, on the CPU, ``(b, N, N)``.

    Returns:
        Amplitudes, float32, ``(b, N, N)``.
    """
    kernels = compiled(SOURCE, torch.float32) if counts.dtype in COUNT_TYPES else None
    if kernels is not None:
        amplitude = torch.empty(counts.shape)
        function = getattr(kernels, f"corner_amplitudes_{COUNT_TYPES[counts.dtype]}")
        call(function, len(counts), counts.shape[-1], counts.contiguous(), amplitude)
        return amplitude
    corner = to_corner(counts).numpy()
    return torch.from_numpy(np.sqrt(corner, out=corner))


def read_patterns(file: int, offset: int, pattern_bytes: int, rows: np.ndarray, patterns: np.ndarray) -> bool:
    """Read patterns from a file, without the interpreter between one and the next.

    Args:
        file: descriptor.
        offset: of the first pattern in the file, bytes.
        pattern_bytes: size of a pattern.
        rows: numbers of the patterns, int64, ``(b,)``.
        patterns: C-contiguous array to fill, ``(b, ...)``.

    Returns:
        True if all were read; False without kernels, or where the file is too short or fails.
    """
    kernels = compiled(SOURCE, torch.float32)
    if kernels is None or len(rows) == 0:
        return False
    numbers = torch.from_numpy(np.ascontiguousarray(rows, np.int64))
    target = torch.from_numpy(patterns.reshape(-1).view(np.uint8))
    return call(kernels.read_patterns, file, offset, pattern_bytes, len(rows), numbers, target) == len(rows)


def take_windows(image: Tensor, first: Tensor, size: int) -> Tensor:
    """Cut whole-pixel windows out of an image.

    Args:
        image: real or complex, ``(H, W)``.
        first: flat index of the first pixel of each window, int64, ``(b,)``. All windows must lie inside: not checked.
        size: side N of a window, px.

    Returns:
        Windows, ``(b, N, N)``.
    """
    windows = image.new_empty(len(first), size, size)
    if (kernels := kernels_for(image)) is not None:
        call(kernels.take_windows, image.shape[1], len(first), size, _parts(image), image, first.contiguous(), windows)
        return windows
    # not by indexing, which takes three times as long
    return image.view(-1).index_select(0, _pixels(image, first, size)).view_as(windows)


def add_windows_(image: Tensor, first: Tensor, windows: Tensor) -> None:
    """Add windows to an image where :func:`take_windows` cuts them, in place: its adjoint.

    On CUDA the order of the sums, and so the last bit, is fixed only under ``torch.use_deterministic_algorithms``.

    Args:
        image: real or complex, ``(H, W)``; changed in place.
        first: flat index of the first pixel of each window, int64, ``(b,)``.
        windows: of the dtype of ``image``, ``(b, N, N)``.
    """
    size = windows.shape[-1]
    if (kernels := kernels_for(image)) is not None:
        sizes = (image.shape[1], len(first), size, _parts(image))
        call(kernels.add_windows, *sizes, image, first.contiguous(), _contiguous(windows))
        return
    image.view(-1).index_add_(0, _pixels(image, first, size), windows.flatten())


def modulus_and_residual(
    waves: Tensor, amplitude: Tensor, rows: Tensor, background: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the expected amplitude ``sqrt(sum_m |Psi_m|^2 + background)`` and the measured amplitude less that.

    Args:
        waves: exit waves on the detector, ``Psi``, ``(b, M, N, N)``.
        amplitude: ``sqrt(counts)`` of every pattern of the scan, ``(J, N, N)``.
        rows: pattern of each wave, int64, ``(b,)``.
        background: counts added to every pattern, ``(N, N)``; None adds nothing.

    Returns:
        Modulus and amplitude residual, ``(b, N, N)`` each.
    """
    if (kernels := kernels_for(waves)) is not None:
        modulus, residual = (amplitude.new_empty(len(rows), *amplitude.shape[1:]) for _ in range(2))
        sizes = (*waves.shape[:2], modulus.shape[1:].numel())
        arrays = (rows.contiguous(), _contiguous(waves), amplitude, background, modulus, residual)
        call(kernels.modulus_and_residual, *sizes, MIN_COUNTS, *arrays)
        return modulus, residual
    modulus = total_intensity(waves)
    modulus = (modulus if background is None else modulus.add_(background)).clamp_min_(MIN_COUNTS).sqrt_()
    return modulus, amplitude[rows] - modulus


def exit_wave_update_(waves: Tensor, modulus: Tensor, residual: Tensor) -> Tensor:
    """Compute the exit-wave update of the modulus constraint, ``Psi' - Psi = Psi residual / modulus``, in place.

    Args:
        waves: exit waves on the detector, ``Psi``, ``(b, M, N, N)``; overwritten where they are contiguous.
        modulus: as :func:`modulus_and_residual` returns it, ``(b, N, N)``.
        residual: likewise, 0 where masked, ``(b, N, N)``.

    Returns:
        ``Psi' - Psi``, ``(b, M, N, N)``.
    """
    if (kernels := kernels_for(waves)) is not None and waves.is_contiguous():
        call(kernels.exit_wave_update, *waves.shape[:2], modulus.shape[1:].numel(), modulus, residual, waves)
        return waves
    return waves.mul_((residual / modulus)[:, None])


def object_update_terms(probes: Tensor, exit_wave_updates: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the numerator of the object update and the probe intensity that its denominator is made of.

    Args:
        probes: modes at the sub-pixel shift of each pattern, ``(b, M, N, N)``, sqrt(photons).
        exit_wave_updates: ``psi' - psi`` behind the sample, ``(b, M, N, N)``.

    Returns:
        Numerator ``sum_m P_m* (psi_m' - psi_m)``, complex, and probe intensity ``sum_m |P_m|^2``, ``(b, N, N)`` each.
    """
    if (kernels := kernels_for(probes)) is not None:
        numerator = probes.new_empty(len(probes), *probes.shape[2:])
        probe_intensity = torch.empty_like(numerator, dtype=numerator.real.dtype)
        sizes = (*probes.shape[:2], probe_intensity.shape[1:].numel())
        arrays = (_contiguous(probes), _contiguous(exit_wave_updates), numerator, probe_intensity)
        call(kernels.object_update_terms, *sizes, *arrays)
        return numerator, probe_intensity
    return (probes.conj() * exit_wave_updates).sum(1), total_intensity(probes)


def rpie_object_updates_(numerator: Tensor, probe_intensity: Tensor, step_sizes: Tensor, alpha: float) -> Tensor:
    """Compute the rPIE object update of each pattern, in place of its numerator.

    ``beta numerator / ((1 - alpha) sum_m |P_m|^2 + alpha max sum_m |P_m|^2)``.

    Args:
        numerator: as :func:`object_update_terms` returns it, ``(b, N, N)``; overwritten.
        probe_intensity: likewise, ``(b, N, N)``.
        step_sizes: ``beta`` of each pattern, ``(b,)``.
        alpha: regularisation, 0 (least squares) to 1 (ePIE).

    Returns:
        Update of the object under each pattern, ``(b, N, N)``.
    """
    if (kernels := kernels_for(numerator)) is not None:
        sizes = (len(numerator), probe_intensity.shape[1:].numel())
        call(kernels.rpie_object_updates, *sizes, alpha, step_sizes, probe_intensity, numerator)
        return numerator
    most = probe_intensity.amax((1, 2), keepdim=True)
    return numerator.mul_(step_sizes[:, None, None] / torch.lerp(probe_intensity, most, alpha))


def rpie_probe_update(numerator: Tensor, object_intensity: Tensor, step_size: float | Tensor, alpha: float) -> Tensor:
    """Compute the rPIE probe update: that of the object with the roles of the two exchanged, averaged over a batch.

    ``beta sum_j O_j* (psi_j' - psi_j) / ((1 - alpha) sum_j |O_j|^2 + alpha max sum_j |O_j|^2)``.

    Args:
        numerator: ``sum_j O_j* (psi_j' - psi_j)`` at the origin of the probe, ``(M, N, N)``.
        object_intensity: ``sum_j |O_j|^2`` over the patterns of the batch, ``(N, N)``.
        step_size: ``beta``.
        alpha: regularisation, 0 (least squares) to 1 (ePIE).

    Returns:
        Update of the modes, ``(M, N, N)``.
    """
    return step_size * numerator / torch.lerp(object_intensity, object_intensity.max(), alpha)


def position_normal_equations(probe_intensity: Tensor, windows: Tensor, numerator: Tensor) -> Tensor:
    """Compute the normal equations of the position update of each pattern.

    Sums over pixels of ``I Re(d_i* d_j)`` and ``Re(d_i* numerator)``, with the probe intensity ``I`` and central
    differences ``d`` of the object along ``y`` and ``x``.

    Args:
        probe_intensity: real, ``(b, N, N)``.
        windows: object under each pattern, complex, ``(b, N, N)``.
        numerator: of the object update, complex, ``(b, N, N)``.

    Returns:
        Matrix and, in the last column, right-hand side, ``(b, 2, 3)``.
    """
    if (kernels := kernels_for(windows)) is not None:
        equations = probe_intensity.new_empty(len(probe_intensity), 2, 3)
        sizes = (len(probe_intensity), probe_intensity.shape[-1])
        arrays = (probe_intensity, _contiguous(windows), _contiguous(numerator), equations)
        call(kernels.position_normal_equations, *sizes, *arrays)
        return equations
    derivatives = [
        (torch.view_as_real(windows.roll(-1, axis) - windows.roll(1, axis)) / 2).flatten(1) for axis in (-2, -1)
    ]
    weight = probe_intensity.flatten(1).repeat_interleave(2, 1)
    side = torch.view_as_real(numerator).flatten(1)
    columns = [*(weight * derivative for derivative in derivatives), side]
    rows = [torch.stack([(derivative * column).sum(1) for column in columns], -1) for derivative in derivatives]
    return torch.stack(rows, 1)


def _contiguous(values: Tensor) -> Tensor:
    """Return the values in row-major order without a pending conjugation, as the C kernels read them."""
    return values.resolve_conj().contiguous()


def _parts(image: Tensor) -> int:
    """Return the real numbers in a pixel: 2 for complex images."""
    return 2 if image.is_complex() else 1


def _pixels(image: Tensor, first: Tensor, size: int) -> Tensor:
    """Return the flat indices of the pixels of each window, ``(b * size^2,)``."""
    return (first[:, None] + _window(size, image.shape[1], image.device)).flatten()


@functools.lru_cache(maxsize=16)
def _window(size: int, width: int, device: torch.device) -> Tensor:
    return window_pixels(size, width).to(device)
