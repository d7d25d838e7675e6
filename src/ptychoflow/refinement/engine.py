"""Refinement engine: object, probe, positions and intensity scale of a scan, updated by rPIE to explain its counts."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Refinement
from ..core.arrays import as_tensor
from ..core.instrument import Instrument
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..physics.forward_model import fourier_ramp, in_detector_frame, intensity, total_intensity
from ..physics.kernels.pie import (
    add_windows_,
    object_update_terms,
    rpie_object_updates_,
    rpie_probe_update,
    take_windows,
)
from ..physics.low_order_phase import low_order_phase, phase_gradient_normal_equations
from ..physics.patches import split_positions
from ..physics.probe_modes import orthogonalise_modes, rms_radius
from ..physics.propagation import far_field_corner, far_field_corner_inverse, propagator_of, to_corner
from ..runtime.distributed import DistributedContext
from .batch_overlap import gain_autocorrelation, overlap_in_batches
from .constraints import ConstraintContext, centring_shift, constrain_object, constrain_probe, power_factor
from .detector_model import DetectorModel, check_background_has_mask
from .held_out import HeldOutPixels
from .initial_guess import InitialGuess, check_settings_act, make_initial_guess
from .measured_amplitudes import MeasuredAmplitudes
from .position_correction import position_updates
from .probe_relaxation import make_relaxation

logger = logging.getLogger(__name__)

BATCH = 16
"""Patterns computed at a time where their order does not matter."""
CACHE = 1 << 29
"""Most bytes of shifted probes to keep, one for every pattern."""
ROWS_AT_ONCE = 512
"""Rows of the object whose low-order phase is applied at once."""
KNOT_SPACING = 4.0
"""Spacing of the knots of the low-order phase, in rms radii of the probe; finer phase is left to the object update."""
COVERAGE_THRESHOLD = 0.1
"""Least illumination of a covered pixel, relative to the median over the illuminated pixels."""
GRADIENT_DAMPING = 0.05
"""Illumination that is added where the gradient is divided by it, relative to the greatest."""
ISOLATED = 0.01
"""Overlap multiplicity below which a pattern is isolated."""
MAX_BATCH_STEP = 1.5
"""Greatest object step of a batch where its patterns overlap, relative to the full rPIE step: twice that overshoots."""
MAX_PROBE_STEP = 3.0
"""Greatest probe step of a batch times the overlap of its patterns: where they see the same part of the object, object
and probe correct the same residual, and two full steps together overshoot."""
LOW_COUNT_FRACTION = 0.01
"""Counts of a low-count pattern, relative to the median over the scan."""


@dataclass(frozen=True)
class RefinedVariables:
    """Variables that an epoch updates beside the object.

    Attributes:
        probe: the modes of the probe.
        positions: the position of each pattern.
        probe_scale: the amplitude of the probe at each pattern.
        probe_variations: variation modes of the probe, and their weights at each pattern.
        background: counts added to every pattern.
        point_spread: width of the detector's point spread.
        slices: True where the object has all its slices.
        slice_spacing: distance between slices.
        constraints: True where constraints act on object and probe at the end of the epoch.
    """

    probe: bool = False
    positions: bool = False
    probe_scale: bool = False
    probe_variations: bool = False
    background: bool = False
    point_spread: bool = False
    slices: bool = False
    slice_spacing: bool = False
    constraints: bool = False

    @classmethod
    def in_epoch(cls, epoch: int, settings: Refinement) -> "RefinedVariables":
        """Return the variables that the settings refine in this epoch, counted from 1."""
        starts = settings.start_epochs.items()
        return cls(**{name: start is not None and epoch >= start for name, start in starts})


@dataclass(frozen=True)
class EpochStats:
    """Statistics of an epoch.

    Attributes:
        error: R-factor, each pattern's residual taken before its own update.
        phase_change: change of the object's phase, rms weighted by illumination, rad.
        held_out: R-factor of the held-out pixels; None where none are held out.
    """

    error: float
    phase_change: float
    held_out: float | None = None


class RefinementEngine:
    """Object, probe, positions and intensity scale of a scan, with the rPIE updates that refine them.

    Maiden, Johnson and Li 2017, Optica 4, 736; the updates are functions of :mod:`ptychoflow.physics.kernels.pie`.

    Args:
        scan: counts, positions, probe and mask.
        settings: step sizes, regularisation, variables to refine.
        start: a reconstruction to start from; a uniform object and the scan's probe without it.
        ctx: device, and the processes that share each batch: all are given the same scan, settings and start.

    Attributes:
        object: O, complex, ``(H, W)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        probe: modes P_m, sqrt(photons), ``(M, N, N)``.
        positions: px, float64, ``(J, 2)``.
        probe_scale: amplitude of the probe at each pattern relative to ``probe``, ``(J,)``.
        intensity_is_constant: True where ``probe_scale`` is 1 for all patterns and stays so.
        detector: background and point spread.
        propagate: from exit waves to the detector, and its adjoint.
        relaxation: variations of the probe; None where it is the same at every pattern.
        isolated_patterns: number of patterns that overlap no other.
        low_count_patterns: indices of patterns with less than 1 % of the median counts.
        epoch_start: :meth:`state` before the last epoch that began; None before the first.

    Raises:
        ValueError: if the scan holds no photon, or the start does not suit the scan.
        OSError: if memory does not hold the object.
    """

    def __init__(
        self,
        scan: Scan,
        settings: Refinement,
        start: Reconstruction | None = None,
        ctx: DistributedContext = DistributedContext(),
    ) -> None:
        self.settings, self.size, self._ctx = settings, scan.size, ctx
        self.propagate = propagator_of(scan.geometry, scan.size).to(ctx.device)
        self._shifted_probes: Tensor | None
        self._subpixel_shifts: Tensor
        self._whole_pixels: Tensor
        self._mask = None if scan.mask is None else to_corner(as_tensor(np.ascontiguousarray(scan.mask))).to(ctx.device)
        check_background_has_mask(settings, scan)
        check_settings_act(settings, scan)
        self._set_up(make_initial_guess(scan, settings, start), scan)
        self._probe_photons = intensity(self.probe).sum()
        self._amplitudes = MeasuredAmplitudes(scan.counts, ctx.device)
        pattern_photons = self._amplitudes.photons(self._mask)
        self._total_photons = float(pattern_photons.sum())
        self.low_count_patterns = _low_count_patterns(pattern_photons)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._held_out: HeldOutPixels | None = None
        self.epoch_start: dict[str, Tensor] | None = None
        if self._total_photons == 0:
            raise ValueError(f"{scan.name} holds no photon where its mask is True: correct the mask")
        self._cache_shifted_probes(RefinedVariables())
        self._illumination = self.illumination()
        self.isolated_patterns = int((self._find_overlap() < ISOLATED).sum())
        self._gain_autocorrelation = self._correlate_gain()

    def warn(self, name: str) -> None:
        """Log what makes the refinement of a scan of that name doubtful: isolated and low-count patterns."""
        if self.isolated_patterns and len(self) > 1:
            logger.warning(
                "%d of %d patterns of %s do not overlap any other pattern: their relative position in the object is "
                "undetermined. Check positions and unit",
                *(self.isolated_patterns, len(self), name),
            )
        if len(self.low_count_patterns):
            logger.warning(
                "%d of %d patterns of %s have < 1 %% of the median counts, the first is number %d: exclude lost or "
                "shuttered frames",
                *(len(self.low_count_patterns), len(self), name, self.low_count_patterns[0]),
            )

    def _set_up(self, guess: InitialGuess, scan: Scan) -> None:
        self.origin = guess.origin
        self.object, self.probe = guess.object.to(self._ctx.device), guess.probe.to(self._ctx.device)
        self.positions, self.probe_scale = self._to_device(guess.positions), self._to_device(guess.probe_scale)
        self.intensity_is_constant = self.settings.intensity_start_epoch is None and bool((self.probe_scale == 1).all())
        self.detector = DetectorModel(guess.instrument, self._mask, self.size, self._ctx)
        self.relaxation = make_relaxation(self.settings, guess.instrument, len(scan), self.size, self._ctx)
        self._recorded, self._origin = self._to_device(scan.positions), self._to_device(np.array(guess.origin))
        self._update_windows()

    @property
    def far_field(self) -> bool:
        """True where patterns are of the far field."""
        return self.propagate.transfer is None

    def __len__(self) -> int:
        """Return the number of patterns J."""
        return len(self.positions)

    def hold_out_pixels(self) -> None:
        """Keep some pixels of each pattern from all updates that follow."""
        self._held_out = HeldOutPixels(self._mask, self.size, self.settings.seed, self._ctx)

    def held_out_error(self) -> float:
        """Compute the R-factor of the held-out pixels of all patterns under the object as it is now, without updates.

        It takes the forward model of each pattern, about half the time of an epoch.
        """
        assert self._held_out is not None, "call hold_out_pixels first"
        self._held_out.begin()
        for batch in self._amplitudes.ahead(map(self._ctx.local_shard, self._batches())):
            self._forward(batch)
        squares, photons = self._held_out.end()
        return squares / max(photons, 1e-30)

    def epoch(
        self,
        refined: RefinedVariables = RefinedVariables(),
        progress: float = 0.0,
        with_low_order_phase: bool = False,
    ) -> EpochStats:
        """Update the object, and what else is refined, once by every pattern, in random order.

        Args:
            refined: variables to update beside the object.
            progress: fraction of the refinement that is done, 0 to 1: it anneals step size and alpha from their first
                to their last values.
            with_low_order_phase: solve at the end for the low-order phase, with the equations met on the way.

        Returns:
            R-factor and phase change.
        """
        self._step_size = _anneal(self.settings.step_size, progress)
        self._alpha = _anneal(self.settings.alpha, progress)
        self._cache_shifted_probes(refined)
        before, shifts, probe_scale = self.object.clone(), self._subpixel_shifts.clone(), self.probe_scale.clone()
        self.epoch_start = self.state() | {"object": before, "probe_scale": probe_scale}
        error = torch.zeros((), dtype=torch.float64, device=self._ctx.device)
        order = torch.randperm(len(self), generator=self._generator).to(self._ctx.device)
        batches = order.split(self.settings.batch_size)
        probe_steps = self._set_step_sizes(order, batches, refined)
        solve_phase = with_low_order_phase and self.far_field
        self._phase_equations = torch.zeros(len(self), 2, 3, device=self._ctx.device) if solve_phase else None
        self.detector.begin_epoch(refined.background, refined.point_spread)
        if self._held_out is not None:
            self._held_out.begin()
        if self.relaxation is not None:
            self.relaxation.begin_epoch(refined.probe_variations)
        shards = self._amplitudes.ahead(map(self._ctx.local_shard, batches))
        for batch, probe_step in zip(shards, probe_steps, strict=True):
            error += self._update(batch, refined, probe_step)
        if self._ctx.world_size > 1:  # each rank updated its own patterns only
            self._subpixel_shifts = shifts + self._ctx.sum(self._subpixel_shifts - shifts)
            self.probe_scale = probe_scale + self._ctx.sum(self.probe_scale - probe_scale)
        if self._phase_equations is not None:
            self._add_low_order_phase(self._ctx.sum(self._phase_equations))
        self.detector.end_epoch()
        if self.relaxation is not None:
            self.relaxation.end_epoch(self.probe)
        self._remove_ambiguities(refined)
        if refined.constraints:
            self._constrain()
        return self._stats(float(self._ctx.sum(error)), before)

    def _stats(self, error: float, before: Tensor) -> EpochStats:
        """Return the statistics of an epoch from its summed square residual, photons, and the object before it."""
        if self._held_out is None:
            return EpochStats(error / self._total_photons, self._phase_change(before))
        squares, photons = self._held_out.end()
        seen = max(self._total_photons - photons, 1e-30)
        return EpochStats(error / seen, self._phase_change(before), squares / max(photons, 1e-30))

    def take_over(self, other: "RefinementEngine", object: bool, probe: bool) -> None:
        """Take over the object or the probe of the engine of another scan, whose canvas is the same."""
        if object:
            self.object = other.object
        if probe:
            self.probe = other.probe
            self._shifted_probes = None

    def apply_low_order_phase(self) -> None:
        """Solve for the low-order phase with the equations of all patterns as they are now, and apply it.

        Patterns of the near field are maps of the sample, which a phase gradient displaces little: nothing to solve.
        """
        if not self.far_field:
            return
        equations = torch.empty(len(self), 2, 3, device=self._ctx.device)
        for batch in self._batches_ahead():
            equations[batch] = phase_gradient_normal_equations(*self._forward(batch)[2:])
        self._add_low_order_phase(equations)

    def preconditioned_gradient(self) -> Tensor:
        """Compute the object update of all patterns together, divided by the illumination.

        Returns:
            ``sum_j sum_m P_jm* (psi_jm' - psi_jm) / (illumination + 0.05 max illumination)``, ``(H, W)``.
        """
        gradient = torch.zeros_like(self.object)
        for batch in self._batches_ahead():
            probes, _, waves, modulus, residual = self._forward(batch)
            exit_wave_updates = self._propagate.adjoint(self.detector.exit_wave_update_(waves, modulus, residual))
            add_windows_(gradient, self._first_pixels[batch], object_update_terms(probes, exit_wave_updates)[0])
        return gradient / (self._illumination + GRADIENT_DAMPING * self._illumination.max())

    def illumination(self) -> Tensor:
        """Compute the illumination, ``sum_j sum_m |P_jm|^2`` on each pixel of the object, photons, ``(H, W)``."""
        illumination = torch.zeros(self.object.shape, device=self._ctx.device)
        for batch in self._batches():
            add_windows_(illumination, self._first_pixels[batch], total_intensity(self._probes(batch)))
        return illumination

    def coverage(self) -> np.ndarray:
        """Return where the illumination is enough for the object to be known, ``(H, W)``."""
        illumination = self.illumination().cpu().numpy()
        return illumination > COVERAGE_THRESHOLD * np.median(illumination[illumination > 0.01 * illumination.max()])

    def instrument(self) -> Instrument:
        """Return the terms of the forward model beyond the ideal experiment, as they are now."""
        variations = {} if self.relaxation is None else self.relaxation.instrument_terms()
        return Instrument(**variations, **self.detector.instrument_terms())  # type: ignore[arg-type]

    def state(self) -> dict[str, Tensor]:
        """Return everything that changes, for :meth:`resume`."""
        names = ("object", "probe", "positions", "probe_scale")
        state = {name: getattr(self, name) for name in names} | {"generator": self._generator.get_state()}
        return state | self.detector.state() | ({} if self.relaxation is None else self.relaxation.state())

    def resume(self, state: dict[str, Tensor]) -> None:
        """Resume from a :meth:`state`: the epochs that follow are the same as without the interruption.

        Args:
            state: of an engine with the same scan, settings and start.
        """
        for name in ("object", "probe", "positions", "probe_scale"):
            setattr(self, name, state[name].to(self._ctx.device))
        self._generator.set_state(state["generator"])
        self.detector.resume(state)
        if self.relaxation is not None:
            self.relaxation.resume(state)
        self._update_windows()

    # --- the rPIE updates ---

    def _forward(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Compute the forward model of a batch.

        Returns:
            Probes ``(b, M, N, N)``, object windows ``(b, 1, N, N)``, exit waves on the detector ``(b, M, N, N)``, their
            modulus and the amplitude residual, 0 where masked or held out, ``(b, N, N)``.
        """
        probes = self._probes(batch)
        windows = take_windows(self.object, self._first_pixels[batch], self.size)[:, None]
        return probes, windows, *self._on_detector(batch, windows * probes)

    def _on_detector(self, batch: Tensor, exit_waves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Propagate exit waves ``(b, M, N, N)``; return them on the detector, their modulus and the residual."""
        self._propagate = in_detector_frame(self.propagate, self._subpixel_shifts[batch])
        waves = self._propagate(exit_waves)
        amplitude, rows = self._amplitudes.of(batch)
        modulus, residual = self.detector.modulus_and_residual(waves, amplitude, rows)
        if self._held_out is not None:
            self._held_out.take_from_(residual, batch, amplitude, rows)
        return waves, modulus, residual

    def _set_step_sizes(
        self, order: Tensor, batches: tuple[Tensor, ...], refined: RefinedVariables
    ) -> list[Tensor | None]:
        """Shorten the steps of an epoch where the patterns of a batch overlap.

        Returns:
            The probe step of each batch, the same on every rank; None where the probe is not refined.
        """
        if refined.probe:
            self._gain_autocorrelation = self._correlate_gain()
        arguments = self._gain_autocorrelation, self._whole_pixels, order, self.settings.batch_size
        overlap = overlap_in_batches(*arguments)
        self._object_steps = (MAX_BATCH_STEP / overlap).clamp_max(self._step_size)
        if not refined.probe:
            return [None] * len(batches)
        return [(MAX_PROBE_STEP / overlap[batch].mean()).clamp_max(self._step_size) for batch in batches]

    def _update(self, batch: Tensor, refined: RefinedVariables, probe_step: Tensor | None) -> Tensor:
        """Make one rPIE update from a batch of patterns; return its summed square residual, photons."""
        probes, windows, waves, modulus, residual = self._forward(batch)
        if refined.probe_scale:
            self._fit_intensity_scale(batch, waves, modulus, residual)
        if refined.background or refined.point_spread:
            self.detector.accumulate(waves, modulus, residual)
        if self._phase_equations is not None:
            self._phase_equations[batch] = phase_gradient_normal_equations(waves, modulus, residual)
        error = residual.square().sum()
        exit_wave_updates = self._propagate.adjoint(self.detector.exit_wave_update_(waves, modulus, residual))
        self._update_from(batch, refined, probe_step, probes, windows, exit_wave_updates)
        return error

    def _update_from(
        self,
        batch: Tensor,
        refined: RefinedVariables,
        probe_step: Tensor | None,
        probes: Tensor,
        windows: Tensor,
        exit_wave_updates: Tensor,
    ) -> None:
        """Update object, probe and positions from the exit-wave updates ``(b, M, N, N)`` of a batch."""
        if probe_step is not None:
            self._update_probe(batch, windows, exit_wave_updates, probe_step)
        numerator, probe_intensity = object_update_terms(probes, exit_wave_updates)
        if refined.positions:
            self._subpixel_shifts[batch] += position_updates(probe_intensity, windows[:, 0], numerator).double()
        object_updates = rpie_object_updates_(numerator, probe_intensity, self._object_steps[batch], self._alpha)
        self._update_object(batch, self._damp_amplitude_step(object_updates, windows[:, 0]))

    def _damp_amplitude_step(self, object_updates: Tensor, windows: Tensor) -> Tensor:
        """Scale the part of the object updates that changes the object's amplitude by ``amplitude_step_scale``.

        Args:
            object_updates: ``(b, N, N)``.
            windows: object under each pattern, ``(b, N, N)``.
        """
        scale = self.settings.amplitude_step_scale
        if scale == 1:
            return object_updates
        direction = windows.sgn()
        return object_updates - (1 - scale) * (object_updates * direction.conj()).real * direction

    def _update_object(self, batch: Tensor, object_updates: Tensor) -> None:
        """Add the update under each pattern, of all ranks together, to the object."""
        if self._ctx.world_size == 1:
            add_windows_(self.object, self._first_pixels[batch], object_updates)
            return
        total = torch.zeros_like(self.object)
        add_windows_(total, self._first_pixels[batch], object_updates)
        self.object += self._ctx.sum(total)

    def _update_probe(self, batch: Tensor, windows: Tensor, exit_wave_updates: Tensor, step_size: Tensor) -> None:
        """Add the rPIE probe update of a batch, each pattern's part shifted back by its sub-pixel shift."""
        spectra = far_field_corner(windows.conj() * exit_wave_updates)
        spectra = spectra * self._probe_transfer(batch).conj()
        if self.relaxation is not None:
            self.relaxation.accumulate(batch, spectra[:, 0], intensity(windows).amax((1, 2, 3)))
        numerator = far_field_corner_inverse(self._ctx.sum(spectra.sum(0)))
        object_intensity = self._ctx.sum(intensity(windows).sum((0, 1)))
        self.probe = self.probe + rpie_probe_update(numerator, object_intensity, step_size, self._alpha)

    def _fit_intensity_scale(self, batch: Tensor, waves: Tensor, modulus: Tensor, residual: Tensor) -> None:
        """Scale the probe at each pattern by least squares on its amplitudes; update waves and residual in place."""
        slope = self.detector.modulus_slope(modulus)
        masked = slope if self._mask is None else slope * self._mask
        factor = 1 + (masked * residual).sum((1, 2)) / (masked * slope).sum((1, 2)).clamp_min(1e-30)
        factor = factor.clamp_(0.5, 2.0)
        self.probe_scale[batch] *= factor
        self.detector.scale_modulus_(modulus, residual, factor)
        if self._held_out is not None:
            self._held_out.clear_(residual, batch)
        waves *= factor[:, None, None, None]

    def _add_low_order_phase(self, equations: Tensor) -> None:
        """Multiply the object with the low-order phase that solves the equations ``(J, 2, 3)`` of all patterns."""
        spacing = KNOT_SPACING * rms_radius(total_intensity(self.probe))
        centres = self._whole_pixels.cpu().numpy()
        values = equations.double().cpu().numpy()
        if not np.isfinite(values).all():
            return  # diverged, which the caller sees in the R-factor
        phase = low_order_phase(values, centres, self.object.shape, spacing)
        self._add_phase(phase)

    def _add_phase(self, phase: np.ndarray) -> None:
        """Add a phase, rad, ``(H, W)``, to the object."""
        for first in range(0, len(phase), ROWS_AT_ONCE):
            band = slice(first, first + ROWS_AT_ONCE)
            self.object[band] *= self._to_device(np.exp(1j * phase[band]).astype(np.complex64))

    def _remove_ambiguities(self, refined: RefinedVariables) -> None:
        """Remove what counts do not determine: the mixing of modes, a common scale and a common shift."""
        if refined.probe_scale:
            scale = self.probe_scale.square().mean().sqrt()
            self.probe_scale = self.probe_scale / scale
            self._change_probe(lambda modes: modes * scale)
        if refined.positions:
            limit = self.settings.max_position_shift_px
            moved = self._whole_pixels + self._subpixel_shifts + self._origin - self._recorded
            moved = moved.clamp_(-limit, limit)
            # the probe cannot follow in the near field, where it stands still on the detector
            common = moved.mean(0) if self.far_field else torch.zeros_like(moved[0])
            self.positions = self._recorded + moved - common
            if self.far_field:
                ramp = self._ramps(common[None])[0]
                self._change_probe(lambda modes: far_field_corner_inverse(far_field_corner(modes) * ramp))
            self._update_windows()
        if refined.probe and self.relaxation is None:  # variations are those of the first mode as it is
            self.probe = orthogonalise_modes(self.probe)

    def _constrain(self) -> None:
        """Apply the constraints of the settings to object and probe."""
        settings, positions = self.settings.constraints, self._whole_pixels + self._subpixel_shifts
        context = ConstraintContext(positions, self._illumination)
        shift = centring_shift(self.probe, settings.probe_centring)
        factor = power_factor(self.probe, self._probe_photons, settings.probe_power)
        self._change_object(lambda image: constrain_object(image, settings, context).roll(shift, (0, 1)), factor)
        self._change_probe(lambda modes: constrain_probe(modes, settings).roll(shift, (-2, -1)) * factor)

    def _change_object(self, change: Callable[[Tensor], Tensor], divisor: Tensor) -> None:
        """Apply a change to the object, and divide it."""
        self.object = change(self.object) / divisor

    def _change_probe(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply the same linear change to the probe and to its variations."""
        self.probe = change(self.probe)
        self._shifted_probes = None
        if self.relaxation is not None:
            self.relaxation.modes = change(self.relaxation.modes)

    # --- windows and probes of the patterns ---

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._ctx.device)

    def _batches(self) -> tuple[Tensor, ...]:
        return torch.arange(len(self), device=self._ctx.device).split(BATCH)

    def _batches_ahead(self) -> Iterator[Tensor]:
        """Yield the same batches where their counts are needed."""
        return self._amplitudes.ahead(self._batches())

    def _update_windows(self) -> None:
        """Split positions into whole pixels, where windows are cut, and sub-pixel shifts, which the probe carries.

        Raises:
            ValueError: if a window leaves the object: the kernels do not check.
        """
        self._whole_pixels, self._subpixel_shifts = split_positions(self.positions - self._origin)
        low, high = torch.stack([self._whole_pixels.amin(0), self._whole_pixels.amax(0)]).tolist()
        limits = [side - self.size + self.size // 2 for side in self.object.shape]
        if min(low) < self.size // 2 or any(last > most for last, most in zip(high, limits, strict=True)):
            raise ValueError(
                "refined positions left the object canvas or became NaN: lower refinement.step_size, or refine "
                "positions later (refinement.position_start_epoch)"
            )
        corners = self._whole_pixels - self.size // 2
        self._first_pixels = corners[:, 0] * self.object.shape[1] + corners[:, 1]
        self._shifted_probes = None

    def _find_overlap(self) -> Tensor:
        """Compute the overlap multiplicity of each pattern, ``(J,)``.

        The illumination by the other patterns relative to a pattern's own, both weighted by its probe intensity: the
        number of patterns that update the same pixels.
        """
        probe_intensity = total_intensity(self.probe).flatten()
        # allocated once: small arrays kept between large ones would keep the memory of all of these
        shared = torch.empty(len(self), device=self._ctx.device)
        for batch in self._batches():
            windows = take_windows(self._illumination, self._first_pixels[batch], self.size)
            shared[batch] = windows.flatten(1) @ probe_intensity
        return (shared / probe_intensity.square().sum() - 1).clamp_min_(0)

    def _correlate_gain(self) -> Tensor:
        """Return the overlap of two object updates by the distance of their patterns, ``(2N, 2N)``."""
        return gain_autocorrelation(total_intensity(self.probe), self.settings.alpha[0])

    def _phase_change(self, before: Tensor) -> float:
        """Return the rms change of the object's phase, weighted by illumination, a constant apart, rad."""
        ratio = self.object * before.conj()
        ratio *= (ratio * self._illumination).sum().conj().sgn()
        return float((self._illumination * ratio.angle().square()).sum().div(self._illumination.sum()).sqrt())

    def _cache_shifted_probes(self, refined: RefinedVariables) -> None:
        """Shift the probe to every pattern once where neither probe nor positions are refined."""
        if refined.probe or refined.positions or refined.probe_variations:
            self._shifted_probes = None
        elif self._shifted_probes is None and 8 * len(self) * self.probe.numel() < CACHE:
            self._shifted_probes = torch.cat([self._shift_probe(batch) for batch in self._batches()])

    def _probes(self, batch: Tensor) -> Tensor:
        """Return the modes at the sub-pixel shift of each pattern, times its ``probe_scale``, ``(b, M, N, N)``."""
        if self._shifted_probes is None:
            shifted = self._shift_probe(batch)
        else:
            shifted = self._shifted_probes.index_select(0, batch)
        return shifted if self.intensity_is_constant else shifted * self.probe_scale[batch, None, None, None]

    def _shift_probe(self, batch: Tensor) -> Tensor:
        """Shift the probe, with its variations, to each pattern of a batch, ``(b, M, N, N)``."""
        spectrum = far_field_corner(self.probe)
        if self.relaxation is not None:
            spectrum = self.relaxation.vary_spectrum(spectrum, batch)
        return far_field_corner_inverse(spectrum * self._probe_transfer(batch))

    def _probe_transfer(self, batch: Tensor) -> Tensor:
        """Return what the spectrum of the probe is multiplied with at each pattern of a batch, ``(b, 1, N, N)``."""
        return self._ramps(self._subpixel_shifts[batch])

    def _ramps(self, subpixel_shifts: Tensor) -> Tensor:
        return fourier_ramp(subpixel_shifts, self.size, torch.float32)[:, None]


def _low_count_patterns(pattern_photons: np.ndarray) -> np.ndarray:
    """Return the patterns with less than 1 % of the median photons, where few photons do not explain it."""
    median = np.median(pattern_photons)
    return np.flatnonzero(pattern_photons < min(LOW_COUNT_FRACTION * median, median - 10 * median**0.5))


def _anneal(ends: tuple[float, float], progress: float) -> float:
    """Interpolate from the first number to the second, geometrically."""
    return ends[0] ** (1 - progress) * ends[1] ** progress
