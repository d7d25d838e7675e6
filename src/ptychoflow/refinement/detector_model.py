"""Detector model of a refinement: expected amplitudes with background and point spread, and the fit of both."""

import numpy as np
import torch
from torch import Tensor

from ..config import Refinement
from ..core.instrument import Instrument
from ..core.scan import Scan
from ..physics.detector_response import point_spread_matrix, spread_counts
from ..physics.forward_model import total_intensity
from ..physics.kernels.pie import MIN_COUNTS, exit_wave_update_, modulus_and_residual
from ..physics.propagation import to_corner
from ..runtime.distributed import DistributedContext

FIRST_SPREAD_PX = 0.5
"""Width with which the fit of the point spread begins where none is known, px: at 0 it has no slope."""
MAX_SPREAD_PX, MAX_SPREAD_STEP_PX = 8.0, 0.2
"""Greatest fitted width, and its greatest change in an epoch, px."""
SPREAD_DIFFERENCE_PX = 0.01
"""Difference of two widths by which the slope of the expected counts is computed, px."""


def check_background_has_mask(settings: Refinement, scan: Scan) -> None:
    """Raise an error if a background is to be fitted where nothing says which pixels are valid."""
    if scan.mask is None and settings.background_start_epoch is not None:
        raise ValueError(
            f"refinement.background_start_epoch fits valid detector pixels only, but {scan.name} has no mask: pack it "
            "with packing.bad_pixels, or remove the setting"
        )


