r"""R-factor over time on measured scans: network and refinement, rPIE from a uniform object, pty-chi.

    python benchmarks/measured.py --output docs/results/measured \
        --scan config/siemens.yaml results siemens siemens_rpie siemens_pinn siemens_learned \
        --scan config/siemens_full.yaml results siemens_full siemens_modes \
        --scan config/rotavirus.yaml results rotavirus rotavirus_rpie rotavirus_pinn

A scan is a config, where it was run, the name of the scan, that of a method with a uniform initial object, and those of
methods with networks, which predict groups or refine the whole scan. The config's settings say for every engine how
many modes the probe has and whether positions move. All get the same counts, positions and first probe on one thread,
and all refine the probe; pty-chi goes on for twice as long as the longest of ours. LSQ-ML runs as it comes and as
pty-chi's own programs for beamlines set it, with momentum and batches of neighbours; rPIE with a step of .3, because
that of 1 ends far above. There is no truth: judged are the R-factor of all patterns, by one function for all, and, from
even and odd patterns apart, up to which frequency two objects agree (Fourier ring correlation 1/7). Time is processor
time of the whole scan, as in refinement.py; a point of our curves is what a whole fit of 1, 2, 4, ... epochs and of as
many as the config has ends with, because steps are annealed. Writes OUTPUT.json and OUTPUT.png and prints Markdown: of
each engine the first point, that with the least R-factor, and the last.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import LogLocator, NullLocator

from ptychoflow.config import Inference, Refinement, load_config
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import Scan
from ptychoflow.inference.learned_refinement import run_learned_refinement
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.metrics.alignment import align, normalise_gauge, window
from ptychoflow.metrics.data_consistency import compare_counts, expected_patterns
from ptychoflow.metrics.frc import ring_correlation
from ptychoflow.models.checkpoint import read_model
from ptychoflow.refinement.engine import RefinementEngine
from refinement import COLOURS, CPU, ReconstructionResult, Theirs, epochs, import_ptychi, network, ptychi

Engine = Callable[[Scan, RefinementEngine], Iterator[tuple[float, ReconstructionResult]]]
"""Processor seconds and the result by then, in the frame of a refinement engine."""


def from_network(model: Path, settings: Refinement) -> Engine:
    """Return the engine of a network, then refinement."""

    def run(scan: Scan, frame: RefinementEngine) -> Iterator[tuple[float, ReconstructionResult]]:
        with tempfile.TemporaryDirectory() as scratch:
            write_dataset(Path(scratch) / "scan", scan)
            began = time.process_time()
            start = network(model, Path(scratch) / "scan", Path(scratch))
            spent = time.process_time() - began
        yield spent, ReconstructionResult(_in_frame(start.object, start.origin, frame), start.probe, start.positions)
        yield from annealed(scan, settings, start, frame, spent)

    return run


def from_learned_refinement(model: Path, settings: Refinement) -> Engine:
    """Return the engine of a learned refinement, then refinement."""
    trained = read_model(model)

    def run(scan: Scan, frame: RefinementEngine) -> Iterator[tuple[float, ReconstructionResult]]:
        began = time.process_time()
        start = run_learned_refinement(trained, scan, Inference(precision="bfloat16"), CPU, "learned")
        spent = time.process_time() - began
        yield spent, ReconstructionResult(_in_frame(start.object, start.origin, frame), start.probe, start.positions)
        yield from annealed(scan, settings, start, frame, spent)

    return run


def from_uniform(settings: Refinement) -> Engine:
    """Return the engine of rPIE from a uniform object."""
    return lambda scan, frame: annealed(scan, settings, None, frame, 0.0)


def annealed(
    scan: Scan, settings: Refinement, start: Reconstruction | None, frame: RefinementEngine, spent: float
) -> Iterator[tuple[float, ReconstructionResult]]:
    """Yield the results of refinements of few to many epochs, each annealed by itself."""
    for count in lengths(settings.epochs):
        began = time.process_time()
        engine = RefinementEngine(scan, settings.model_copy(update={"epochs": count}), start)
        *_, last = epochs(engine)
        seconds = spent + time.process_time() - began
        yield seconds, last._replace(object=_in_frame(last.object, engine.origin, frame))


def lengths(most: int) -> list[int]:
    """Return the numbers of epochs of our points, each a refinement of its own: 1, 2, 4, ... and ``most``."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _in_frame(image: np.ndarray, origin: tuple[float, float], frame: RefinementEngine) -> np.ndarray:
    corner = np.rint(np.subtract(frame.origin, origin)).astype(int)
    return window(image, corner, tuple(frame.object.shape))[0]


