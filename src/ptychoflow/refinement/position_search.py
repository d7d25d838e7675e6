"""Search for scan positions that are far off: patterns against an object that was made without them."""

import dataclasses
import logging

import numpy as np
import torch
from torch import Tensor

from ..config import Refinement
from ..core.scan import Scan
from ..physics.forward_model import fourier_ramp, in_detector_frame, intensity
from ..physics.kernels.pie import take_windows
from ..physics.patches import split_positions
from ..physics.propagation import far_field_corner, far_field_corner_inverse, to_corner
from ..runtime.distributed import DistributedContext
from ..runtime.memory import check_memory
from ..runtime.progress import track
from .engine import BATCH, RefinedVariables, RefinementEngine
from .measured_amplitudes import MeasuredAmplitudes
from .position_model import describe_matrix, fit_steps

logger = logging.getLogger(__name__)

EPOCHS = 4
"""Epochs of the object of a round, of which the last two refine its positions as well."""
LOCAL_TRIALS = 30
"""Trial positions of a pattern about where it is, at a distance that falls from round to round."""
DISTANT_TRIALS = 10
"""Trial positions at a distance that does not fall, for patterns that were lost."""
DISTANT = 1.5
"""Standard deviation of the distant trials, in search radii."""
LIMIT = 4.0
"""Greatest distance of a trial from where the affine model expects the pattern, in search radii."""
LAST_RADIUS_PX = 1.0
"""Standard deviation of the local trials in the last round, px."""
GAIN = 1e-3
"""Fraction by which a trial must lower the residual to be taken."""


def search_positions(scan: Scan, settings: Refinement, ctx: DistributedContext = DistributedContext()) -> Scan:
    """Find positions that recorded ones are far from, before a refinement.

    In each round one half of the patterns, drawn at random, makes an object; each pattern of the other half is moved to
    the trial position at which that object explains it best; then the halves change their parts. An object that was
    made with a pattern at a wrong place explains it best there, however wrong, so that a search against the object of
    all patterns stays where it begins.

    Args:
        scan: the measurement, with recorded positions.
        settings: number of rounds, search radius, probe modes, step sizes, seed.
        ctx: device; each rank searches the same, and the first one's result is used.

    Returns:
        The scan with the positions found, and with the probe found where the settings refine it.

    Raises:
        ValueError: if the scan has fewer than eight patterns.
        OSError: if memory does not hold the counts of half of the patterns.
    """
    if settings.position_search_rounds == 0:
        return scan
    if len(scan) < 8:
        raise ValueError(
            f"{scan.name} has {len(scan)} patterns, a search for positions needs 8: set "
            "refinement.position_search_rounds to 0"
        )
    check_memory(
        2.0 * len(scan) * scan.size**2 * 4, "half of the patterns", "free memory, or set position_search_rounds to 0"
    )
    search = _Search(scan, settings, ctx)
    for number in track(range(settings.position_search_rounds), "searching positions"):
        search.round(number / max(settings.position_search_rounds - 1, 1))
    positions, probe = (_of_first_rank(array, ctx) for array in (search.positions, search.probe))
    moved = np.linalg.norm(positions - scan.positions, axis=1)
    logger.info(
        "searched positions of %s: moved by %.2f px in the median, at most %.1f px; affine part: %s",
        *(scan.name, np.median(moved), moved.max(), describe_matrix(search.model)),
    )
    return dataclasses.replace(scan, positions=positions, probe=probe)


def _of_first_rank(array: np.ndarray, ctx: DistributedContext) -> np.ndarray:
    """Return the array of the first rank: GPUs may differ in the last bit, which grows from round to round."""
    return ctx.sum(torch.tensor(array, device=ctx.device) * (ctx.rank == 0)).cpu().numpy()