class DetectorModel:
    """Detector between exit waves and counts: ``I = K (sum_m |Psi_m|^2) K + b``.

    Without background and point spread it is the modulus constraint of :mod:`ptychoflow.physics.kernels.pie`, to the
    last bit.

    Args:
        instrument: background and point spread to start from.
        mask: True where a detector pixel is valid, corner layout, ``(N, N)``; None where all are.
        size: side N of a pattern, px.
        ctx: device, and the ranks that share each batch.

    Attributes:
        background: counts b, corner layout, ``(N, N)``; None before it is fitted.
        point_spread_px: standard deviation of the point spread, px.
    """

    def __init__(self, instrument: Instrument, mask: Tensor | None, size: int, ctx: DistributedContext) -> None:
        self._mask, self._size, self._ctx = mask, size, ctx
        background = instrument.background
        self.background = None if background is None else to_corner(torch.from_numpy(background)).to(ctx.device)
        self.set_point_spread(instrument.point_spread_px)

    def set_point_spread(self, sigma_px: float) -> None:
        """Take a point spread of this standard deviation, px; 0 is none."""
        self.point_spread_px = sigma_px
        self._matrix = self._matrix_of(sigma_px) if sigma_px > 0 else None

    def instrument_terms(self) -> dict[str, np.ndarray | float | None]:
        """Return background, zero frequency at the centre, and point spread, as fields of an :class:`Instrument`."""
        background = self.background
        return {
            "background": None if background is None else torch.fft.fftshift(background).cpu().numpy(),
            "point_spread_px": self.point_spread_px,
        }

    # --- forward model and adjoint ---

    def modulus_and_residual(self, waves: Tensor, amplitude: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Compute expected amplitudes and the residual of the measured ones, 0 where masked, ``(b, N, N)`` each."""
        if self._matrix is None:
            modulus, residual = modulus_and_residual(waves, amplitude, rows, self.background)
        else:
            modulus = self._expected(total_intensity(waves), self._matrix).clamp_min_(MIN_COUNTS).sqrt_()
            residual = amplitude[rows] - modulus
        return modulus, residual if self._mask is None else residual.mul_(self._mask)

    def exit_wave_update_(self, waves: Tensor, modulus: Tensor, residual: Tensor) -> Tensor:
        """Compute the exit-wave update ``Psi K (residual / modulus) K``, in place.

        It is minus the gradient of ``sum (sqrt(n) - sqrt(I))^2`` by ``Psi*``; without point spread the modulus
        constraint.
        """
        if self._matrix is None:
            return exit_wave_update_(waves, modulus, residual)
        return waves.mul_(spread_counts(residual / modulus, self._matrix)[:, None])

    def scale_modulus_(self, modulus: Tensor, residual: Tensor, factor: Tensor) -> None:
        """Change expected amplitudes and residual, in place, to those of exit waves times a factor ``(b,)``.

        The background is not scaled.
        """
        factor = factor[:, None, None]
        change = (factor - 1) * modulus
        if self.background is not None:
            counts = factor.square() * (modulus.square() - self.background) + self.background
            change = counts.clamp_min_(MIN_COUNTS).sqrt_() - modulus
        residual -= change if self._mask is None else change * self._mask
        if self.background is None:
            modulus *= factor
        else:
            modulus += change

    def modulus_slope(self, modulus: Tensor) -> Tensor:
        """Return the derivative of expected amplitudes by the factor of :meth:`scale_modulus_` at 1, ``(b, N, N)``."""
        return modulus if self.background is None else modulus - self.background / modulus

    # --- fit ---

    def begin_epoch(self, background: bool, point_spread: bool) -> None:
        """Prepare the sums of an epoch for what it fits."""
        zeros = torch.zeros(self._size, self._size, device=self._ctx.device)
        self._background_sums = torch.stack([zeros, zeros]) if background else None
        if background and self.background is None:
            self.background = zeros
        if point_spread and self._matrix is None:
            self.set_point_spread(FIRST_SPREAD_PX)
        self._spread_sums = torch.zeros(2, dtype=torch.float64, device=self._ctx.device) if point_spread else None

    def accumulate(self, waves: Tensor, modulus: Tensor, residual: Tensor) -> None:
        """Add the equations of a batch for background and point spread."""
        if self._background_sums is not None:
            expected = modulus.square()
            weight = 1 / (expected + 1)  # variance of a count, never 0
            # n - I to first order: of amplitudes, as the object update. Their mean lies below the root of the mean
            # counts, and a background that followed the counts would take over what the object loses by that
            self._background_sums[0] += (2 * modulus * residual * weight).sum(0)
            self._background_sums[1] += weight.sum(0)
        if self._spread_sums is not None:
            wider = self._matrix_of(self.point_spread_px + SPREAD_DIFFERENCE_PX)
            expected = self._expected(total_intensity(waves), wider).clamp_min_(MIN_COUNTS)
            slope = (expected.sqrt() - modulus) / SPREAD_DIFFERENCE_PX
            slope = slope if self._mask is None else slope * self._mask
            self._spread_sums += torch.stack([(slope * residual).sum(), slope.square().sum()])

    def end_epoch(self) -> None:
        """Solve for background and point spread with the equations of the epoch."""
        if self._background_sums is not None:
            excess, weight = self._ctx.sum(self._background_sums)
            assert self.background is not None
            self.background = (self.background + excess / weight.clamp_min(1e-30)).clamp_min_(0)
        if self._spread_sums is not None:
            slope, curvature = self._ctx.sum(self._spread_sums).tolist()
            step = np.clip(slope / max(curvature, 1e-30), -MAX_SPREAD_STEP_PX, MAX_SPREAD_STEP_PX)
            self.set_point_spread(float(np.clip(self.point_spread_px + step, 0.1, MAX_SPREAD_PX)))

    def state(self) -> dict[str, Tensor]:
        """Return what changes, for :meth:`resume`."""
        spread = torch.tensor(self.point_spread_px, dtype=torch.float64)
        return {"point_spread_px": spread} | ({} if self.background is None else {"background": self.background})

    def resume(self, state: dict[str, Tensor]) -> None:
        """Resume from a :meth:`state`."""
        self.set_point_spread(float(state["point_spread_px"]))
        if "background" in state:
            self.background = state["background"].to(self._ctx.device)

    def _expected(self, total: Tensor, matrix: Tensor) -> Tensor:
        spread = spread_counts(total, matrix)
        return spread if self.background is None else spread.add_(self.background)

    def _matrix_of(self, sigma_px: float) -> Tensor:
        return point_spread_matrix(self._size, sigma_px, corner=True).to(self._ctx.device, torch.float32)
