"""The fit: an object, a probe, positions and brightness on their way to explain the counts of a scan."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Refinement
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..physics.forward_model import fourier_ramp, intensity, total_intensity
from ..physics.kernels.pie import (
    add_windows_,
    exit_wave_update_,
    modulus_and_residual,
    object_update_terms,
    rpie_object_updates_,
    take_windows,
)
from ..physics.low_order_phase import phase_gradient_normal_equations, smooth_phase
from ..physics.patches import split_positions
from ..physics.probe_modes import orthogonal_modes
from ..physics.propagation import far_field_corner, far_field_corner_inverse
from ..runtime.distributed import DistributedContext
from .initial_guess import Start, begin
from .position_correction import position_updates

logger = logging.getLogger(__name__)

BATCH = 16
"""Patterns at a time where their order does not matter."""
CACHE = 1 << 29
"""Most bytes to keep probes moved to every pattern in."""
KNOTS = 4.0
"""Spacing of the smooth phase's knots, in rms radii of the beam: nearer ones cannot be told from what PIE finds."""
COVERAGE_THRESHOLD = 0.1
"""Least light of a pixel that counts as seen, relative to the median of those that light falls on."""
GRADIENT_DAMPING = 0.05
"""Light below which a pixel's slope is damped, relative to the brightest."""
ISOLATED = 0.01
"""Least light shared with others, relative to a pattern's own, of one that overlaps with them."""
STABLE = 1.5
"""Greatest step of a batch where its patterns overlap, relative to the full rPIE step: twice that overshoots."""


@dataclass(frozen=True)
class RefinedVariables:
    """What an epoch fits beside the object."""

    probe: bool = False
    positions: bool = False
    probe_scale: bool = False

    @classmethod
    def in_epoch(cls, epoch: int, settings: Refinement) -> "RefinedVariables":
        """What the settings let free by this epoch, counted from 1."""
        begins = settings.probe_start_epoch, settings.position_start_epoch, settings.intensity_start_epoch
        return cls(*(first is not None and epoch >= first for first in begins))


@dataclass(frozen=True)
class EpochStats:
    """What an epoch met and did.

    Attributes:
        error: R-factor of the patterns as they were met.
        phase_change: how much the object's phase changed, rad rms where the light falls.
    """

    error: float
    phase_change: float


