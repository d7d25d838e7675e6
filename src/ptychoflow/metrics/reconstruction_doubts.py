"""Doubts about a reconstruction: what residuals say about noise, frames, positions, background, probe and object."""

import math

import numpy as np
import torch

from ..core.doubt import Doubt, join_doubts
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..io.count_reader import CountReader
from ..physics.forward_model import in_detector_frame, shift_probe
from ..physics.kernels.pie import (
    exit_wave_update_,
    modulus_and_residual,
    object_update_terms,
    position_normal_equations,
    take_windows,
)
from ..physics.patches import split_positions
from ..physics.propagation import propagator_of, to_corner
from ..preprocessing.order_doubts import doubt_order
from ..preprocessing.probe_guess import GUESS
from .data_consistency import DataConsistency, compare_counts, expected_by, expected_patterns

N_SAMPLED = 512
"""Patterns, spread evenly over the scan, from which residuals are taken."""
N_COMPARED = 4096
"""Patterns up to which all are compared with their counts, to find the frames that fit worst."""
BELOW_NOISE, ABOVE_NOISE, WELL_ABOVE = 0.6, 5.0, 0.02
"""R-factor over the noise floor that is too small and too large; least R-factor that is too large."""
TRIALS_ABOVE = 1.5
"""R-factor over the noise floor from which trials of other orders are worth their time."""
WORSE_FRAME = 4.0
"""R-factor of a frame over the median from which it is doubted."""
FEW_FRAMES = 0.05
"""Share of frames up to which they are exceptions, not the rule."""
MAX_TRANSMISSION = 1.15
"""Mean intensity transmitted by the object from which it is doubted."""
MIN_BACKGROUND, BACKGROUND_SIGMA = 0.05, 8.0
"""Share of the counts that the model does not explain, and its standard errors, from which a background is doubted."""
MIN_FANO, LEAST_COUNTS = 0.5, 3.0
"""Fano factor of residuals below which values cannot be counts, and least expected counts of a pixel that shows it."""
MIN_STRAIN, MIN_REFINED_STRAIN, STRAIN_SIGMA = 0.0012, 0.006, 6.0
"""Relative change of lengths from which the scale of the positions is doubted: in one Gauss-Newton step of positions
that were kept, which falls far short of the error, and where positions were refined; and its standard errors."""
OUTLIER = 4.0
"""Length of a move over the median from which it is left out."""
RIDGE = 0.01
"""Added to the equations of a position, relative to their diagonal."""


def doubt_refinement(scan: Scan, found: Reconstruction) -> tuple[Doubt, ...]:
    """Check a refinement that has just ended: its residuals and, where they are large, other orders of the positions.

    Args:
        scan: counts, mask and recorded positions.
        found: the refined object, probe and positions.

    Returns:
        Doubts, the serious ones first.
    """
    numbers = _spread(len(scan), N_COMPARED)
    consistency = compare_counts(_expected(found, numbers), _counts(scan, numbers), scan.mask, scan.fano_factor)
    doubts = doubt_reconstruction(scan, found, consistency)
    if consistency.r_factor < TRIALS_ABOVE * consistency.noise_floor:
        return doubts
    return join_doubts(doubt_order(scan, consistency.per_pattern if len(numbers) == len(scan) else None), doubts)


def doubt_reconstruction(scan: Scan, found: Reconstruction, consistency: DataConsistency) -> tuple[Doubt, ...]:
    """Check a refined reconstruction against the counts it was made from.

    Args:
        scan: counts, mask and recorded positions.
        found: the refined object, probe and positions.
        consistency: of all patterns, or of some spread evenly over the scan.

    Returns:
        Doubts, the serious ones first.
    """
    numbers = _spread(len(scan), N_SAMPLED)
    counts, expected = _counts(scan, numbers), np.concatenate(list(_expected(found, numbers)))
    valid = np.ones(counts.shape[1:], bool) if scan.mask is None else scan.mask
    compared = _spread(len(scan), len(consistency.per_pattern))
    return join_doubts(
        _doubts_of_fano(expected, counts, valid, scan.fano_factor),
        _doubts_of_noise(consistency),
        _doubts_of_limit(found),
        _doubts_of_strain(scan, found, counts, numbers),
        _doubts_of_worst_frames(consistency.per_pattern, compared),
        _doubts_of_unexplained_counts(expected, counts, valid),
        _doubts_of_object(scan, found),
        _doubts_of_probe(scan, found),
    )


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _counts(scan: Scan, numbers: np.ndarray) -> np.ndarray:
    return CountReader(scan.counts).read(numbers)


def _expected(found: Reconstruction, numbers: np.ndarray):
    if found.slices is not None:
        return expected_by(found, numbers.tolist())
    scale = None if found.probe_scale is None else found.probe_scale[numbers]
    return expected_patterns(
        found.object,
        found.origin,
        found.probe,
        found.positions[numbers],
        scale,
        propagate=propagator_of(found.geometry, found.probe.shape[-1]),
    )


