"""How soon real scans come out: network and refinement, a flat start, and pty-chi's LSQ-ML and rPIE.

    python benchmarks/measured.py --output docs/measured \\
        --scan results/datasets/siemens results/models/siemens_pinn.ckpt '{"probe_from": 2}' \\
               '{"probe_from": 2}'

A scan is a dataset, a network that was trained in its beam, the settings of refinement from the network, and those from
a flat object. Every engine gets the same counts, positions and first probe, that of the dataset, on one thread, and all
refine the probe. There is no truth: judged are the R-factor of all patterns and, from even and odd patterns apart, up
to which frequency two objects agree (Fourier ring correlation 1/7). Time is processor time of the whole scan, as in
refinement.py; a point of our curves is what a whole fit of 1, 2, 4, 8 or 16 epochs ends with, because steps are
annealed. Writes OUTPUT.json and OUTPUT.png and prints Markdown: of each engine the first point, that with the least
R-factor, and the last.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from refinement import COLOURS, Found, epochs, network, ptychi

from ptychoflow.config import Refinement
from ptychoflow.data.packing import open_dataset, write_dataset
from ptychoflow.fitting.fit import Fit
from ptychoflow.metrics.alignment import align, level, window
from ptychoflow.metrics.consistency import expected_patterns, fit
from ptychoflow.metrics.frc import ring_correlation
from ptychoflow.reconstruction import Reconstruction
from ptychoflow.scan import Scan

EPOCHS = (1, 2, 4, 8, 16)
"""How many of ours a point of the curve has: each is a fit of its own, because steps are annealed over all epochs."""
Engine = Callable[[Scan, Fit], Iterator[tuple[float, Found]]]
"""Processor seconds and what is found by then, in the frame of a fit."""


def from_network(model: Path, settings: Refinement) -> Engine:
    """The network, then refinement."""

    def run(scan: Scan, frame: Fit) -> Iterator[tuple[float, Found]]:
        with tempfile.TemporaryDirectory() as scratch:
            write_dataset(Path(scratch) / "scan", scan)
            began = time.process_time()
            start = network(model, Path(scratch) / "scan", Path(scratch))
            spent = time.process_time() - began
        yield spent, Found(_in_frame(start.object, start.origin, frame), start.probe)
        yield from annealed(scan, settings, start, frame, spent)

    return run


def from_flat(settings: Refinement) -> Engine:
    """Plain iteration."""
    return lambda scan, frame: annealed(scan, settings, None, frame, 0.0)


def annealed(
    scan: Scan, settings: Refinement, start: Reconstruction | None, frame: Fit, spent: float
) -> Iterator[tuple[float, Found]]:
    """What fits of few and of many epochs end with."""
    for count in EPOCHS:
        began = time.process_time()
        fit = Fit(scan, settings.model_copy(update={"epochs": count}), start)
        *_, last = epochs(fit)
        seconds = spent + time.process_time() - began
        yield seconds, Found(_in_frame(last.object, fit.origin, frame), last.probe)


def _in_frame(image: np.ndarray, origin: tuple[float, float], frame: Fit) -> np.ndarray:
    corner = np.rint(np.subtract(frame.origin, origin)).astype(int)
    return window(image, corner, tuple(frame.object.shape))[0]


def theirs(name: str, batch: int, most: int) -> Engine:
    """pty-chi's engine of this name, epoch by epoch."""

    def run(scan: Scan, frame: Fit) -> Iterator[tuple[float, Found]]:
        spent, began = 0.0, time.process_time()
        for found in ptychi(scan, frame, name, batch, most, learns_probe=True):
            spent += time.process_time() - began
            yield spent, found
            began = time.process_time()

    return run


def curve(engine: Engine, scan: Scan) -> list[tuple[float, float, float]]:
    """Processor seconds, R-factor and frequency to which half sets agree, cycles/px."""
    frame = Fit(scan, Refinement())
    judged = [(seconds, r_factor(found, scan, frame)) for seconds, found in engine(scan, frame)]
    halves = zip(*(_half(engine, scan, first) for first in (0, 1)), strict=True)
    return [(*point, agreement(*pair)) for point, pair in zip(judged, halves, strict=True)]


