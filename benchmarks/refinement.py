r"""Time to a phase PSNR of 24 and 28 dB: two networks and refinement, rPIE from a uniform object, pty-chi.

    make run && make run CONFIG=config/learned_refinement.yaml
    python benchmarks/refinement.py results/networks/pinn.ckpt results/networks/learned.ckpt \
        --output docs/results/refinement

The first network predicts groups of patterns, the second is a learned refinement of the whole scan. pty-chi runs LSQ-ML
and rPIE. Fresh objects are simulated in the beam of the default config, at several distances between positions and
numbers of photons. Every engine gets the same counts, positions and true probe, on one thread; none may change the
probe. Time is processor time of this process, so that other work on the machine matters less; that of the first network
includes prediction, stitching, and all reading and writing of files; that of the second begins, as that of every fit,
with the counts in memory. Phase PSNR is against the range of the truth, ramp removed. Writes OUTPUT.json with every
curve and OUTPUT.png, and prints the time to 24 and 28 dB.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from ptychoflow.commands.infer import infer
from ptychoflow.commands.pack import pack
from ptychoflow.commands.simulate import simulate
from ptychoflow.commands.stitch import stitch
from ptychoflow.config import Inference, Refinement, Runtime, Simulation
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import Scan
from ptychoflow.inference.learned_refinement import run_cascades
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.image import phase_error, psnr, rms, unwrapped_phase, value_range
from ptychoflow.models.checkpoint import Model, read_model
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine
from ptychoflow.runtime.timing import Clock

GOALS_DB = (24.0, 28.0)
CPU = Runtime(accelerator="cpu", threads=1)
COLOURS = {
    "learned refinement + refinement": "C5",
    "network + refinement": "C0",
    "uniform start": "C1",
    "pty-chi LSQ-ML": "C2",
    "pty-chi LSQ-ML, momentum": "C4",
    "pty-chi rPIE": "C3",
}
HALF = Inference(precision="bfloat16")
"""Precision of the learned refinement, as in `config/learned_refinement.yaml`."""
AFTER = Refinement(epochs=6)
"""Refinement after the learned refinement."""
Curve = list[tuple[float, float]]
"""Processor seconds and phase PSNR, dB."""


class ReconstructionResult(NamedTuple):
    """State of an engine: object ``(H, W)``, modes of the probe ``(M, N, N)``, positions ``(J, 2)``, px."""

    object: np.ndarray
    probe: np.ndarray
    positions: np.ndarray


class Theirs(NamedTuple):
    """Settings of pty-chi: engine, patterns in a batch, refined variables, and settings that are off by default.

    ``momentum`` is LSQ-ML's, of object and probe; its batches are then clusters of neighbours, as pty-chi's own
    programs have them. ``step`` is the step of the object.
    """

    name: str
    batch: int
    learns_probe: bool = False
    learns_positions: bool = False
    momentum: float = 0.0
    step: float = 1.0


def make_dataset(folder: Path, kind: str, photons: float, step_px: float, size: int) -> Path:
    """A packed scan of a fresh object."""
    recipe = {
        "object": {"name": kind, "size": size},
        "photons_per_pattern": photons,
        "trajectory": {"step_px": step_px, "jitter_px": step_px / 4},
        "seed": 77,
    }
    simulate(folder / "scan.cxi", Simulation.model_validate(recipe))
    pack(folder / "scan.cxi", folder / "scan")
    return folder / "scan"


class Judge:
    """Phase PSNR of an object in the frame of a refinement engine, on its coverage."""

    def __init__(self, scan: Scan, engine: RefinementEngine) -> None:
        self._truth, self.origin, self._coverage = scan.truth, engine.origin, engine.coverage()

    def __call__(self, found: ReconstructionResult) -> float:
        aligned = align(found.object, self.origin, self._coverage, np.asarray(self._truth.object), self._truth.origin)
        peak = value_range(unwrapped_phase(aligned.truth, aligned.mask), aligned.mask)
        return psnr(rms(phase_error(aligned.object, aligned.truth), aligned.mask), peak)


def ours(scan: Scan, settings: Refinement, start: Reconstruction | None, spent: float = 0.0) -> Curve:
    """Return the curve of our engine, from its initial object."""
    began = time.process_time()
    engine = RefinementEngine(scan, settings, start)
    spent += time.process_time() - began
    judge = Judge(scan, engine)
    return [(spent, judge(_result(engine))), *timed(epochs(engine), judge, spent)]


def epochs(engine: RefinementEngine) -> Iterator[ReconstructionResult]:
    """Yield the result after each epoch, as ``refine`` runs them."""
    settings = engine.settings
    for epoch in range(1, settings.epochs + 1):
        progress = (epoch - 1) / max(settings.epochs - 1, 1)
        refined = RefinedVariables.in_epoch(epoch, settings)
        engine.epoch(refined, progress, epoch <= settings.low_order_phase_epochs)
        yield _result(engine)


def _result(engine: RefinementEngine) -> ReconstructionResult:
    return ReconstructionResult(engine.object.numpy(), engine.probe.numpy(), engine.positions.numpy())


def learned(trained: Model, scan: Scan, judge: "Judge") -> Curve:
    """Return the curve of a learned refinement, then of the refinement after it."""
    began = time.process_time()
    engine = RefinementEngine(scan, Refinement())
    spent = time.process_time() - began
    errors = run_cascades(trained.network, engine, HALF, Clock())
    curve = [(spent, judge(_result(engine))), *timed((_result(engine) for _ in errors), judge, spent)]
    start = Reconstruction(
        engine.object.numpy(),
        engine.origin,
        scan.probe,
        scan.positions,
        scan.geometry,
        engine.illumination().numpy(),
        engine.coverage(),
    )
    return curve + ours(scan, AFTER, start, curve[-1][0])[1:]


def network(model: Path, dataset: Path, folder: Path) -> Reconstruction:
    """Return the stitched prediction of a trained network."""
    infer(model, dataset, folder / "patches", runtime=CPU)
    stitch(dataset, folder / "patches", folder / "stitched.h5")
    return read_reconstruction(folder / "stitched.h5")


def ptychi(scan: Scan, frame: RefinementEngine, how: Theirs, epochs: int) -> Iterator[ReconstructionResult]:
    """pty-chi epoch by epoch, in the frame of a fit and from its probe; its settings its own but for what is known."""
    task = import_ptychi().task.PtychographyTask
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        running = task(ptychi_options(scan, frame, how, epochs))
        for _ in range(epochs):
            running.run(1)
            found = (running.get_data_to_cpu(part, as_numpy=True) for part in ("object", "probe", "probe_positions"))
            image, probe, positions = found
            yield ReconstructionResult(image[0], probe[0] * scan.size, positions + np.asarray(frame.origin))


def ptychi_options(scan: Scan, frame: RefinementEngine, how: Theirs, epochs: int) -> Any:
    """pty-chi's options."""
    api = import_ptychi()
    options = getattr(api, f"{how.name}Options")()
    options.data_options.data = np.asarray(scan.counts, np.float32)
    options.data_options.free_space_propagation_distance_m = np.inf
    options.object_options.initial_guess = torch.ones(1, *frame.object.shape, dtype=torch.complex64)
    options.object_options.pixel_size_m = scan.geometry.pixel_size_m
    options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    options.object_options.position_origin_coords = np.full(2, -0.5)  # it centres patches on (N - 1) / 2
    options.object_options.remove_object_probe_ambiguity.enabled = False
    options.object_options.step_size = how.step
    options.probe_options.initial_guess = (frame.probe / scan.size)[None]  # its transform is not unitary
    options.probe_options.optimizable = how.learns_probe
    y, x = (scan.positions - np.asarray(frame.origin)).T
    options.probe_position_options.position_y_px, options.probe_position_options.position_x_px = y, x
    options.probe_position_options.optimizable = how.learns_positions
    options.reconstructor_options.default_device = api.Devices.CPU
    options.reconstructor_options.batch_size = how.batch
    options.reconstructor_options.num_epochs = epochs
    options.reconstructor_options.random_seed = 0
    if how.name == "LSQML":
        options.reconstructor_options.rescale_probe_intensity_in_first_epoch = False
    if how.momentum:
        options.reconstructor_options.momentum_acceleration_gain = how.momentum
        options.reconstructor_options.batching_mode = api.BatchingModes.COMPACT
    return options


