"""Refinement of what real instruments do: drift, flicker, background, blur, data larger than memory.

    python benchmarks/instruments.py [--only CASE ...] [--gib 8] [--json OUT]

A case yields rows of a figure and what is asked of it. Simulated faults are compared with the same scan without them:
``R`` is the R-factor over its noise floor, ``PSNR`` the phase PSNR below that of the scan without the fault. Cases on
measurements need PTYCHOFLOW_DATA and are left out without it. Prints a table; ``--json`` writes it as
``[{case, figure, asked, unit, seconds}]``.

To add a case, write a function of the options that yields :class:`Row` and mark it with ``@case``.
"""

import argparse
import functools
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from large import large_scan
from thinned import Image, judge, part

from ptychoflow.commands.convert import convert
from ptychoflow.commands.pack import pack
from ptychoflow.config import BeamStability, Detector, ObjectRecipe, ProbeRecipe, Refinement, Trajectory, load_config
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.io.dataset import open_dataset
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.data_consistency import compare_counts, expected_by
from ptychoflow.metrics.frc import ring_correlation
from ptychoflow.metrics.image import image_metrics
from ptychoflow.refinement import measured_amplitudes
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import Experiment, as_scan, from_simulation
from ptychoflow.simulation.beam_stability import draw_beam_variation
from ptychoflow.simulation.detector import detector_mask
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

EPOCHS = 200
"""Epochs of refinements of simulated faults."""
SIZE, PHOTONS = 64, 1e6
"""Side of a simulated pattern, px, and its photons."""


@dataclass(frozen=True)
class Row:
    """A figure of a case, what is asked of it, its unit, and the processor time it took, s."""

    case: str
    figure: float
    asked: str
    unit: str
    seconds: float


Case = Callable[[argparse.Namespace], Iterator[Row]]
CASES: dict[str, Case] = {}
"""Cases by name."""