def _doubts_of_fano(expected: np.ndarray, counts: np.ndarray, valid: np.ndarray, usual: float) -> list[Doubt]:
    """Doubt values that differ less from their expectation than counts do."""
    model = expected.mean(0, dtype=np.float64)
    used = valid & (model >= LEAST_COUNTS)
    if used.sum() < 16 or len(counts) < 16:
        return []
    fano = float(np.median(((counts - expected) ** 2).mean(0, dtype=np.float64)[used] / model[used]))
    if fano >= MIN_FANO * usual:
        return []
    finding = f"counts differ from the model less than photons can (Fano factor {fano:.2f}, expected {usual:.3g})"
    return [Doubt("counts", finding, "they may be amplitudes, logarithms, scaled or smoothed: set source.domain")]


def _doubts_of_noise(consistency: DataConsistency) -> list[Doubt]:
    r_factor, ratio = consistency.r_factor, consistency.r_factor / max(consistency.noise_floor, 1e-30)
    finding = f"R-factor {r_factor:.4g} is {ratio:.3g} times the noise floor {consistency.noise_floor:.4g}"
    if ratio < BELOW_NOISE:
        advice = "counts may be amplitudes, logarithms or fractions (source.domain), or masked nearly everywhere"
        return [Doubt("R-factor", finding, advice)]
    if ratio > ABOVE_NOISE and r_factor > WELL_ABOVE:
        return [Doubt("R-factor", finding, "check positions, probe, lengths and the unit of the counts first")]
    return []


def _doubts_of_strain(scan: Scan, found: Reconstruction, counts: np.ndarray, numbers: np.ndarray) -> list[Doubt]:
    """Doubt the scale and the rotation of the positions if residuals ask for others than recorded."""
    if len(numbers) < 32 or found.slices is not None:  # steps of positions are those of a thin object
        return []
    recorded, refined = scan.positions[numbers], found.positions[numbers]
    least = MIN_STRAIN if np.allclose(refined, recorded, atol=1e-3) else MIN_REFINED_STRAIN
    moves = refined - recorded + _position_steps(scan, found, counts, numbers)
    lengths = np.hypot(*moves.T)
    usual = lengths <= OUTLIER * np.median(lengths)
    centred, moves = recorded[usual] - recorded[usual].mean(0), moves[usual] - moves[usual].mean(0)
    strain, sigma = _slope(centred, moves)
    if abs(strain) > least and sigma > STRAIN_SIGMA:
        sense = "further apart" if strain > 0 else "closer together"
        finding = f"residuals move the positions {sense}, by at least {abs(strain):.2%} ({sigma:.0f} standard errors)"
        return [Doubt("scale", finding, "check energy, distance, detector pixel and the unit of the positions")]
    rotation, sigma = _slope(centred[:, ::-1] * [1, -1], moves)
    if abs(rotation) > least and sigma > STRAIN_SIGMA:
        finding = f"residuals rotate the positions, by at least {abs(rotation):.4f} rad ({sigma:.0f} standard errors)"
        return [Doubt("rotation", finding, "set source.orientation.rotation_deg")]
    return []


def _doubts_of_limit(found: Reconstruction) -> list[Doubt]:
    """Doubt positions that a refinement moved as far as it may."""
    count = found.metadata.get("positions_at_limit", 0)
    if not isinstance(count, int) or count <= 0:
        return []
    finding = (
        f"{count} of {len(found.positions)} positions were moved as far as refinement.max_position_shift_px lets them"
    )
    serious = count > FEW_FRAMES * len(found.positions)
    return [Doubt("position limit", finding, "raise it, or check unit, axes and signs of the positions", serious)]


def _slope(directions: np.ndarray, moves: np.ndarray) -> tuple[float, float]:
    """Return the part of moves ``(K, 2)`` along directions by least squares, and its size in standard errors."""
    along, length = (directions * moves).sum(1), (directions**2).sum(1)
    slope = float(along.sum() / max(length.sum(), 1e-30))
    error = math.sqrt(float(((along - slope * length) ** 2).sum())) / max(float(length.sum()), 1e-30)
    return slope, abs(slope) / max(error, 1e-30)