def r_factor(found: Found, scan: Scan, frame: Fit) -> float:
    """How badly an object and a probe explain the counts."""
    return fit(expected_patterns(found.object, frame.origin, found.probe, scan.positions), scan.counts).r_factor


def _half(engine: Engine, scan: Scan, first: int) -> list[tuple[np.ndarray, tuple[float, float], np.ndarray]]:
    """Object, origin and coverage from every second pattern, point by point."""
    half = dataclasses.replace(scan, counts=scan.counts[first::2], positions=scan.positions[first::2])
    frame = Fit(half, Refinement())
    light = frame.light().numpy()
    coverage = light > 0.1 * np.median(light[light > 0.01 * light.max()])
    return [(np.array(found.object), frame.origin, coverage) for _, found in engine(half, frame)]


def agreement(even: tuple, odd: tuple) -> float:
    """Frequency to which two halves agree, cycles/px; 0.5 beyond Nyquist."""
    pair = align(*odd, level(even[0], even[2]), even[1], 2.0, truth_coverage=even[2])
    crossing = ring_correlation(pair.object, pair.truth, pair.mask).crossing("1/7")
    return 0.5 if crossing is None else crossing


def compare(dataset: Path, model: Path, near: Refinement, far: Refinement, most: int) -> dict:
    """Every engine's curve on one scan."""
    scan = open_dataset(dataset)
    scan = dataclasses.replace(scan, counts=np.array(scan.counts))
    engines = {
        "network + refinement": from_network(model, near),
        "flat start": from_flat(far),
        "pty-chi LSQ-ML": theirs("LSQML", 32, most),
        "pty-chi rPIE": theirs("RPIE", 8, most),
    }
    result = {"scan": dataset.name, "patterns": len(scan), "size": scan.size, "curves": {}}
    for name, engine in engines.items():
        result["curves"][name] = curve(engine, scan)
        print(row(dataset.name, name, result["curves"][name]), flush=True)
    return result


def row(scan: str, name: str, points: list[tuple[float, float, float]]) -> str:
    """One row of the table."""
    best = min(points, key=lambda point: point[1])
    cells = [f"{seconds:.1f} s: {error:.4f}, {reach:.3f}" for seconds, error, reach in (points[0], best, points[-1])]
    return f"| {scan} | {name} | {' | '.join(cells)} |"


def draw(results: list[dict], path: Path) -> None:
    """R-factor above, agreement of half sets below, a column for each scan."""
    figure, axes = plt.subplots(2, len(results), figsize=(4.2 * len(results), 5), squeeze=False, sharex="col")
    for column, each in enumerate(results):
        for name, points in each["curves"].items():
            seconds, error, reach = np.transpose(points)
            axes[0, column].plot(seconds, error, ".-", color=COLOURS[name], label=name, markersize=3, linewidth=1)
            axes[1, column].plot(seconds, reach, ".-", color=COLOURS[name], markersize=3, linewidth=1)
        least = min(point[1] for points in each["curves"].values() for point in points)
        axes[0, column].set(title=f"{each['scan']}, {each['patterns']} patterns of {each['size']} px", xscale="log")
        axes[0, column].set(ylabel="R-factor", yscale="log", ylim=(0.95 * least, 3 * least))
        axes[1, column].set(xlabel="processor seconds", ylabel="half sets agree to, cycles/px", ylim=(0, None))
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("DATASET", "MODEL", "NEAR", "FLAT")
    parser.add_argument("--scan", nargs=4, action="append", required=True, metavar=names)
    parser.add_argument("--output", type=Path, required=True, help="stem of the .json and the .png")
    parser.add_argument("--epochs", type=int, default=25, help="of pty-chi")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for dataset, model, *settings in arguments.scan:
        near, far = (Refinement.model_validate_json(each) for each in settings)
        results.append(compare(Path(dataset), Path(model), near, far, arguments.epochs))
    arguments.output.with_suffix(".json").write_text(json.dumps(results))
    draw(results, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