def case(function: Case) -> Case:
    """Register a case under the name of its function."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


# --- simulated faults ---

FAULTS: dict[str, tuple[dict, dict, dict]] = {
    "pointing 2 px": ({"pointing_drift_px": 2}, {}, {"position_start_epoch": 3, "low_order_phase_epochs": 12}),
    "focus 10 %": ({"defocus_drift_waves": 0.17}, {}, {"probe_variations": 2}),
    "flicker 5 %": ({"flicker": 0.05}, {}, {"intensity_start_epoch": 3}),
    "background 20 counts": ({}, {"dark_counts": 20}, {"background_start_epoch": 3}),
    "blur 0.7 px": ({}, {"point_spread_px": 0.7}, {"point_spread_start_epoch": 3}),
}
"""Beam, detector, and the settings that refine the fault."""


@functools.cache
def scan_with(beam: tuple = (), detector: tuple = ()) -> Scan:
    """Simulate a Siemens star with a fault of beam or detector, given as items of their settings."""
    rng, seen = np.random.default_rng(3), Detector(**dict(detector))
    image = make_object(ObjectRecipe(name="siemens_star", size=(176, 176)), rng)
    probe = make_probe(ProbeRecipe(), SIZE, PHOTONS, rng)
    positions, _ = make_trajectory(Trajectory(step_px=8, jitter_px=2), image.shape, SIZE, 24, rng)
    variation = draw_beam_variation(BeamStability(**dict(beam)), len(positions), np.random.default_rng(1))
    mask = detector_mask(seen, SIZE, 0)
    experiment = Experiment(image.astype(np.complex64), probe, positions, detector=seen, mask=mask, beam=variation)
    geometry = from_simulation(positions[:1], probe, image).geometry
    return as_scan(experiment, np.concatenate(list(experiment.counts())), positions, geometry, "star", {})


def refined(scan: Scan, **settings: object) -> tuple[Reconstruction, float]:
    """Refine a scan from a uniform object; return the result and the processor time, s."""
    began = time.process_time()
    base = {"probe_start_epoch": 2, "epochs": EPOCHS, "low_order_phase_epochs": EPOCHS, "convergence_tolerance": 0}
    found = refine_scan(scan, Refinement(**(base | settings)), None, DistributedContext(), None, lambda row: True)
    return found, time.process_time() - began


def noise_floors(found: Reconstruction, scan: Scan) -> float:
    """Return the R-factor over its noise floor."""
    consistency = compare_counts(expected_by(found), scan.counts, scan.mask)
    return consistency.r_factor / consistency.noise_floor


def phase_psnr(found: Reconstruction, scan: Scan) -> float:
    """Return the phase PSNR against the ground truth, dB."""
    truth = scan.truth
    pair = align(found.object, found.origin, found.coverage, truth.object, truth.origin, 2.0)
    return image_metrics(pair.object, pair.truth, pair.mask, scan.size / 8)["phase_psnr_truth_range"]


@functools.cache
def psnr_without_fault() -> float:
    """Return the phase PSNR of the scan without a fault, dB."""
    return phase_psnr(refined(scan_with())[0], scan_with())


@case
def faults(options: argparse.Namespace) -> Iterator[Row]:
    """Each simulated fault alone, ignored and refined, and all of them together."""
    beam, detector, settings = ({}, {}, {})
    for name, (own_beam, own_detector, own_settings) in FAULTS.items():
        yield from _fault_rows(name, own_beam, own_detector, own_settings)
        beam, detector, settings = beam | own_beam, detector | own_detector, settings | own_settings
    yield from _fault_rows("all together", beam, detector, settings)


def _fault_rows(name: str, beam: dict, detector: dict, settings: dict) -> Iterator[Row]:
    scan = scan_with(tuple(beam.items()), tuple(detector.items()))
    found, seconds = refined(scan)
    yield Row(f"{name}, ignored: R", noise_floors(found, scan), "far above 1", "noise floors", seconds)
    found, seconds = refined(scan, **settings)
    yield Row(f"{name}, refined: R", noise_floors(found, scan), "at most 1.05", "noise floors", seconds)
    lost = psnr_without_fault() - phase_psnr(found, scan)
    yield Row(f"{name}, refined: PSNR", lost, "at most 1", "dB below no fault", seconds)


# --- positions ---


@case
def positions(options: argparse.Namespace) -> Iterator[Row]:
    """Positions of a scan that is rotated, scaled and sheared as a whole, with errors of single patterns on top."""
    settings = {"probe_start_epoch": None, "position_start_epoch": 3}
    for degrees, model in ((3, "none"), (3, "affine"), (10, "affine")):
        found, seconds = refined(distorted(degrees), **settings, position_model=model)
        residual, rotation = position_errors(found.positions, scan_with().positions)
        name = f"positions wrong by {degrees} degrees, model {model}"
        yield Row(f"{name}: rest", residual, "at most 0.15", "px rms along each axis", seconds)
        yield Row(f"{name}: rotation", rotation, "at most 0.02", "degrees", seconds)


def distorted(degrees: float) -> Scan:
    """Return the scan without a fault at positions rotated, scaled by 2 %, sheared by 1 % and off by 2 px rms."""
    scan, angle = scan_with(), np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix, centre = rotation @ [[1.02, 0.01], [0, 0.98]], scan.positions.mean(0)
    jitter = np.random.default_rng(5).normal(scale=2, size=scan.positions.shape)
    return replace(scan, positions=centre + (scan.positions - centre) @ matrix.T + jitter)


def position_errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Return the rms error along each axis but for a shift of all, px, and the rotation that is left, degrees."""
    found, true = found - found.mean(0), true - true.mean(0)
    matrix = np.linalg.lstsq(found, true, rcond=None)[0].T
    rotation = np.degrees(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    return float(np.sqrt(np.square(found - true).mean())), abs(float(rotation))


# --- measurements ---


@case
def siemens_full(options: argparse.Namespace) -> Iterator[Row]:
    """The full Siemens star with three modes and positions: R-factor and half-set FRC with further terms."""
    if not os.environ.get("PTYCHOFLOW_DATA"):
        return
    config = load_config(Path(__file__).parents[1] / "config" / "siemens_full.yaml")
    base = config.refinement.model_dump() | {"convergence_tolerance": 1e-3}
    terms = {
        "three modes and positions": ({}, "0.0081 before"),
        "and 4 probe variations": ({"probe_variations": 4}, "at most 0.0078"),
        "and background": ({"background_start_epoch": 5}, "at most 0.0078"),
    }
    with tempfile.TemporaryDirectory() as folder:
        convert(Path(folder) / "scan.cxi", config.scans["siemens_full"].source)
        packing = config.packing.model_copy(update={"bad_pixels": ((0, 0),)})  # a background needs a mask
        pack(Path(folder) / "scan.cxi", Path(folder) / "scan", packing)
        scan = open_dataset(Path(folder) / "scan")
        scan = replace(scan, counts=np.array(scan.counts))
        for name, (settings, asked) in terms.items():
            found, seconds = refined(scan, **(base | settings))
            r_factor = compare_counts(expected_by(found), scan.counts, scan.mask).r_factor
            yield Row(f"Siemens star, {name}: R", r_factor, asked, "1", seconds)
            halves = [refined(_half(scan, first), **(base | settings))[0] for first in (0, 1)]
            yield Row(f"Siemens star, {name}: FRC", _half_frc(*halves), "not lower", "mean of half sets", seconds)


@case
def cnm(options: argparse.Namespace) -> Iterator[Row]:
    """The CNM nanoprobe scan from its recorded positions, without and with the search for positions."""
    if not os.environ.get("PTYCHOFLOW_DATA"):
        return
    scan, true = cnm_scan(Path(os.environ["PTYCHOFLOW_DATA"]) / "cnm-247.npz")
    settings = {"probe_start_epoch": 1, "position_start_epoch": 3, "low_order_phase_epochs": 6, "epochs": 100}
    search = {"position_search_rounds": 16, "position_search_px": 8.0}
    for name, more in (("positions refined", {"max_position_shift_px": 40.0}), ("positions searched, refined", search)):
        found, seconds = refined(scan, **(settings | more))
        distance = found.positions - true
        distance = np.linalg.norm(distance - np.median(distance, axis=0), axis=1)
        yield Row(f"CNM, {name}: R", found.history["error"][-1], "at most 0.0120", "1", seconds)
        yield Row(f"CNM, {name}: distance", float(np.median(distance)), "at most 1", "px, median", seconds)


def cnm_scan(path: Path) -> tuple[Scan, np.ndarray]:
    """Return the CNM scan with three modes, scaled to its photons, and its reference positions, px, ``(J, 2)``."""
    with np.load(path) as arrays:
        counts, recorded, true, probe = (arrays[name] for name in ("data", "scan", "true", "probe"))
    size = counts.shape[-1]
    middle = slice(size * 3 // 8, size * 5 // 8)
    if counts.mean(0)[middle, middle].sum() < 0.2 * counts.mean(0).sum():  # zero frequency at the corner
        counts = np.fft.fftshift(counts, axes=(1, 2))
    modes = probe[0, 0] * np.sqrt(counts.sum((1, 2)).mean() / np.square(np.abs(probe)).sum())
    geometry = Geometry(pixel_size_m=1e-8, wavelength_m=1e-10, detector_distance_m=1.0)  # lengths are not in the file
    positions = recorded.astype(float) + size / 2
    return Scan(counts, positions, modes.astype(np.complex64), geometry, name="cnm"), true + size / 2


def _half(scan: Scan, first: int) -> Scan:
    return replace(scan, counts=scan.counts[first::2], positions=scan.positions[first::2], truth=None)


def _half_frc(even: Reconstruction, odd: Reconstruction) -> float:
    """Return the mean Fourier ring correlation of two halves up to Nyquist."""
    pair = align(odd.object, odd.origin, odd.coverage, even.object, even.origin, 2.0, truth_coverage=even.coverage)
    curve = ring_correlation(pair.object, pair.truth, pair.mask, 8.0)
    inner = curve.frequency <= 0.5
    return float(np.mean(curve.correlation[inner]))


# --- few photons ---

FEW_PHOTONS_EPOCHS = (6, 10, 15, 20, 30, 50, 100)
"""Numbers of epochs, of which the best is compared with what held-out pixels choose."""


@case
def few_photons(options: argparse.Namespace) -> Iterator[Row]:
    """Phase PSNR of 100 epochs that held-out pixels end, of all 100, and of the best number of epochs."""
    for image in ("siemens_star", "dead_leaves"):
        scan = raster_scan(image)
        for settings in ({}, {"probe_start_epoch": 2}):
            name = f"raster of 1e3 photons, {image}{', probe refined' if settings else ''}"
            yield from _few_photons_rows(name, scan, functools.partial(phase_psnr, scan=scan), settings)
    if options.thinned is not None:
        scan = open_dataset(options.thinned)
        reference = image_of_result(refined(part(scan, np.arange(1, len(scan), 2)), epochs=60, probe_modes=3)[0])
        dim = part(scan, np.arange(0, len(scan), 2), 1 / 64)
        for settings in ({}, {"probe_start_epoch": 2}):
            name = f"star at 1/64 of its dose{', probe refined' if settings else ''}"
            yield from _few_photons_rows(
                name,
                dim,
                lambda found: judge(image_of_result(found), reference)["phase_psnr_db"] or 0.0,
                settings | {"step_size": (1.5, 0.1)},
            )


def raster_scan(image_name: str) -> Scan:
    """Simulate a raster scan of 1000 photons a pattern, without jitter."""
    rng = np.random.default_rng(3)
    image = make_object(ObjectRecipe(name=image_name, size=(176, 176)), rng)
    probe = make_probe(ProbeRecipe(), SIZE, 1e3, rng)
    positions, _ = make_trajectory(Trajectory(step_px=8, jitter_px=0), image.shape, SIZE, 24, rng)
    experiment = Experiment(image.astype(np.complex64), probe, positions)
    geometry = from_simulation(positions[:1], probe, image).geometry
    return as_scan(experiment, np.concatenate(list(experiment.counts())), positions, geometry, image_name, {})


def _few_photons_rows(name: str, scan: Scan, psnr: Callable[[Reconstruction], float], settings: dict) -> Iterator[Row]:
    def run(epochs: int, stop: str) -> tuple[float, float]:
        plain = {"probe_start_epoch": None, "low_order_phase_epochs": 6, "convergence_tolerance": 1e-3}
        found, seconds = refined(scan, **(plain | settings | {"epochs": epochs, "stop": stop}))
        return psnr(found), seconds

    best = max(run(epochs, "epochs")[0] for epochs in FEW_PHOTONS_EPOCHS)
    yield Row(f"{name}: best number of epochs", best, "", "dB", 0.0)
    every, seconds = run(100, "epochs")
    yield Row(f"{name}: all of 100 epochs", every, "", "dB", seconds)
    chosen, seconds = run(100, "held_out")
    yield Row(f"{name}: held-out pixels", chosen, f"at least {best - 0.3:.1f}", "dB", seconds)


def image_of_result(found: Reconstruction) -> Image:
    """Return object, origin and coverage of a reconstruction."""
    return Image(found.object, found.origin, found.coverage)


# --- data larger than memory ---


@case
def counts_on_disk(options: argparse.Namespace) -> Iterator[Row]:
    """Peak memory of refining and evaluating a large dataset, and the time of an epoch against counts in memory."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for name, gib in (("large", options.gib), ("small", 0.2)):
            large_scan(path / f"{name}.cxi", int(gib * 2**30) // (SIZE * SIZE * 2))
            pack(path / f"{name}.cxi", path / name)
        with context.Pool(1) as pool:
            ratio, seconds = pool.apply(epoch_time_ratio, (path / "small",))
        yield Row("epoch with counts on disk, warm cache", ratio, "at most 1.1", "of counts in memory", seconds)
        with context.Pool(1) as pool:
            peak, seconds = pool.apply(peak_memory, (path / "large",))
        yield Row(f"refine and evaluate {options.gib:g} GiB, 1 epoch", peak, "at most 1.5", "GiB resident", seconds)


def epoch_time_ratio(dataset: Path) -> tuple[float, float]:
    """Return the time of an epoch from disk over that from memory, the quickest of five each, and the time of one."""
    torch.set_num_threads(1)
    scan, spent = open_dataset(dataset), {}
    for limit in (1 << 30, 0):
        measured_amplitudes.RESIDENT_BYTES = limit
        engine, times = RefinementEngine(scan, Refinement()), []
        for _ in range(5):
            began = time.perf_counter()
            engine.epoch()
            times.append(time.perf_counter() - began)
        spent[limit] = min(times)
    return spent[0] / spent[1 << 30], spent[0]


def peak_memory(dataset: Path) -> tuple[float, float]:
    """Return the greatest resident memory of this process while it refines and evaluates, GiB, and the time, s."""
    torch.set_num_threads(1)
    scan, began = open_dataset(dataset), time.perf_counter()
    found = refine_scan(scan, Refinement(epochs=1), None, DistributedContext(), None, lambda row: True)
    compare_counts(expected_by(found), scan.counts, scan.mask)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*CASES], help="cases to run; all without it")
    parser.add_argument("--gib", type=float, default=8.0, help="size of the large dataset, GiB")
    parser.add_argument("--thinned", type=Path, help="packed Siemens star of config/siemens.yaml, for few-photons")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print("| case | figure | asked | unit | s |\n|---|--:|---|---|--:|")
    for name in options.only or CASES:
        for row in CASES[name](options):
            rows.append(asdict(row))
            print(f"| {row.case} | {row.figure:.4g} | {row.asked} | {row.unit} | {row.seconds:.1f} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
