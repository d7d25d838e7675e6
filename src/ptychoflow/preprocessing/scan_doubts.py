"""Doubts about a scan before any reconstruction: its counts, frames, mask, direct beam and probe."""

import hashlib
import itertools
import math

import numpy as np
from scipy.spatial import cKDTree

from ..core.doubt import Doubt, join_doubts
from ..core.scan import Scan, is_invalid_count
from ..io.count_reader import CountReader
from .cropping import far_field_of
from .detector_pixels import displacement
from .detector_statistics import fano_factor

N_SAMPLED = 256
"""Patterns, spread evenly over the scan, from which statistics are taken."""
READ_AT_ONCE = 64
"""Frames read at a time."""
HASHED_BYTES = 1 << 31
"""Most bytes of frames that are compared with each other."""
MAX_MASKED_PIXELS, MAX_MASKED_PHOTONS = 0.5, 0.5
"""Shares of pixels and of the probe's photons beyond which a mask is doubted."""
MAX_OFF_CENTRE_PX, BETTER_CENTRED = 2, 1.03
"""Displacement of the direct beam along an axis from which it is doubted, px; and the factor by which the correlation
with the far field of the probe must be higher there, as a rough probe has a broad maximum."""
MAX_TRANSMISSION = 1.1
"""Counts over photons of the probe beyond which a sample would transmit more than comes in."""
MIN_FANO = 0.75
"""Fano factor below which values cannot be counts; that of counts is 1, and more where patterns differ."""
MIN_DISTINCT = 6
"""Distinct values that are needed to tell a transformation of counts from counts."""
NEIGHBOURS = 9
"""Frames at the nearest positions, itself counted, that a frame is compared with."""
DARK_FRAME, BRIGHT_FRAME = 1 / 3, 3.0
"""Photons of a frame relative to its neighbours from which it is doubted."""
MAX_BACKGROUND, LEAST_DARK_COUNTS = 0.06, 0.3
"""Share of the counts in a background from which it is doubted; least mean counts of a pixel that show one."""
FEW_FRAMES = 0.05
"""Share of frames up to which they are exceptions, not the rule."""
CLIPPED_VALUES, LEAST_SATURATION = 10, 16
"""Values at the maximum from which a detector is taken as saturated; least maximum."""
MIN_FRAME_PHOTONS = 30
"""Photons from which two equal frames cannot be chance."""


def doubt_scan(scan: Scan) -> tuple[Doubt, ...]:
    """Check a scan for what makes its reconstruction silently wrong.

    Args:
        scan: counts, mask and probe. Frames are compared with each other where counts are an array or a memory map.

    Returns:
        Doubts, the serious ones first.
    """
    some = np.unique(np.linspace(0, len(scan) - 1, N_SAMPLED).astype(int))
    # read, not mapped: pages of a map count as memory of the process
    reader = CountReader(scan.counts) if isinstance(scan.counts, np.ndarray) else None
    sample = _as_counts(np.concatenate([scan.counts[j : j + 1] for j in some]) if reader is None else reader.read(some))
    valid = np.ones(sample.shape[1:], bool) if scan.mask is None else scan.mask
    return join_doubts(
        _doubts_of_values(sample, valid, scan.fano_factor),
        _doubts_of_mask(scan, valid),
        _doubts_of_saturation(sample, valid),
        _doubts_of_beam(scan, np.where(valid, sample.mean(0, dtype=np.float64), 0), valid),
        _doubts_of_transmission(scan, sample, valid),
        _doubts_of_background(scan, sample, valid),
        () if reader is None else _doubts_of_frames(scan, reader, valid),
    )


def _power_on_detector(scan: Scan) -> np.ndarray:
    """Return the photons of the probe on each detector pixel before any sample absorbs some, ``(N, N)``."""
    if not scan.geometry.near_field:
        return np.sum(np.abs(far_field_of(scan.probe)) ** 2, axis=0)
    # here, since convert and pack of far-field scans need no torch
    import torch

    from ..physics.propagation import propagator_of

    waves = propagator_of(scan.geometry, scan.size)(torch.from_numpy(np.ascontiguousarray(scan.probe, np.complex64)))
    return np.fft.fftshift(np.sum(np.abs(waves.numpy().astype(np.complex128)) ** 2, axis=0))


def _as_counts(values: np.ndarray) -> np.ndarray:
    """Return values with 0 in place of NaN, infinite and negative ones."""
    return values if values.dtype.kind == "u" else np.where(is_invalid_count(values), values.dtype.type(0), values)