def theirs(how: Theirs) -> Engine:
    """pty-chi, epoch by epoch, until nobody asks for more."""

    def run(scan: Scan, frame: RefinementEngine) -> Iterator[tuple[float, ReconstructionResult]]:
        spent, began = 0.0, time.process_time()
        for found in ptychi(scan, frame, how, 1000):
            spent += time.process_time() - began
            yield spent, found
            began = time.process_time()

    return run


def curve(engine: Engine, scan: Scan, settings: Refinement, most_s: float) -> list[tuple[float, float, float]]:
    """Processor seconds up to the first beyond ``most_s``, R-factor, and frequency to which halves agree, cycles/px."""
    frame, judged = RefinementEngine(scan, settings), []
    for seconds, found in engine(scan, frame):
        judged.append((seconds, r_factor(found, scan, frame)))
        if seconds > most_s:
            break
    halves = zip(*(_half(engine, scan, settings, first, len(judged)) for first in (0, 1)), strict=True)
    return [(*point, agreement(*pair)) for point, pair in zip(judged, halves, strict=True)]


def r_factor(found: ReconstructionResult, scan: Scan, frame: RefinementEngine) -> float:
    """Return the R-factor of object, probe and positions."""
    expected = expected_patterns(found.object, frame.origin, found.probe, found.positions)
    return compare_counts(expected, scan.counts, scan.mask).r_factor


def _half(
    engine: Engine, scan: Scan, settings: Refinement, first: int, count: int
) -> list[tuple[np.ndarray, tuple[float, float], np.ndarray]]:
    """Object, origin and coverage from every second pattern, point by point."""
    half = dataclasses.replace(scan, counts=scan.counts[first::2], positions=scan.positions[first::2])
    frame = RefinementEngine(half, settings)
    return [(np.array(found.object), frame.origin, frame.coverage()) for _, found in islice(engine(half, frame), count)]


def agreement(even: tuple, odd: tuple) -> float:
    """Frequency to which two halves agree, cycles/px; 0.5 beyond Nyquist."""
    pair = align(*odd, normalise_gauge(even[0], even[2]), even[1], 2.0, truth_coverage=even[2])
    crossing = ring_correlation(pair.object, pair.truth, pair.mask).crossing("1/7")
    return 0.5 if crossing is None else crossing


def compare(config: Path, results: Path, name: str, uniform: str, *networks: str) -> dict:
    """Every engine's curve on one scan."""
    section = load_config(config).section
    far = section("refinement", scan=name, method=uniform)
    scan = open_dataset(results / "datasets" / name)
    scan = dataclasses.replace(scan, counts=np.array(scan.counts))
    engines = {}
    for model in networks:
        settings, path = section("refinement", scan=name, method=model), results / "networks" / f"{model}.ckpt"
        if section("network", method=model).input == "object_estimate":
            engines["learned refinement + refinement"] = from_learned_refinement(path, settings)
        else:
            engines["network + refinement"] = from_network(path, settings)
    engines["uniform start"] = from_uniform(far)
    moves = far.position_start_epoch is not None
    engines |= {
        "pty-chi LSQ-ML": theirs(Theirs("LSQML", 32, True, moves)),
        "pty-chi LSQ-ML, momentum": theirs(Theirs("LSQML", 43, True, moves, momentum=0.5)),
        "pty-chi rPIE": theirs(Theirs("RPIE", 8, True, moves, step=0.3)),
    }
    curves, longest = {}, np.inf
    for engine, run in engines.items():
        curves[engine] = curve(run, scan, far, 2 * longest)
        print(row(name, engine, curves[engine]), flush=True)
        if engine == "uniform start":
            longest = max(points[-1][0] for points in curves.values())
    return {"scan": name, "patterns": len(scan), "size": scan.size, "curves": curves}


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
        errors = [point[1] for points in each["curves"].values() for point in points]
        axes[0, column].set(title=f"{each['scan']}, {each['patterns']} patterns of {each['size']} px", xscale="log")
        axes[0, column].set(ylabel="R-factor", ylim=(0.95 * min(errors), min(2.5 * min(errors), 1.05 * max(errors))))
        axes[1, column].set(xlabel="processor seconds", ylabel="half sets agree to, cycles/px", ylim=(0, None))
        axes[1, column].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[1, column].xaxis.set_major_formatter("{x:g}")
        axes[1, column].xaxis.set_minor_locator(NullLocator())
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = "CONFIG RESULTS SCAN UNIFORM [NETWORK ...]"
    parser.add_argument("--scan", nargs="+", action="append", required=True, metavar=names)
    parser.add_argument("--output", type=Path, required=True, help="stem of the .json and the .png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import_ptychi()
    results = []
    for config, folder, name, uniform, *models in arguments.scan:
        results.append(compare(Path(config), Path(folder), name, uniform, *models))
    arguments.output.with_suffix(".json").write_text(json.dumps(results))
    draw(results, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
