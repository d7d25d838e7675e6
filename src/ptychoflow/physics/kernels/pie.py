"""What a fit asks of a batch of patterns beside their Fourier transforms, at the speed of a core's cache.

On a CPU by loops in C, where a compiler is found; else, and on other devices, by torch. Without gradients.
"""

import ctypes
import functools

import torch
from torch import Tensor

from ..forward_model import total_intensity
from ..patches import window_pixels
from .build import call, compiled

LEAST = 1e-12
"""Least expected counts: below them a modulus has no direction."""
SOURCE = "pie.c"


def loops_for(values: Tensor) -> ctypes.CDLL | None:
    """The loops in C for numbers like these, where there are any."""
    return compiled(SOURCE, values.real.dtype) if values.device.type == "cpu" else None


def take_windows(image: Tensor, first: Tensor, size: int) -> Tensor:
    """Cut whole-pixel windows out of an image, ``(b, size, size)``.

    Args:
        image: real or complex, ``(H, W)``.
        first: pixel that each window begins with, counted along the image's rows, int64, ``(b,)``; all lie inside.
        size: side of a window, px.
    """
    windows = image.new_empty(len(first), size, size)
    if (loop := loops_for(image)) is not None:
        call(loop.take, image.shape[1], len(first), size, _parts(image), image, first.contiguous(), windows)
        return windows
    # not by indexing, which takes three times as long
    return image.view(-1).index_select(0, _pixels(image, first, size)).view_as(windows)


def add_windows_(image: Tensor, first: Tensor, windows: Tensor) -> None:
    """Add windows ``(b, size, size)`` to an image where :func:`take_windows` cuts them: its adjoint.

    On CUDA the order of the sums, and so the last bit, is fixed only under ``torch.use_deterministic_algorithms``.
    """
    size = windows.shape[-1]
    if (loop := loops_for(image)) is not None:
        call(loop.add, image.shape[1], len(first), size, _parts(image), image, first.contiguous(), _plain(windows))
        return
    image.view(-1).index_add_(0, _pixels(image, first, size), windows.flatten())


def modulus_and_residual(waves: Tensor, amplitude: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """``sqrt(sum_m |wave_m|^2)`` and what the measured amplitude has more than that, ``(b, N, N)`` each.

    Args:
        waves: modes on the detector, ``(b, M, N, N)``.
        amplitude: square roots of the counts of every pattern, ``(J, N, N)``.
        rows: which of them belong to the waves, int64, ``(b,)``.
    """
    if (loop := loops_for(waves)) is not None:
        modulus, miss = (amplitude.new_empty(len(rows), *amplitude.shape[1:]) for _ in range(2))
        sizes = (*waves.shape[:2], modulus.shape[1:].numel())
        call(loop.misses, *sizes, LEAST, rows.contiguous(), _plain(waves), amplitude, modulus, miss)
        return modulus, miss
    modulus = total_intensity(waves).clamp_min_(LEAST).sqrt_()
    return modulus, amplitude[rows] - modulus


def exit_wave_update_(waves: Tensor, modulus: Tensor, miss: Tensor) -> Tensor:
    """The change of waves ``(b, M, N, N)`` that gives the measured amplitude: ``wave miss / modulus``; in place."""
    if (loop := loops_for(waves)) is not None and waves.is_contiguous():
        call(loop.change, *waves.shape[:2], modulus.shape[1:].numel(), modulus, miss, waves)
        return waves
    return waves.mul_((miss / modulus)[:, None])


def rpie_object_updates_(pull: Tensor, light: Tensor, rates: Tensor, alpha: float) -> Tensor:
    """Steps of the object along its pull, ``rate pull / ((1 - alpha) light + alpha max(light))``, in place.

    rPIE: Maiden et al. 2017, Optica 4, 736, eq. 18.

    Args:
        pull: as :func:`object_update_terms` has it, ``(b, N, N)``.
        light: likewise.
        rates: step of each pattern, ``(b,)``.
        alpha: how much of the brightest pixel's light the dim ones are damped by.
    """
    if (loop := loops_for(pull)) is not None:
        call(loop.steps, len(pull), light.shape[1:].numel(), alpha, rates, light, pull)
        return pull
    return pull.mul_(rates[:, None, None] / torch.lerp(light, light.amax((1, 2), keepdim=True), alpha))


def object_update_terms(probes: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
    """``sum_m conj(P_m) change_m`` and ``sum_m |P_m|^2`` of probes and changes ``(b, M, N, N)``, ``(b, N, N)`` each."""
    if (loop := loops_for(probes)) is not None:
        pull = probes.new_empty(len(probes), *probes.shape[2:])
        light = torch.empty_like(pull, dtype=pull.real.dtype)
        sizes = (*probes.shape[:2], light.shape[1:].numel())
        call(loop.pulls, *sizes, _plain(probes), _plain(changes), pull, light)
        return pull, light
    return (probes.conj() * changes).sum(1), total_intensity(probes)


def position_normal_equations(light: Tensor, windows: Tensor, pull: Tensor) -> Tensor:
    """Normal equations of the motion of windows that their pull asks for: matrix and right-hand side, ``(b, 2, 3)``.

    They are sums of ``light Re conj(d_i) d_j`` and ``Re conj(d_i) pull``, with central differences d of a window.

    Args:
        light: on each pixel, real, ``(b, N, N)``.
        windows: of the object, complex, ``(b, N, N)``.
        pull: complex, ``(b, N, N)``.
    """
    if (loop := loops_for(windows)) is not None:
        equations = light.new_empty(len(light), 2, 3)
        call(loop.motions, len(light), light.shape[-1], light, _plain(windows), _plain(pull), equations)
        return equations
    slopes = [(torch.view_as_real(windows.roll(-1, axis) - windows.roll(1, axis)) / 2).flatten(1) for axis in (-2, -1)]
    both, asked = light.flatten(1).repeat_interleave(2, 1), torch.view_as_real(pull).flatten(1)
    rows = [[(one * other).sum(1) for other in (*(both * slope for slope in slopes), asked)] for one in slopes]
    return torch.stack([torch.stack(row, -1) for row in rows], 1)


def _plain(values: Tensor) -> Tensor:
    """As they lie in memory, row after row."""
    return values.resolve_conj().contiguous()


def _parts(image: Tensor) -> int:
    return 2 if image.is_complex() else 1


def _pixels(image: Tensor, first: Tensor, size: int) -> Tensor:
    """Pixels under windows, counted along the image's rows, ``(b * size^2,)``."""
    return (first[:, None] + _window(size, image.shape[1], image.device)).flatten()


@functools.lru_cache(maxsize=16)
def _window(size: int, width: int, device: torch.device) -> Tensor:
    return window_pixels(size, width).to(device)