class _Search:
    """State of a search: positions, probe, and the affine model of the errors found so far."""

    def __init__(self, scan: Scan, settings: Refinement, ctx: DistributedContext) -> None:
        self._scan, self._settings, self._device = scan, settings, ctx.device
        self._radius = settings.position_search_px
        self._rng = np.random.default_rng(settings.seed)
        self._amplitudes = MeasuredAmplitudes(scan.counts, ctx.device)
        mask = None if scan.mask is None else torch.from_numpy(np.ascontiguousarray(scan.mask))
        self._mask = None if mask is None else to_corner(mask).to(ctx.device)
        self.positions, self.probe = scan.positions.copy(), scan.probe
        self.model = np.eye(2)
        self._centre = scan.positions.mean(0)

    def round(self, progress: float) -> None:
        """Search all patterns once, each against an object that the other half makes."""
        radius = self._radius * (LAST_RADIUS_PX / self._radius) ** progress
        order = self._rng.permutation(len(self._scan))
        found = self.positions.copy()
        for first in (0, 1):
            half, others = np.sort(order[first::2]), np.sort(order[1 - first :: 2])
            engine = self._engine(others, progress)
            found[half] = self._best_positions(engine, half, radius)
            self.probe = engine.probe.cpu().numpy()
        if not self._scan.geometry.near_field:  # a shift of all patterns shows in near field only
            found += (self._scan.positions - found).mean(0)
        self.positions = found
        steps = self.positions - self._scan.positions
        self.model = np.eye(2) + fit_steps(self._scan.positions - self._centre, steps, "affine")

    def _engine(self, patterns: np.ndarray, progress: float) -> RefinementEngine:
        """Refine an object, with probe and positions, from these patterns; take over their positions."""
        scan = dataclasses.replace(
            self._scan,
            counts=np.asarray(self._scan.counts[patterns]),
            positions=self.positions[patterns],
            probe=self.probe,
            truth=None,
        )
        refined = self._settings.probe_start_epoch is not None
        settings = Refinement(
            epochs=EPOCHS,
            batch_size=self._settings.batch_size,
            probe_start_epoch=1 if refined else None,
            probe_modes=self._settings.probe_modes,
            position_start_epoch=EPOCHS - 1,
            max_position_shift_px=LIMIT * self._radius,
            stop="epochs",
            seed=self._settings.seed,
        )
        engine = RefinementEngine(scan, settings, None, DistributedContext(self._device))
        for epoch in range(1, EPOCHS + 1):
            variables = RefinedVariables.in_epoch(epoch, settings)
            engine.epoch(variables, 0.3 + progress / 2, with_low_order_phase=epoch == 1)
        self.positions[patterns] = engine.positions.cpu().numpy()
        return engine

    def _best_positions(self, engine: RefinementEngine, patterns: np.ndarray, radius: float) -> np.ndarray:
        """Return the best trial position of each of these patterns under the object of an engine, px, ``(b, 2)``."""
        best = [
            self._search_batch(engine, torch.from_numpy(patterns[first : first + BATCH]), radius)
            for first in range(0, len(patterns), BATCH)
        ]
        return np.concatenate(best)

    def _search_batch(self, engine: RefinementEngine, batch: Tensor, radius: float) -> np.ndarray:
        half, origin = engine.size // 2, np.array(engine.origin)
        here = torch.from_numpy(self.positions[batch.numpy()] - origin)
        whole, subpixel_shifts = split_positions(here)
        probes = self._shifted_probes(engine, subpixel_shifts)
        propagate = in_detector_frame(engine.propagate, subpixel_shifts.to(self._device))
        amplitude, rows = self._amplitudes.of(batch.to(self._device))
        amplitude = amplitude[rows]
        room = torch.tensor(engine.object.shape) - engine.size + half
        best, chosen = torch.full((len(batch),), torch.inf, device=self._device), whole.clone()
        for trial in self._trials(batch.numpy(), whole, here, origin, radius):
            trial = trial.clamp(torch.tensor(half), room)
            corner = trial - half
            first = (corner[:, 0] * engine.object.shape[1] + corner[:, 1]).to(self._device)
            waves = propagate(take_windows(engine.object, first, engine.size)[:, None] * probes)
            error = self._residual(waves, amplitude)
            better = error < best * (1 - GAIN)
            best = torch.where(better, error, best)
            chosen[better.cpu()] = trial[better.cpu()]
        return (chosen + subpixel_shifts).numpy() + origin

    def _shifted_probes(self, engine: RefinementEngine, subpixel_shifts: Tensor) -> Tensor:
        ramps = fourier_ramp(subpixel_shifts.to(self._device), engine.size, torch.float32)[:, None]
        return far_field_corner_inverse(far_field_corner(engine.probe) * ramps)

    def _trials(
        self, patterns: np.ndarray, whole: Tensor, here: Tensor, origin: np.ndarray, radius: float
    ) -> list[Tensor]:
        """Return trial pixels ``(b, 2)`` each: where patterns are, where the model expects them, and about there."""
        centred = self._scan.positions[patterns] - self._centre
        expected = torch.from_numpy(centred @ self.model.T + self._centre - origin)
        trials = [whole, (expected - here).round().long() + whole]
        for number in range(LOCAL_TRIALS + DISTANT_TRIALS):
            spread = radius if number < LOCAL_TRIALS else DISTANT * self._radius
            trial = whole + torch.from_numpy(self._rng.normal(scale=spread, size=whole.shape)).round().long()
            outside = ((trial - expected).abs() > LIMIT * self._radius).any(1, keepdim=True)
            trials.append(torch.where(outside, whole, trial))
        return trials

    def _residual(self, waves: Tensor, amplitude: Tensor) -> Tensor:
        """Compute the least-squares residual of amplitudes ``(b, N, N)``, each pattern scaled to its own, photons."""
        modulus = intensity(waves).sum(1).sqrt()
        if self._mask is not None:
            modulus, amplitude = modulus * self._mask, amplitude * self._mask
        product = (modulus * amplitude).sum((1, 2))
        return amplitude.square().sum((1, 2)) - product.square() / modulus.square().sum((1, 2)).clamp_min(1e-30)
