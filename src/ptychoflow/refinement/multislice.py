"""Refinement of a thick sample: the engine whose object has several slices along the beam."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..config import Refinement
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..physics.kernels.pie import (
    add_windows_,
    object_update_terms,
    position_normal_equations,
    rpie_object_updates_,
    take_windows,
)
from ..physics.multislice import projection, propagate_slice, slice_transfer, step_back, transmit
from ..runtime.distributed import DistributedContext
from .engine import ROWS_AT_ONCE, EpochStats, RefinedVariables, RefinementEngine
from .initial_guess import InitialGuess
from .position_correction import solve_position_equations
from .slice_constraints import beyond_cone, centring_steps, move_slices
from .slice_spacing import SpacingFit

COMMON_STEP = 3.0
"""Greatest sum over the slices of their steps, relative to the full rPIE step: each corrects the same residual."""
MOMENTUM_EPOCHS = 2, 0.8
"""Epochs without momentum after the object is divided, and the fraction of all epochs after which it ends."""


def make_engine(
    scan: Scan, settings: Refinement, start: Reconstruction | None, ctx: DistributedContext
) -> RefinementEngine:
    """Make the engine of a refinement, for a thin or a thick sample as the settings say.

    Raises:
        ValueError: if the scan holds no photon, or the start does not suit scan and settings.
        OSError: if memory does not hold the object.
    """
    kind = MultisliceEngine if settings.slices > 1 else RefinementEngine
    return kind(scan, settings, start, ctx)


class MultisliceEngine(RefinementEngine):
    """The rPIE updates through the slices of a thick sample, by the exact adjoint of the multislice forward model.

    Args:
        scan: counts, positions, probe and mask; its probe is that on the first slice.
        settings: number of slices, their spacing, and all else.
        start: a reconstruction to start from. A thin one comes to lie in the middle of the slices, at its own distance
            from its probe; a uniform object and the scan's probe without it.
        ctx: device, and the processes that share each batch.

    Attributes:
        slices: O_s, complex, ``(S, H, W)``; ``object`` is their product at the end of each epoch.
        spacing_m: distance between slices, m.

    Raises:
        ValueError: if no spacing is given, the scan holds no photon, or the start does not suit the scan.
        OSError: if memory does not hold the object.
    """

    def __init__(
        self,
        scan: Scan,
        settings: Refinement,
        start: Reconstruction | None = None,
        ctx: DistributedContext = DistributedContext(),
    ) -> None:
        spacing_m = settings.slice_spacing_m or (0.0 if start is None else start.slice_spacing_m)
        if not spacing_m > 0:
            raise ValueError(
                f"refinement.slices is {settings.slices}, but nothing says how far they are apart: set "
                "refinement.slice_spacing_m"
            )
        if scan.geometry.near_field:
            raise ValueError(f"{scan.name} is a near-field scan, slices are those of far-field scans: set slices: 1")
        self._ctx, self._geometry, self._middle = ctx, scan.geometry, (settings.slices - 1) // 2
        self._thin_start = start is not None and start.slices is None
        self._divided = (settings.slice_start_epoch or 1) == 1
        self._set_spacing(spacing_m, scan.size)
        super().__init__(scan, settings, start, ctx)

    def _set_up(self, guess: InitialGuess, scan: Scan) -> None:
        count = self.settings.slices
        if guess.slices is None:
            self.slices = torch.ones(count, *guess.object.shape, dtype=torch.complex64)
            self.slices[self._middle] = guess.object
        else:
            self.slices, self._divided = guess.slices.clone(), True
        self.slices = self.slices.to(self._ctx.device)
        self._velocity, self._epochs_divided = torch.zeros_like(self.slices), 0
        self._fit = SpacingFit(self.size, self._geometry, self._ctx)
        super()._set_up(guess, scan)
        if self._thin_start:  # the probe of a thin sample is that on it
            back = self._transfer_over(-self._middle)
            self._change_probe(lambda modes: propagate_slice(modes, back))

    def epoch(
        self,
        refined: RefinedVariables = RefinedVariables(slices=True),
        progress: float = 0.0,
        with_low_order_phase: bool = False,
    ) -> EpochStats:
        """Update the slices, and what else is refined, once by every pattern: see the engine of thin samples."""
        if refined.slices and not self._divided:
            self._divided, self._shifted_probes = True, None
        self._fit.begin_epoch(refined.slice_spacing and self._divided)
        self._epochs_divided += self._divided
        accelerated = MOMENTUM_EPOCHS[0] < self._epochs_divided and progress < MOMENTUM_EPOCHS[1]
        self._before = self.slices.clone() if accelerated and self.settings.slice_momentum else None
        return super().epoch(refined, progress, with_low_order_phase)

    def preconditioned_gradient(self) -> Tensor:
        """Refuse: nothing that uses the gradient of a thin object acts on slices."""
        raise NotImplementedError("slices have no gradient of a thin object")

    def slice_arrays(self) -> dict[str, np.ndarray | float]:
        """Return slices and their spacing, m, as fields of a reconstruction."""
        return {"slices": self.slices.cpu().numpy(), "slice_spacing_m": self.spacing_m}

    def state(self) -> dict[str, Tensor]:
        """Return everything that changes, for :meth:`resume`."""
        return super().state() | {
            "slices": self.slices.clone(),
            "slice_velocity": self._velocity.clone(),
            "epochs_divided": torch.tensor([self._divided, self._epochs_divided]),
            "slice_spacing_m": torch.tensor(self.spacing_m, dtype=torch.float64),
        }

    def resume(self, state: dict[str, Tensor]) -> None:
        """Resume from a :meth:`state`."""
        self.slices = state["slices"].to(self._ctx.device, copy=True)
        self._velocity = state["slice_velocity"].to(self._ctx.device, copy=True)
        divided, self._epochs_divided = state["epochs_divided"].tolist()
        self._divided = bool(divided)
        self._set_spacing(float(state["slice_spacing_m"]), self.size)
        super().resume(state)

    # --- the rPIE updates ---

    def _forward(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Compute the forward model of a batch.

        Returns:
            Waves on each slice ``(S, b, M, N, N)``, slices under each pattern ``(S, b, N, N)``, exit waves on the
            detector ``(b, M, N, N)``, their modulus and the amplitude residual, 0 where masked
            or held out, ``(b, N, N)``.
        """
        first = self._first_pixels[batch]
        windows = torch.stack([take_windows(image, first, self.size) for image in self._present()])
        incident, exit_waves = transmit(self._probes(batch), windows, self._transfer)
        return incident, windows, *self._on_detector(batch, exit_waves)

    def _update_from(
        self,
        batch: Tensor,
        refined: RefinedVariables,
        probe_step: Tensor | None,
        probes: Tensor,
        windows: Tensor,
        exit_wave_updates: Tensor,
    ) -> None:
        """Update slices, probe, positions and spacing from the exit-wave updates of a batch, last slice first."""
        steps = self._object_steps[batch] * min(1.0, COMMON_STEP / len(windows))
        terms = []
        for number in reversed(range(len(windows))):
            terms.append(object_update_terms(probes[number], exit_wave_updates))
            if number > 0:
                self._fit.accumulate(probes[number], windows[number], exit_wave_updates)
                exit_wave_updates = step_back(exit_wave_updates, windows[number], self._transfer)
        terms.reverse()
        if probe_step is not None:
            self._update_probe(batch, windows[0][:, None], exit_wave_updates, probe_step)
        if refined.positions:
            self._subpixel_shifts[batch] += _position_steps(terms, windows).double()
        for image, window, (numerator, intensity) in zip(self._present(), windows, terms, strict=True):
            updates = rpie_object_updates_(numerator, intensity, steps, self._alpha)
            self._update_slice(image, batch, self._damp_amplitude_step(updates, window))

    def _update_slice(self, image: Tensor, batch: Tensor, updates: Tensor) -> None:
        """Add the update under each pattern, of all ranks together, to a slice in place."""
        if self._ctx.world_size == 1:
            add_windows_(image, self._first_pixels[batch], updates)
            return
        total = torch.zeros_like(image)
        add_windows_(total, self._first_pixels[batch], updates)
        image += self._ctx.sum(total)

    def _present(self) -> Tensor:
        """Return the slices that the object has in this epoch."""
        return self.slices if self._divided else self.slices[self._middle : self._middle + 1]

    # --- between epochs ---

    def _add_phase(self, phase: np.ndarray) -> None:
        """Add a phase, rad, ``(H, W)``, to the object: an equal part to each slice."""
        present = self._present()
        for first in range(0, len(phase), ROWS_AT_ONCE):
            band = slice(first, first + ROWS_AT_ONCE)
            present[:, band] *= self._to_device(np.exp(1j / len(present) * phase[band]).astype(np.complex64))

    def _remove_ambiguities(self, refined: RefinedVariables) -> None:
        if (spacing_m := self._fit.end_epoch(self.spacing_m, len(self.slices) - 1)) != self.spacing_m:
            self._set_spacing(spacing_m, self.size)
        super()._remove_ambiguities(refined)
        if self._before is not None:
            change = beyond_cone(self.slices - self._before, self.spacing_m, self._geometry)
            self._velocity = self.settings.slice_momentum * self._velocity + change
            self.slices += self.settings.slice_momentum * self._velocity
        self.object = projection(self._present())

    def _constrain(self) -> None:
        super()._constrain()
        settings = self.settings.constraints
        if self._divided and settings.slice_regularisation:
            outside = beyond_cone(self.slices, self.spacing_m, self._geometry)
            self.slices -= settings.slice_regularisation * outside
        if self._divided and settings.slice_centring:
            steps = centring_steps(self.slices, self._illumination, settings.slice_centring)
            self.slices, self._velocity = move_slices(self.slices, steps), torch.zeros_like(self.slices)
            if steps:  # the wave on the first slice that becomes the same wave on the sample
                back = self._transfer_over(-steps)
                self._change_probe(lambda modes: propagate_slice(modes, back))
        self.object = projection(self._present())

    def _change_object(self, change: Callable[[Tensor], Tensor], divisor: Tensor) -> None:
        """Apply a change to each slice, and divide their product."""
        present = self._present()
        root = divisor ** (1 / len(present))
        for image in present:
            image.copy_(change(image) / root)

    # --- propagation ---

    def _probe_transfer(self, batch: Tensor) -> Tensor:
        """Return the factor on the spectrum of the probe that shifts it to each pattern, on the first slice present."""
        ramps = super()._probe_transfer(batch)
        return ramps if self._divided or self._middle == 0 else ramps * self._to_middle

    def _set_spacing(self, spacing_m: float, size: int) -> None:
        self.spacing_m, self.size = spacing_m, size
        self._transfer, self._to_middle = self._transfer_over(1), self._transfer_over(self._middle)

    def _transfer_over(self, gaps: int) -> Tensor:
        """Return the transfer function over that many gaps between slices, ``(N, N)``."""
        lengths = self._geometry.pixel_size_m, self._geometry.wavelength_m
        return slice_transfer(self.size, *lengths, self.spacing_m, gaps).to(self._ctx.device, torch.complex64)


def _position_steps(terms: list[tuple[Tensor, Tensor]], windows: Tensor) -> Tensor:
    """Compute a Gauss-Newton step of each position: the gradient by all slices, the matrix of their product.

    Args:
        terms: numerator and probe intensity of each slice.
        windows: slices under each pattern, ``(S, b, N, N)``.

    Returns:
        Steps ``(y, x)``, px, ``(b, 2)``.
    """
    of_slices = [
        position_normal_equations(intensity, window, numerator)
        for window, (numerator, intensity) in zip(windows, terms, strict=True)
    ]
    if len(windows) == 1:
        return solve_position_equations(of_slices[0])
    equations = position_normal_equations(terms[0][1], projection(windows), terms[0][0])
    equations[..., 2] = torch.stack([part[..., 2] for part in of_slices]).sum(0)
    return solve_position_equations(equations)
