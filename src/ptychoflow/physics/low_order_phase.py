"""The slowly varying phase that patterns ask for: what plain iteration is slowest to find, solved for at once.

A phase that is linear under the beam shifts its pattern. So the shift that each pattern still asks for is the slope of
the missing phase there, and a smooth phase with these slopes is a small sparse least-squares problem: one Gauss-Newton
step in the space of cubic B-splines. It is to iterative ptychography what a coarse grid is to multigrid.
"""

import math

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.linalg import spsolve
from torch import Tensor

from .kernels.build import call
from .kernels.pie import loops_for

RIDGE = 1e-3
"""Added to the normal equations, relative to their greatest diagonal. With less, what few patterns see fills with
noise: from a network's 31 dB the photograph fell to 29 dB in 8 epochs at 1e-6 and rose to 33.7 dB at 1e-3 and 1e-2."""


def phase_gradient_normal_equations(wave: Tensor, modulus: Tensor, miss: Tensor) -> Tensor:
    """How the amplitudes of patterns answer a slope of the object's phase, and the slope that they ask for.

    Args:
        wave: modes on the detector, zero frequency at the corner, ``(b, M, N, N)``.
        modulus: ``sqrt(sum_m |wave|^2)``, ``(b, N, N)``.
        miss: measured less expected amplitude, 0 where masked, ``(b, N, N)``.

    Returns:
        Normal equations of the slope in rad/px, ``(y, x)``: matrix and, in the last column, right-hand side,
        ``(b, 2, 3)``.
    """
    size = wave.shape[-1]
    # x from the window's centre is taken as sin(2 pi x / N) N / 2 pi: a difference of neighbours on the detector
    reach = size / (4 * math.pi)
    if (loop := loops_for(wave)) is not None:
        equations = miss.new_empty(len(miss), 2, 3)
        call(loop.tilts, *wave.shape[:2], size, reach, wave.contiguous(), modulus, miss, equations)
        return equations
    answers = torch.stack([_towards_next(wave, axis) for axis in (-2, -1)], dim=1) * (reach / modulus)[:, None]
    answers = answers.flatten(2)
    return answers @ torch.cat([answers, miss.flatten(1)[:, None]], 1).mT


def _towards_next(wave: Tensor, axis: int) -> Tensor:
    """``Re sum_m conj(wave) (next - last)`` along an axis, ``(b, N, N)``: each product serves twice."""
    parts = torch.view_as_real(wave)
    product = (parts * parts.roll(-1, axis - 1)).sum(1)
    product = product[..., 0] + product[..., 1]
    return product - product.roll(1, axis)


def smooth_phase(equations: np.ndarray, places: np.ndarray, shape: tuple[int, int], spacing: float) -> np.ndarray:
    """The smooth phase whose slopes fit the tilt equations best, rad, ``(H, W)``.

    Args:
        equations: matrix and right-hand side of each pattern, ``(J, 2, 3)``.
        places: where each pattern was taken, pixel ``(y, x)`` of the image, ``(J, 2)``.
        shape: of the image, px.
        spacing: of the knots, px.
    """
    rows, columns = (_spline(np.arange(length) / spacing) for length in shape)
    knots = rows.shape[1], columns.shape[1]
    slopes = _slopes(places / spacing, knots, spacing)
    normal = sum(slopes[i].T @ diags_array(equations[:, i, j]) @ slopes[j] for i in range(2) for j in range(2))
    side = sum(slopes[i].T @ equations[:, i, 2] for i in range(2))
    normal = normal + RIDGE * normal.diagonal().max() * eye_array(normal.shape[0])
    coefficients = spsolve(normal.tocsc(), side).reshape(knots)
    return rows @ coefficients @ columns.T


def _slopes(places: np.ndarray, knots: tuple[int, int], spacing: float) -> list[csr_array]:
    """From spline coefficients to the slopes ``(y, x)`` at each place, ``(J, knots)`` each, per px."""
    value = [_spline(places[:, axis], knots[axis]) for axis in (0, 1)]
    slope = [_spline(places[:, axis], knots[axis], derivative=True) / spacing for axis in (0, 1)]
    return [_products(slope[0], value[1]), _products(value[0], slope[1])]


def _products(rows: csr_array, columns: csr_array) -> csr_array:
    """Row by row the outer product of two sparse matrices with four entries a row, flattened."""
    index = rows.indices.reshape(-1, 4, 1) * columns.shape[1] + columns.indices.reshape(-1, 1, 4)
    data = rows.data.reshape(-1, 4, 1) * columns.data.reshape(-1, 1, 4)
    count = rows.shape[0]
    start = np.arange(0, 16 * count + 1, 16)
    return csr_array((data.ravel(), index.ravel(), start), (count, rows.shape[1] * columns.shape[1]))


def _spline(places: np.ndarray, knots: int | None = None, derivative: bool = False) -> csr_array:
    """Cubic B-splines, or their derivatives, at places in units of the knots' spacing, ``(J, knots)``."""
    first = np.floor(places).astype(np.int64)
    t = places - first
    if derivative:
        values = [-((1 - t) ** 2), 3 * t**2 - 4 * t, -3 * t**2 + 2 * t + 1, t**2]
        values = np.stack(values, axis=1) / 2
    else:
        values = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
        values = np.stack(values, axis=1) / 6
    knots = int(first.max()) + 4 if knots is None else knots
    index = first[:, None] + np.arange(4)
    return csr_array((values.ravel(), index.ravel(), np.arange(0, 4 * len(t) + 1, 4)), (len(t), knots))