def _doubts_of_values(sample: np.ndarray, valid: np.ndarray, usual_fano: float) -> list[Doubt]:
    """Doubt counts that are amplitudes, squares, logarithms, multiples or fractions of counts.

    Multiples and fractions are accepted where their Fano factor is known, by ``source.fano_factor``.
    """
    values = np.unique(sample[:, valid])
    values = values[np.isfinite(values) & (values > 0)].astype(np.float64)[:4096]
    fano = fano_factor(np.where(valid, sample, 0))
    whole = bool(np.array_equal(values, np.rint(values)))
    if len(values) >= MIN_DISTINCT:
        doubts = _doubts_of_integers(values) if whole else _doubts_of_fractions(values)
        if doubts and (usual_fano == 1 or "multiples" not in doubts[0].finding):
            return doubts
    if np.isfinite(fano) and fano < MIN_FANO * usual_fano:
        finding = f"counts vary less than photons can (Fano factor {fano:.2f}, expected at least {usual_fano:.3g})"
        advice = "they may be amplitudes, logarithms, or smoothed or scaled: set source.domain, or give raw counts"
        return [Doubt("counts", finding, advice)]
    if not whole and usual_fano == 1:
        finding = f"counts are not integers (the least is {values[0]:.4g})" if len(values) else "no counts"
        return [Doubt("counts", finding, "give raw counts: a gain or a background changes the noise", serious=False)]
    return []


def _doubts_of_integers(values: np.ndarray) -> list[Doubt]:
    step = int(np.gcd.reduce(np.minimum(values, 1e15).astype(np.int64)))
    scaled = values / step
    if step > 1:
        finding = f"all counts are multiples of {step}"
        return [Doubt("counts", finding, f"divide them by {step}, the gain of the detector")]
    if _near_integer(np.sqrt(scaled)):
        finding = f"all {len(values)} different counts are squares of integers"
        return [Doubt("counts", finding, "give counts, not their squares")]
    return []


def _doubts_of_fractions(values: np.ndarray) -> list[Doubt]:
    with np.errstate(over="ignore"):
        inverses = {
            "amplitudes": (np.square(values), "set source.domain to amplitude"),
            "logarithms ln(1 + n)": (np.expm1(values), "give counts, not their logarithms"),
            "logarithms ln(n)": (np.exp(values), "give counts, not their logarithms"),
            "logarithms log10(1 + n)": (10**values - 1, "give counts, not their logarithms"),
            "logarithms log10(n)": (10**values, "give counts, not their logarithms"),
        }
    for name, (counts, advice) in inverses.items():
        if _near_integer(counts):
            return [Doubt("counts", f"{len(values)} different values, all {name} of integers", advice)]
    step = float(values[0])
    if _near_integer(values / step) and len(values) > MIN_DISTINCT:
        finding = f"all counts are multiples of {step:.4g}"
        return [Doubt("counts", finding, f"divide them by {step:.4g}, so that the noise is that of photons")]
    return []


def _near_integer(values: np.ndarray) -> bool:
    """Return True if all values are integers up to the rounding of single precision, and not trivially so."""
    if not np.isfinite(values).all():
        return False
    used = values[values < 1e4]
    error = np.abs(used - np.rint(used))
    return len(used) >= MIN_DISTINCT and bool((error < 1e-3 + 2e-6 * used).all()) and used.max() > 2


def _doubts_of_mask(scan: Scan, valid: np.ndarray) -> list[Doubt]:
    if scan.mask is None:
        return []
    masked = 1 - float(valid.mean())
    power = _power_on_detector(scan)
    lost = float(power[~valid].sum() / power.sum())
    finding = f"the mask leaves out {masked:.1%} of the pixels and {lost:.0%} of the probe's photons"
    if masked > MAX_MASKED_PIXELS:
        return [Doubt("mask", finding, "it may be inverted: it is True, or 0 in CXI, where a pixel is valid")]
    if lost > MAX_MASKED_PHOTONS:
        return [Doubt("mask", finding, "check the mask; a beam stop may do so", serious=False)]
    return []


def _doubts_of_saturation(sample: np.ndarray, valid: np.ndarray) -> list[Doubt]:
    values = sample[:, valid]
    most = float(values.max(initial=0))
    at_most, below = int((values == most).sum()), int(((values < most) & (values >= 0.9 * most)).sum())
    if most < LEAST_SATURATION or at_most < max(CLIPPED_VALUES, below / 2):
        return []
    share = at_most * most / float(values.sum(dtype=np.float64))
    finding = f"{at_most} values in {len(sample)} patterns are {most:.6g}, the maximum ({share:.1%} of all counts)"
    return [Doubt("saturation", finding, f"the detector may saturate: set packing.saturation to {most:.6g}")]