class RefinementEngine:
    """What explains a scan's counts, and how it gets better.

    Args:
        scan: what to explain.
        settings: how.
        start: a reconstruction to start from; a flat object without it.
        ctx: where to compute, and who shares the work: each of them is given the same scan, settings and start.

    Attributes:
        object: complex, ``(H, W)``.
        origin: position of its pixel ``[0, 0]``, px.
        probe: modes, ``(M, N, N)``.
        positions: px, float64, ``(J, 2)``.
        probe_scale: amplitude of each pattern's beam relative to the probe, ``(J,)``.
        intensity_is_constant: whether that is 1 for all and stays so.
        isolated_patterns: how many patterns share no light with another.
        low_count_patterns: those that hold hardly any of the light that others do.

    Raises:
        ValueError: if there is nothing to explain, or the start does not suit the scan.
        OSError: if memory does not hold the object.
    """

    def __init__(
        self,
        scan: Scan,
        settings: Refinement,
        start: Reconstruction | None = None,
        ctx: DistributedContext = DistributedContext(),
    ) -> None:
        self.settings, self.size, self._peers = settings, scan.size, ctx
        self._begin(begin(scan, settings, start), scan)
        self._mask = None if scan.mask is None else self._to_device(np.fft.ifftshift(scan.mask)).float()
        counts = np.fft.ifftshift(scan.counts, axes=(1, 2))
        self._amplitude = self._to_device(np.sqrt(counts, dtype=np.float32))
        measured = self._amplitude if self._mask is None else self._amplitude * self._mask
        light = measured.square().sum((1, 2), dtype=torch.float64).cpu().numpy()
        self._total, self.low_count_patterns = float(light.sum()), _low_count_patterns(light)
        self._generator = torch.Generator().manual_seed(settings.seed)
        if self._total == 0:
            raise ValueError(f"{scan.name} holds no photon where its mask is True: correct the mask")
        self._keep_moved_probes(RefinedVariables())
        self._illuminated = self.light()
        overlap_multiplicity = self._find_overlap()
        self.isolated_patterns = int((overlap_multiplicity < ISOLATED).sum())
        self._pattern_overlap = 1 + overlap_multiplicity * (min(settings.batch_size, len(self)) - 1) / max(
            len(self) - 1, 1
        )

    def warn(self, name: str) -> None:
        """Say in the log what makes the fit of a scan of that name doubtful."""
        if self.isolated_patterns and len(self) > 1:
            logger.warning(
                "%d of %d patterns of %s overlap with no other: nothing says how their objects hang together, if "
                "positions and unit are right",
                *(self.isolated_patterns, len(self), name),
            )
        if len(self.low_count_patterns):
            logger.warning(
                "%d of %d patterns of %s hold less than a hundredth of the others' light, the first is number %d: "
                "leave out frames that were lost or taken with the shutter closed",
                *(len(self.low_count_patterns), len(self), name, self.low_count_patterns[0]),
            )

    def _begin(self, start: Start, scan: Scan) -> None:
        self.origin = start.origin
        self.object, self.probe = start.object.to(self._peers.device), start.probe.to(self._peers.device)
        self.positions, self.probe_scale = self._to_device(start.positions), self._to_device(start.probe_scale)
        self.intensity_is_constant = self.settings.intensity_start_epoch is None and bool((self.probe_scale == 1).all())
        self._recorded, self._origin = self._to_device(scan.positions), self._to_device(np.array(start.origin))
        self._update_windows()

    def __len__(self) -> int:
        return len(self.positions)

    def epoch(self, free: RefinedVariables = RefinedVariables(), done: float = 0.0, smooth: bool = False) -> EpochStats:
        """Pass once over all patterns in random order.

        Args:
            free: what to fit beside the object.
            done: share of the fit that lies behind, 0 to 1: it takes step and alpha from first to last.
            smooth: whether to give the object the smooth phase that the patterns asked for on the way.
        """
        self._rate, self._alpha = (_between(pair, done) for pair in (self.settings.step_size, self.settings.alpha))
        self._keep_moved_probes(free)
        before, subpixel_shifts, probe_scale = self.object.clone(), self._rests.clone(), self.probe_scale.clone()
        error = torch.zeros((), dtype=torch.float64, device=self._peers.device)
        order = torch.randperm(len(self), generator=self._generator).to(self._peers.device)
        self._tilts = torch.zeros(len(self), 2, 3, device=self._peers.device) if smooth else None
        for batch in order.split(self.settings.batch_size):
            error += self._step(self._peers.local_shard(batch), free)
        if self._peers.world_size > 1:  # each peer moved its own patterns only
            self._rests = subpixel_shifts + self._peers.sum(self._rests - subpixel_shifts)
            self.probe_scale = probe_scale + self._peers.sum(self.probe_scale - probe_scale)
        if smooth:
            self._straighten(self._peers.sum(self._tilts))
        self._remove_ambiguities(free)
        return EpochStats(float(self._peers.sum(error)) / self._total, self._phase_change(before))

    def apply_low_order_phase(self) -> None:
        """Give the object the smooth phase that the patterns ask for now: a little more than they do on their way."""
        self._straighten(
            torch.cat([phase_gradient_normal_equations(*self._forward_batch(batch)[2:]) for batch in self._batches()])
        )

    def slope(self) -> Tensor:
        """Where all patterns together would take the object now, over the light on each pixel, ``(H, W)``."""
        total = torch.zeros_like(self.object)
        for batch in self._batches():
            probes, _, wave, modulus, miss = self._forward_batch(batch)
            change = far_field_corner_inverse(exit_wave_update_(wave, modulus, miss))
            add_windows_(total, self._pixels[batch], object_update_terms(probes, change)[0])
        return total / (self._illuminated + GRADIENT_DAMPING * self._illuminated.max())

    def light(self) -> Tensor:
        """Photons that fall on each pixel of the object over the whole scan, ``(H, W)``."""
        total = torch.zeros(self.object.shape, device=self._peers.device)
        for batch in self._batches():
            add_windows_(total, self._pixels[batch], total_intensity(self._probes(batch)))
        return total

    def covered(self) -> np.ndarray:
        """Where enough light falls for the object to be known, ``(H, W)``."""
        light = self.light().cpu().numpy()
        return light > COVERAGE_THRESHOLD * np.median(light[light > 0.01 * light.max()])

    def state(self) -> dict:
        """Everything that changes, for :meth:`resume`."""
        names = ("object", "probe", "positions", "probe_scale")
        return {name: getattr(self, name) for name in names} | {"generator": self._generator.get_state()}

    def resume(self, state: dict) -> None:
        """Go on from what :meth:`state` gave: the epochs that follow are the same as without the break."""
        for name in ("object", "probe", "positions", "probe_scale"):
            setattr(self, name, state[name].to(self._peers.device))
        self._generator.set_state(state["generator"])
        self._update_windows()

    # --- the step ---

    def _forward_batch(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Probes and windows of a batch, the waves they make, their modulus, and what it misses of the amplitude."""
        probes = self._probes(batch)
        windows = take_windows(self.object, self._pixels[batch], self.size)[:, None]
        wave = far_field_corner(windows * probes)
        modulus, miss = modulus_and_residual(wave, self._amplitude, batch)
        return probes, windows, wave, modulus, miss if self._mask is None else miss.mul_(self._mask)

    def _step(self, batch: Tensor, free: RefinedVariables) -> Tensor:
        """One regularised PIE step on a batch of patterns."""
        probes, windows, wave, modulus, miss = self._forward_batch(batch)
        if free.probe_scale:
            self._fit_intensity_scale(batch, wave, modulus, miss)
        if self._tilts is not None:
            self._tilts[batch] = phase_gradient_normal_equations(wave, modulus, miss)
        error = miss.square().sum()
        change = far_field_corner_inverse(exit_wave_update_(wave, modulus, miss))
        if free.probe:
            self._update_probe(batch, windows, change)
        pull, light = object_update_terms(probes, change)
        if free.positions:
            self._rests[batch] += position_updates(light, windows[:, 0], pull).double()
        rates = (STABLE / self._pattern_overlap[batch]).clamp_max(self._rate)
        self._add(
            batch, self._damp_amplitude_step(rpie_object_updates_(pull, light, rates, self._alpha), windows[:, 0])
        )
        return error

    def _damp_amplitude_step(self, step: Tensor, windows: Tensor) -> Tensor:
        """What the object follows of a step, ``(b, N, N)``: less of what changes its amplitude, where that is asked."""
        share = self.settings.amplitude_step_scale
        if share == 1:
            return step
        along = windows.sgn()
        return step - (1 - share) * (step * along.conj()).real * along

    def _add(self, batch: Tensor, step: Tensor) -> None:
        """Add a step under each pattern, of all peers together, to the object."""
        if self._peers.world_size == 1:
            add_windows_(self.object, self._pixels[batch], step)
            return
        total = torch.zeros_like(self.object)
        add_windows_(total, self._pixels[batch], step)
        self.object += self._peers.sum(total)

    def _update_probe(self, batch: Tensor, windows: Tensor, change: Tensor) -> None:
        """The same step for the probe, averaged over the batch, each pattern's share moved back by its rest."""
        back = far_field_corner(windows.conj() * change) * self._ramps(self._rests[batch]).conj()
        step = far_field_corner_inverse(self._peers.sum(back.sum(0)))
        power = self._peers.sum(intensity(windows).sum((0, 1)))
        self.probe = self.probe + self._rate * step / torch.lerp(power, power.max(), self._alpha)

    def _fit_intensity_scale(self, batch: Tensor, wave: Tensor, modulus: Tensor, miss: Tensor) -> None:
        """Give each pattern the brightness that fits it best; its wave and what it misses follow, in place."""
        seen = modulus if self._mask is None else modulus * self._mask
        factor = 1 + (seen * miss).sum((1, 2)) / (seen * modulus).sum((1, 2)).clamp_min(1e-30)
        factor = factor.clamp_(0.5, 2.0)
        self.probe_scale[batch] *= factor
        miss -= (factor - 1)[:, None, None] * seen
        modulus *= factor[:, None, None]
        wave *= factor[:, None, None, None]

    def _straighten(self, tilts: Tensor) -> None:
        """Give the object the smooth phase with the slopes that all patterns asked for."""
        equations, places = tilts.double().cpu().numpy(), self._places.cpu().numpy()
        spacing = KNOTS * _rms_radius(total_intensity(self.probe))
        phase = smooth_phase(equations, places, self.object.shape, spacing)
        self.object *= self._to_device(np.exp(1j * phase).astype(np.complex64))

    def _remove_ambiguities(self, free: RefinedVariables) -> None:
        """Take off what counts cannot tell: how modes mix, a factor and a shift that all patterns share."""
        if free.probe_scale:
            common = self.probe_scale.square().mean().sqrt()
            self.probe_scale, self.probe = self.probe_scale / common, self.probe * common
        if free.positions:
            reach = self.settings.max_position_shift_px
            moved = self._places + self._rests + self._origin - self._recorded
            moved = moved.clamp_(-reach, reach)
            self.positions = self._recorded + moved - moved.mean(0)
            self.probe = self._move(moved.mean(0, keepdim=True))[0]
            self._update_windows()
        if free.probe:
            self.probe = orthogonal_modes(self.probe)

    # --- where and with what ---

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._peers.device)

    def _batches(self) -> tuple[Tensor, ...]:
        return torch.arange(len(self), device=self._peers.device).split(BATCH)

    def _update_windows(self) -> None:
        """Split positions into whole windows and the rest, which the probe carries.

        Raises:
            ValueError: if a window leaves the object: loops over windows do not look.
        """
        self._places, self._rests = split_positions(self.positions - self._origin)
        low, high = torch.stack([self._places.amin(0), self._places.amax(0)]).tolist()
        room = [side - self.size + self.size // 2 for side in self.object.shape]
        if min(low) < self.size // 2 or any(last > most for last, most in zip(high, room, strict=True)):
            raise ValueError(
                "positions have moved out of the object or are no numbers any more: lower refinement.step_size, or let "
                "positions free later (refinement.position_start_epoch)"
            )
        corners = self._places - self.size // 2
        self._pixels = corners[:, 0] * self.object.shape[1] + corners[:, 1]
        self._moved = None

    def _find_overlap(self) -> Tensor:
        """How many other patterns ask for a change of the same pixels, ``(J,)``."""
        light = total_intensity(self.probe).flatten()
        under = (
            take_windows(self._illuminated, self._pixels[batch], self.size).flatten(1) for batch in self._batches()
        )
        met = torch.cat([lit @ light for lit in under])
        return (met / light.square().sum() - 1).clamp_min_(0)

    def _phase_change(self, before: Tensor) -> float:
        ratio = self.object * before.conj()
        ratio *= (ratio * self._illuminated).sum().conj().sgn()
        return float((self._illuminated * ratio.angle().square()).sum().div(self._illuminated.sum()).sqrt())

    def _keep_moved_probes(self, free: RefinedVariables) -> None:
        """Move the probe to every pattern once and for all where nothing changes it."""
        if free.probe or free.positions:
            self._moved = None
        elif self._moved is None and 8 * len(self) * self.probe.numel() < CACHE:
            self._moved = torch.cat([self._move(self._rests[batch]) for batch in self._batches()])

    def _probes(self, batch: Tensor) -> Tensor:
        """Modes moved to each pattern's sub-pixel rest, in its brightness, ``(b, M, N, N)``."""
        moved = self._move(self._rests[batch]) if self._moved is None else self._moved.index_select(0, batch)
        return moved if self.intensity_is_constant else moved * self.probe_scale[batch, None, None, None]

    def _move(self, subpixel_shifts: Tensor) -> Tensor:
        return far_field_corner_inverse(far_field_corner(self.probe) * self._ramps(subpixel_shifts))

    def _ramps(self, subpixel_shifts: Tensor) -> Tensor:
        return fourier_ramp(subpixel_shifts, self.size, torch.float32)[:, None]


def _low_count_patterns(light: np.ndarray) -> np.ndarray:
    """Patterns with less than a hundredth of the median light, where that is no accident of few photons."""
    middle = np.median(light)
    return np.flatnonzero(light < min(0.01 * middle, middle - 10 * middle**0.5))


def _between(pair: tuple[float, float], share: float) -> float:
    """From the first number to the second, geometrically."""
    return pair[0] ** (1 - share) * pair[1] ** share


def _rms_radius(light: Tensor) -> float:
    """Root of the mean square distance from the beam's centre of mass, px."""
    line = torch.arange(light.shape[-1], dtype=light.dtype, device=light.device)
    share = light / light.sum()
    variances = [(s @ line.square() - (s @ line).square()) for s in (share.sum(0), share.sum(1))]
    return float(sum(variances).sqrt())
