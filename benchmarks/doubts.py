"""Planted faults and the doubts that tell of them, and clean scans that must raise none.

    python benchmarks/doubts.py [--size 64] [--json table.json] [--only NAME ...]

For each planted fault: the R-factor, the noise floor, the verdict without doubts, and the doubts before and after
refinement. For each clean scan: the doubts, of which none should be. Prints Markdown.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ptychoflow.config import Refinement
from ptychoflow.core.doubt import Doubt, join_doubts
from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.metrics.data_consistency import compare_counts, expected_patterns
from ptychoflow.metrics.reconstruction_doubts import doubt_refinement
from ptychoflow.preprocessing.probe_guess import GUESS
from ptychoflow.preprocessing.scan_doubts import doubt_scan
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext

SETTINGS = {"epochs": 12, "probe_start_epoch": 2}
Change = Callable[[Scan], Scan]


def make_scan(
    size: int = 32,
    rows: int = 12,
    step: float = 4.0,
    photons: float = 2e4,
    seed: int = 0,
    modes: int = 1,
    phase: float = 0.6,
    absorption: float = 0.15,
    jitter: float = 1.0,
    blur: float = 2.0,
    wavelength_m: float = 1.4e-10,
) -> Scan:
    """Simulate a scan of a smooth random object on a jittered serpentine raster, with Poisson counts."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) - size // 2
    frequency = np.hypot(y, x) / size
    pupil = (
        (frequency < 0.2) * np.exp(-1j * np.pi * size * frequency**2) * (1 + 0.3 * np.sign(x) * (abs(x) > size / 12))
    )
    first = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))
    probe = np.stack([first * np.exp(2j * np.pi * m * x / size) * 0.4**m for m in range(modes)])
    probe = (probe * np.sqrt(photons / np.sum(np.abs(probe) ** 2))).astype(np.complex64)
    axis = size // 2 + 3 + step * np.arange(rows)
    raster = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    raster[1::2] = raster[1::2, ::-1]
    positions = raster.reshape(-1, 2) + rng.uniform(-jitter, jitter, (rows**2, 2))
    side = int(positions.max()) + size // 2 + 3
    amplitude, angle = (gaussian_filter(rng.normal(size=(side, side)), blur) for _ in range(2))
    transmission = 1 - absorption * (1 + np.tanh(amplitude / amplitude.std())) / 2
    image = (transmission * np.exp(1j * phase * angle / angle.std())).astype(np.complex64)
    expected = np.concatenate(list(expected_patterns(image, (0, 0), probe, positions)))
    counts = rng.poisson(expected).astype(np.uint16 if expected.max() < 3e4 else np.uint32)
    return Scan(counts, positions, probe, Geometry(2e-8, wavelength_m, 2.0), name="scan")