def _doubts_of_beam(scan: Scan, mean: np.ndarray, valid: np.ndarray) -> list[Doubt]:
    """Doubt the centre of far-field patterns if they are displaced against the far field of the probe."""
    if scan.geometry.near_field:
        return []
    power = _power_on_detector(scan)
    if power[~valid].sum() > 0.2 * power.sum() or not mean.any():
        return []
    y, x = displacement(mean, scan.probe, valid)
    if max(abs(y), abs(x)) < MAX_OFF_CENTRE_PX:
        return []
    measured, expected = np.sqrt(mean), np.sqrt(np.where(valid, power, 0))
    moved = np.roll(expected, (y, x), axis=(-2, -1))
    if float((measured * moved).sum()) < BETTER_CENTRED * float((measured * expected).sum()):
        return []
    finding = f"the direct beam lies ({y}, {x}) px off the centre of the patterns"
    return [Doubt("beam", finding, "set packing.centre to auto, or source.centre to the pixel of the beam")]


def _doubts_of_transmission(scan: Scan, sample: np.ndarray, valid: np.ndarray) -> list[Doubt]:
    power = _power_on_detector(scan)
    measured = float(sample[:, valid].sum(dtype=np.float64)) / len(sample)
    transmission = measured / max(float(power.sum() if scan.mask is None else power[valid].sum()), 1e-30)
    if scan.mask is not None and power[~valid].sum() > 0.2 * power.sum():
        return []  # the sample may scatter photons past the mask
    if transmission <= MAX_TRANSMISSION:
        return []
    finding = f"the patterns hold {transmission:.3g} times the photons of the probe"
    return [Doubt("transmission", finding, "scale the probe to sqrt(photons), or check counts and background")]


def _doubts_of_background(scan: Scan, sample: np.ndarray, valid: np.ndarray) -> list[Doubt]:
    """Doubt counts in the darkest pixels that neither the probe nor the speckle of the sample explains.

    Speckle of a mean ``s`` has the variance ``s^2`` beside that of counting, a constant background has none.
    """
    if len(sample) < 16 or valid.sum() < 64 or scan.geometry.near_field:  # only the far field has speckle
        return []
    counts = sample[:, valid].astype(np.float64)
    mean, power = counts.mean(0), _power_on_detector(scan)[valid]
    dark = mean <= np.quantile(mean, 0.25)
    level = float(mean[dark].mean())
    speckle = math.sqrt(max(float((counts[:, dark].var(0, ddof=1) - scan.fano_factor * mean[dark]).mean()), 0))
    background = level - speckle - float(power[dark].mean())
    share = background * len(mean) / max(float(mean.sum()), 1e-30)
    if level < LEAST_DARK_COUNTS or share < MAX_BACKGROUND:
        return []
    finding = (
        f"dark pixels have {background:.3g} counts that do not vary, {share:.0%} of all counts if they are everywhere"
    )
    return [Doubt("background", finding, "shield the detector from other sources, or subtract a measured dark frame")]


def _doubts_of_frames(scan: Scan, reader: CountReader, valid: np.ndarray) -> list[Doubt]:
    """Doubt frames that repeat another one, and few that are much darker or brighter than their neighbours."""
    photons = np.zeros(len(scan))
    seen: dict[bytes, int] = {}
    repeated: list[tuple[int, int]] = []
    frames = itertools.chain.from_iterable(map(_as_counts, reader.blocks(READ_AT_ONCE)))
    for j, frame in enumerate(frames):
        photons[j] = frame.sum(dtype=np.float64, where=valid)
        if j * frame.nbytes < HASHED_BYTES and photons[j] >= MIN_FRAME_PHOTONS:
            digest = hashlib.blake2b(np.ascontiguousarray(frame).data.cast("B"), digest_size=16).digest()
            if digest in seen:
                repeated.append((seen[digest], j))
            seen.setdefault(digest, j)
    doubts = []
    if repeated:
        first, second = repeated[0]
        finding = f"{len(repeated)} of {len(scan)} frames repeat another one, the first are {first} and {second}"
        doubts.append(Doubt("repeated frames", finding, "leave them out: noise differs in every exposure"))
    ratio = photons / np.maximum(_photons_around(scan.positions, photons), 1e-30)
    strange = np.flatnonzero((ratio < DARK_FRAME) | (ratio > BRIGHT_FRAME))
    if 0 < len(strange) <= FEW_FRAMES * len(scan) and np.median(photons) >= MIN_FRAME_PHOTONS:
        worst = strange[np.argmax(np.abs(np.log(np.maximum(ratio[strange], 1e-30))))]
        finding = (
            f"{len(strange)} of {len(photons)} frames are much darker or brighter than their neighbours, frame {worst} "
            f"{ratio[worst]:.3g} times"
        )
        doubts.append(Doubt("frames", finding, "leave them out: shuttered, lost or flashed frames"))
    return doubts


def _photons_around(positions: np.ndarray, photons: np.ndarray) -> np.ndarray:
    """Return the median photons of the frames at the nearest positions, ``(J,)``."""
    if len(photons) <= NEIGHBOURS:
        return np.full(len(photons), np.median(photons))
    return np.median(photons[cKDTree(positions).query(positions, k=NEIGHBOURS)[1]], axis=1)