def import_ptychi():
    """pty-chi's API; an empty module stands in for torchvision, of which it uses a Gaussian blur that is not called."""
    transforms = types.ModuleType("torchvision.transforms")
    transforms.GaussianBlur = None
    sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
    sys.modules.setdefault("torchvision.transforms", transforms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ptychi.api
        import ptychi.api.task
    return ptychi.api


def timed(
    engine: Iterator[ReconstructionResult], judge: Callable[[ReconstructionResult], Any], spent: float = 0.0
) -> list[tuple[float, Any]]:
    """The curve of an engine; judging it costs nothing."""
    curve, began = [], time.process_time()
    for found in engine:
        spent += time.process_time() - began
        curve.append((spent, judge(found)))
        began = time.process_time()
    return curve


def time_to(curve: Curve, goal: float) -> float | None:
    """When a curve first reaches a goal."""
    return next((seconds for seconds, value in curve if value >= goal), None)


def compare(model: Path, corrector: Model, kind: str, photons: float, step_px: float, size: int, most: int) -> dict:
    """Every engine's curve on one scan."""
    with tempfile.TemporaryDirectory() as scratch:
        dataset = make_dataset(Path(scratch), kind, photons, step_px, size)
        scan = open_dataset(dataset)
        began = time.process_time()
        start = network(model, dataset, Path(scratch))
        spent = time.process_time() - began
    frame = RefinementEngine(scan, Refinement())
    judge = Judge(scan, frame)
    curves = {
        "network + refinement": ours(scan, Refinement(), start, spent),
        "learned refinement + refinement": learned(corrector, scan, judge),
        "uniform start": ours(scan, Refinement(epochs=most, low_order_phase_epochs=12), None),
        "pty-chi LSQ-ML": timed(ptychi(scan, frame, Theirs("LSQML", 32), most), judge),
        "pty-chi rPIE": timed(ptychi(scan, frame, Theirs("RPIE", 8), most), judge),
    }
    return {"object": kind, "photons": photons, "step_px": step_px, "patterns": len(scan), "curves": curves}


def draw(results: list[dict], path: Path) -> None:
    """Every curve, a panel for each scan."""
    columns = min(3, len(results))
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.4 * rows), squeeze=False, sharex=True)
    for panel, each in zip(axes.flat, results):
        for name, curve in each["curves"].items():
            panel.plot(*np.transpose(curve), ".-", color=COLOURS[name], label=name, markersize=3, linewidth=1)
        for goal in GOALS_DB:
            panel.axhline(goal, color="0.8", linewidth=0.8, zorder=0)
        panel.set_xscale("log")
        panel.set_title(f"{each['object']}, step {each['step_px']:g} px, {each['photons']:.0e} photons", fontsize=8)
        panel.set_xlabel("processor seconds", fontsize=8)
        panel.set_ylabel("phase PSNR, dB", fontsize=8)
        panel.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def table(results: list[dict]) -> str:
    """Time to each goal and the best phase PSNR, one engine a column, as Markdown."""
    names = list(results[0]["curves"])
    lines = ["| scan | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for each in results:
        cells = []
        for name in names:
            times = [time_to(each["curves"][name], goal) for goal in GOALS_DB]
            best = max(value for _, value in each["curves"][name])
            cells.append(" / ".join("-" if t is None else f"{t:.2f}" for t in times) + f" s, {best:.1f} dB")
        title = f"{each['object']}, step {each['step_px']:g} px, {each['photons']:.0e} photons ({each['patterns']})"
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a network trained by config/config.yaml")
    parser.add_argument("corrector", type=Path, help="a network trained by config/learned_refinement.yaml")
    parser.add_argument("--output", type=Path, required=True, help="stem of the .json and the .png")
    parser.add_argument("--objects", nargs="+", default=["photograph", "siemens_star"])
    parser.add_argument("--photons", type=float, nargs="+", default=[1e4, 1e5, 1e6])
    parser.add_argument("--steps", type=float, nargs="+", default=[5, 8, 11], help="between positions, px")
    parser.add_argument("--size", type=int, default=256, help="of the object, px")
    parser.add_argument("--epochs", type=int, default=25, help="of the uniform start and of pty-chi")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, corrector = [], read_model(arguments.corrector)
    for kind in arguments.objects:
        for step in arguments.steps:
            for photons in arguments.photons:
                scan = kind, photons, step, arguments.size, arguments.epochs
                results.append(compare(arguments.model, corrector, *scan))
                print(table(results).splitlines()[-1], flush=True)
    arguments.output.with_suffix(".json").write_text(json.dumps(results))
    draw(results, arguments.output.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    main()