def _position_steps(scan: Scan, found: Reconstruction, counts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Compute the Gauss-Newton step of each position, px, ``(K, 2)``."""
    size = scan.size
    whole, shifts = split_positions(torch.from_numpy(found.positions[numbers] - np.asarray(found.origin)))
    image = np.pad(found.object.astype(np.complex64), size, constant_values=complex(found.object.mean()))
    limits = torch.tensor(image.shape) - size
    corners = torch.minimum((whole + size - size // 2).clamp_min(0), limits)
    first = corners[:, 0] * image.shape[1] + corners[:, 1]
    amplitude = to_corner(torch.from_numpy(np.sqrt(counts.astype(np.float32))))
    mask = None if scan.mask is None else to_corner(torch.from_numpy(np.ascontiguousarray(scan.mask)))
    canvas, modes = torch.from_numpy(image), torch.from_numpy(np.ascontiguousarray(found.probe, np.complex64))
    scales = np.ones(len(scan)) if found.probe_scale is None else found.probe_scale
    scale = torch.from_numpy(scales[numbers].astype(np.float32))[:, None, None, None]
    propagator, steps = propagator_of(scan.geometry, size).to("cpu"), []
    for batch in torch.arange(len(numbers)).split(32):
        probes = shift_probe(modes, shifts[batch]) * scale[batch]
        windows = take_windows(canvas, first[batch], size)
        propagate = in_detector_frame(propagator, shifts[batch])
        waves = propagate(windows[:, None] * probes)
        modulus, residual = modulus_and_residual(waves, amplitude, batch)
        residual = residual if mask is None else residual * mask
        updates = propagate.adjoint(exit_wave_update_(waves, modulus, residual))
        numerator, probe_intensity = object_update_terms(probes, updates)
        steps.append(_solve(position_normal_equations(probe_intensity, windows, numerator).double()))
    return torch.cat(steps).numpy()


def _solve(equations: torch.Tensor) -> torch.Tensor:
    """Solve normal equations of positions ``(b, 2, 3)``; half of a change of the exit wave shows in its modulus."""
    matrices, sides = equations[..., :2] / 2, equations[..., 2:]
    diagonal = matrices.diagonal(dim1=1, dim2=2)
    diagonal += RIDGE * diagonal.mean(-1, keepdim=True) + 1e-20
    return torch.linalg.solve_ex(matrices, sides)[0][..., 0]


def _doubts_of_worst_frames(r_factors: np.ndarray, numbers: np.ndarray) -> list[Doubt]:
    """Doubt few frames that fit much worse than the rest."""
    median = max(float(np.median(r_factors)), 1e-30)
    bad = int((r_factors > WORSE_FRAME * median).sum())
    if not 0 < bad <= FEW_FRAMES * len(r_factors):
        return []
    worst = int(np.argmax(r_factors))
    finding = (
        f"{bad} of {len(numbers)} frames fit much worse than the rest: number {numbers[worst]} has "
        f"{r_factors[worst] / median:.3g} times the median R-factor"
    )
    return [Doubt("frames", finding, "leave them out, or check their positions")]


def _doubts_of_unexplained_counts(expected: np.ndarray, counts: np.ndarray, valid: np.ndarray) -> list[Doubt]:
    """Doubt counts in the darkest quarter of the pixels that the model does not explain."""
    model, mean = expected.mean(0, dtype=np.float64)[valid], counts.mean(0, dtype=np.float64)[valid]
    dark = model <= np.quantile(model, 0.25)
    level = float((mean - model)[dark].mean())
    error = math.sqrt(max(float(mean[dark].sum()), 1) / len(counts)) / dark.sum()
    share = level * len(model) / max(float(mean.sum()), 1e-30)
    if share < MIN_BACKGROUND or level < BACKGROUND_SIGMA * error:
        return []
    finding = f"{level:.3g} counts of each dark pixel are unexplained, {share:.0%} of all counts if they are everywhere"
    return [Doubt("background", finding, "shield the detector from other sources, or subtract a measured dark frame")]


def _doubts_of_object(scan: Scan, found: Reconstruction) -> list[Doubt]:
    """Doubt an object that transmits more than comes in; where the probe is refined the two share a free factor."""
    if found.probe.shape != scan.probe.shape or not np.allclose(found.probe, scan.probe):
        return []
    weight = np.where(found.coverage, found.weight, 0)
    transmission = float((np.abs(found.object) ** 2 * weight).sum() / max(float(weight.sum()), 1e-30))
    if transmission <= MAX_TRANSMISSION:
        return []
    finding = f"the object transmits {transmission:.3g} times the photons that come in"
    return [Doubt("transmission", finding, "scale the probe to sqrt(photons), or refine it")]


def _doubts_of_probe(scan: Scan, found: Reconstruction) -> list[Doubt]:
    """Doubt a probe that was made up and not refined."""
    made_up = scan.metadata.get("probe_source") == GUESS
    if not made_up or not np.array_equal(found.probe[: len(scan.probe)], scan.probe[: len(found.probe)]):
        return []
    finding = f"the probe was guessed from the mean pattern, and 0 of its {len(scan.probe)} modes were refined"
    return [Doubt("probe", finding, "set refinement.probe_start_epoch to 2, or give the probe")]