def _counts(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda scan: dataclasses.replace(scan, counts=function(scan.counts))


def _positions(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda scan: dataclasses.replace(scan, positions=np.ascontiguousarray(function(scan.positions)))


def _scaled(factor: float) -> Change:
    return _positions(lambda p: p.mean(0) + factor * (p - p.mean(0)))


def _rotated(degrees: float) -> Change:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return _positions(lambda p: (p - p.mean(0)) @ np.array([[cosine, -sine], [sine, cosine]]) + p.mean(0))


def _masked(share: float) -> Change:
    def change(scan: Scan) -> Scan:
        bad = np.random.default_rng(3).random((scan.size, scan.size)) < share
        return dataclasses.replace(scan, mask=bad)

    return change


def _framed(function: Callable[[np.ndarray, np.random.Generator], None]) -> Change:
    def change(scan: Scan) -> Scan:
        counts = scan.counts.astype(np.uint32)
        function(counts, np.random.default_rng(4))
        return dataclasses.replace(scan, counts=counts)

    return change


def _mad(counts: np.ndarray, rng: np.random.Generator) -> None:
    for j in (len(counts) // 3, len(counts) // 2):
        counts[j] = rng.permutation(counts[j].ravel()).reshape(counts[j].shape)


def _dark(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts[[20, 77]] = rng.poisson(0.01, counts[:2].shape)


def _flash(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts[[30, 31]] *= 8


def _repeat(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts[[41, 90]] = counts[[40, 89]]


def _dropped(scan: Scan) -> Scan:
    """Leave one frame out early on, and the last position."""
    return dataclasses.replace(scan, counts=np.delete(scan.counts, 50, axis=0), positions=scan.positions[:-1])


def _doubled(scan: Scan) -> Scan:
    """Write one frame twice, and leave the last one out."""
    return dataclasses.replace(scan, counts=np.insert(scan.counts, 50, scan.counts[49], axis=0)[:-1])


def _probe(function: Callable[[np.ndarray], np.ndarray], **metadata: str) -> Change:
    return lambda scan: dataclasses.replace(scan, probe=function(scan.probe).astype(np.complex64), metadata=metadata)


def _made_up(probe: np.ndarray) -> np.ndarray:
    amplitude = np.abs(np.fft.fft2(probe))
    return np.fft.fftshift(np.fft.ifft2(amplitude))


def _noise(level: float) -> Change:
    return _counts(lambda n: n + np.random.default_rng(6).poisson(level, n.shape).astype(n.dtype))


FAULTS: dict[str, tuple[Change, str]] = {
    "amplitudes": (_counts(lambda n: np.sqrt(n).astype(np.float32)), "counts"),
    "rounded amplitudes": (_counts(lambda n: np.rint(np.sqrt(n)).astype(np.uint16)), "counts"),
    "squares": (_counts(lambda n: n.astype(np.uint64) ** 2), "counts"),
    "logarithms": (_counts(lambda n: np.log1p(n.astype(np.float32))), "counts"),
    "decimal logarithms": (_counts(lambda n: np.log10(1 + n.astype(np.float64))), "counts"),
    "fractions": (_counts(lambda n: (n * 0.37).astype(np.float32)), "counts"),
    "of the maximum": (_counts(lambda n: n / n.max()), "counts"),
    "gain": (_counts(lambda n: n * 10), "counts"),
    "smoothed": (_counts(lambda n: gaussian_filter(n.astype(np.float32), (0, 1, 1))), "counts"),
    "saturated": (_counts(lambda n: np.minimum(n, int(np.quantile(n, 0.985)))), "saturation"),
    "background": (_noise(4), "background transmission"),
    "strong background": (_noise(15), "background transmission"),
    "inverted mask": (_masked(0.01), "mask"),
    "wide inverted mask": (_masked(0.3), "mask"),
    "beam off by 3 px": (_counts(lambda n: np.roll(n, 3, axis=-1)), "beam"),
    "beam off by 5 px": (_counts(lambda n: np.roll(n, (-4, 3), axis=(-2, -1))), "beam"),
    "one frame off": (_positions(lambda p: np.roll(p, 1, axis=0)), "order"),
    "one frame off, earlier": (_positions(lambda p: np.roll(p, -1, axis=0)), "order"),
    "reversed": (_positions(lambda p: p[::-1]), "order orientation"),
    "shuffled": (_positions(lambda p: np.random.default_rng(5).permutation(p)), "order R-factor"),
    "swapped axes": (_positions(lambda p: p[:, ::-1]), "orientation"),
    "mirrored in y": (_positions(lambda p: p * [-1, 1] + [p[:, 0].max() + p[:, 0].min(), 0]), "orientation order"),
    "mirrored in x": (_positions(lambda p: p * [1, -1] + [0, p[:, 1].max() + p[:, 1].min()]), "orientation order"),
    "scaled by 1.1": (_scaled(1.1), "scale"),
    "scaled by 0.9": (_scaled(0.9), "scale"),
    "wavelength wrong by 5 %": (_scaled(1.05), "scale"),
    "distance wrong by -5 %": (_scaled(0.95), "scale"),
    "rotated by 10 degrees": (_rotated(10), "R-factor order rotation"),
    "frame dropped": (_dropped, "order frames"),
    "frame doubled": (_doubled, "order frames, repeated frames"),
    "two mad frames": (_framed(_mad), "frames"),
    "two dark frames": (_framed(_dark), "frames"),
    "two flashed frames": (_framed(_flash), "frames"),
    "two repeated frames": (_framed(_repeat), "repeated frames, frames"),
    "probe too weak": (_probe(lambda p: p / 2), "transmission"),
    "probe made up": (_probe(_made_up, probe_source=GUESS), "probe R-factor"),
}
"""Name, the change that plants it, and the kinds of doubts of which one must be raised."""

FIXED_PROBE = ("probe made up", "probe too weak")
CLEAN: dict[str, dict] = {
    "usual": {},
    "bright": {"photons": 2e6},
    "dim": {"photons": 1e3},
    "very dim": {"photons": 100},
    "dense": {"step": 1.5, "rows": 16},
    "sparse": {"step": 7},
    "raster": {"jitter": 0},
    "two modes": {"modes": 2},
    "three modes, bright": {"modes": 3, "photons": 1e6},
    "electrons": {"wavelength_m": 2e-12, "phase": 0.2, "photons": 1e3},
    "weak phase": {"phase": 0.05},
    "strong phase": {"phase": 1.5},
    "absorbing": {"absorption": 0.9},
    "fine": {"blur": 1.0},
    "coarse": {"blur": 5.0},
    "small": {"rows": 6},
    "large": {"rows": 20},
    "another object": {"seed": 11},
    "and another": {"seed": 12, "photons": 2e5},
    "wide patterns": {"size": 64},
}
"""Clean scans by name: what differs from the usual one."""


def judge(scan: Scan, **settings) -> tuple[float, float, tuple[Doubt, ...], tuple[Doubt, ...]]:
    """Refine a scan; return R-factor, noise floor, and the doubts before and after refinement."""
    before = doubt_scan(scan)
    refinement = Refinement(**(SETTINGS | settings))
    try:
        found = refine_scan(scan, refinement, None, DistributedContext(), None, lambda row: True)
    except ValueError as error:  # diverged: as good as a doubt
        return float("nan"), float("nan"), before, (Doubt("R-factor", str(error), ""), *before)
    expected = expected_patterns(found.object, found.origin, found.probe, found.positions, found.probe_scale)
    consistency = compare_counts(expected, scan.counts, scan.mask)
    after = join_doubts(before, doubt_refinement(scan, found))
    return consistency.r_factor, consistency.noise_floor, before, after


def fault_row(name: str, size: int) -> dict:
    """Plant a fault into the usual scan; return what is said about it."""
    change, kinds = FAULTS[name]
    settings = {"probe_start_epoch": None} if name in FIXED_PROBE else {}
    return _row(name, change(make_scan(size)), kinds, **settings)


def clean_row(name: str) -> dict:
    """Return what is said about a clean scan."""
    return _row(name, make_scan(**CLEAN[name]), "", **({"probe_modes": CLEAN[name].get("modes")}))


def _row(name: str, scan: Scan, expected: str, **settings) -> dict:
    began = time.perf_counter()
    r_factor, noise_floor, before, after = judge(scan, **settings)
    return {
        "name": name,
        "r_factor": r_factor,
        "noise_floor": noise_floor,
        "before_refinement": [doubt.kind for doubt in before],
        "doubts": [dataclasses.asdict(doubt) for doubt in after],
        "good": bool(r_factor < 1.25 * noise_floor) and not any(doubt.serious for doubt in after),
        "expected": expected,
        "told": any(doubt.kind in expected for doubt in after) if expected else not after,
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="side of the patterns with planted faults, px")
    parser.add_argument("--json", type=Path, help="file for the rows as plain data")
    parser.add_argument("--only", nargs="+", help="names of faults or clean scans")
    args = parser.parse_args()
    rows: dict[str, list[dict]] = {"faults": [], "clean": []}
    print("| scan | R / noise floor | good | told | doubts | s |\n|---|---|---|---|---|---|")
    for group, names, run in (("faults", FAULTS, lambda n: fault_row(n, args.size)), ("clean", CLEAN, clean_row)):
        for name in names:
            if args.only and name not in args.only:
                continue
            row = run(name)
            rows[group].append(row)
            doubts = "; ".join(f"**{d['kind']}** {d['finding']}" for d in row["doubts"])
            ratio = row["r_factor"] / max(row["noise_floor"], 1e-30)
            print(
                f"| {name} | {ratio:.2f} | {row['good']} | {row['told']} | {doubts} | {row['seconds']:.1f} |",
                flush=True,
            )
    faults, clean = rows["faults"], rows["clean"]
    good, named = (sum(row[key] for row in faults) for key in ("good", "told"))
    raised = sum(bool(row["doubts"]) for row in clean)
    print(
        f"\n{good} of {len(faults)} faults end good, {named} are named; {raised} of {len(clean)} clean scans raise one"
    )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    sys.exit(any(row["good"] for row in faults) or any(row["doubts"] for row in clean))


if __name__ == "__main__":
    main()
