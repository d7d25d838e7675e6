"""Draw the pictures of the explanation pages from the library itself: seeded, small, under two minutes on one core.

    python docs/explanation/pictures.py            all of them, beside this file
    python docs/explanation/pictures.py rpie       one

Each function with the mark ``@drawing`` draws the picture of the page of its name.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptychoflow.config import BeamStability, Constraints, Detector, ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.core.scan import Geometry, Scan, near_field_geometry
from ptychoflow.metrics.alignment import Aligned, align
from ptychoflow.metrics.data_consistency import counting_noise
from ptychoflow.metrics.frc import THRESHOLDS, ring_correlation
from ptychoflow.metrics.image import image_metrics, phase_error
from ptychoflow.networks.object_network import object_features
from ptychoflow.physics.back_projection import backproject
from ptychoflow.physics.data_fidelity import amplitude_error
from ptychoflow.physics.forward_model import expected_counts, intensity, shift_probe
from ptychoflow.physics.patches import cut_windows, extract_patches, place_patches, split_positions
from ptychoflow.physics.phase_synchronisation import neighbour_pairs, overlaps, synchronise
from ptychoflow.physics.propagation import far_field_corner
from ptychoflow.refinement.constraints import ConstraintContext, constrain_object
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine
from ptychoflow.refinement.loop import RefinementLoop
from ptychoflow.refinement.run import refine_scan
from ptychoflow.refinement.short_schedule import run_epoch
from ptychoflow.refinement.uncertainty import phase_uncertainty
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import Experiment, as_scan, from_simulation
from ptychoflow.simulation.beam_stability import draw_beam_variation
from ptychoflow.simulation.detector import detector_mask
from ptychoflow.simulation.objects import make_object, make_slices
from ptychoflow.simulation.probes import beam_diameter, make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

FOLDER = Path(__file__).parent
SIZE = 64
"""Side of a pattern, px."""
DRAWINGS: dict[str, Callable[[], Figure]] = {}
"""Pictures by the name of their page."""


def drawing(function: Callable[[], Figure]) -> Callable[[], Figure]:
    """Register a picture under the name of its page."""
    DRAWINGS[function.__name__.replace("_", "-")] = function
    return function


# --- scans and reconstructions ---


def simulated_scan(
    kind: str = "siemens_star",
    photons: float = 1e5,
    step_px: float = 8.0,
    side: int = 144,
    modes: tuple[float, ...] | None = None,
    aberrations: dict[str, float] | None = None,
    error_px: float = 0.0,
    seed: int = 3,
) -> Scan:
    """Simulate a small scan whose ground truth is known."""
    rng = np.random.default_rng(seed)
    image = make_object(ObjectRecipe(name=kind, size=(side, side)), rng)
    probe = make_probe(ProbeRecipe(modes=modes, aberrations=aberrations or {}), SIZE, photons, rng)
    path = Trajectory(step_px=step_px, jitter_px=step_px / 4, error_px=error_px)
    diameter = beam_diameter(np.sum(np.abs(probe) ** 2, axis=0))
    nominal, true = make_trajectory(path, image.shape, SIZE, diameter, rng)
    return from_simulation(true, probe, image, nominal_positions=nominal, seed=seed)


def disturbed_scan(beam: BeamStability | None = None, detector: Detector | None = None) -> Scan:
    """Simulate the small scan with a beam or a detector that is not ideal."""
    ideal, detector = simulated_scan(photons=1e6), detector or Detector()
    variation = draw_beam_variation(beam or BeamStability(), len(ideal), np.random.default_rng(1))
    experiment = Experiment(
        ideal.truth.object,
        ideal.probe,
        ideal.positions,
        detector=detector,
        mask=detector_mask(detector, SIZE, 0),
        beam=variation,
    )
    counts = np.concatenate(list(experiment.counts()))
    return as_scan(experiment, counts, ideal.positions, ideal.geometry, "disturbed", {})


def refined(scan: Scan, settings: Refinement) -> Iterator[tuple[RefinementEngine, float]]:
    """Refine from a uniform object; yield the state after each epoch, and the R-factor that the epoch met."""
    engine = RefinementEngine(scan, settings)
    for epoch in range(1, settings.epochs + 1):
        done = (epoch - 1) / max(settings.epochs - 1, 1)
        stats = engine.epoch(RefinedVariables.in_epoch(epoch, settings), done, epoch <= settings.low_order_phase_epochs)
        yield engine, stats.error


def against_ground_truth(scan: Scan, engine: RefinementEngine) -> Aligned:
    """Align an object with its ground truth."""
    return align(engine.object.numpy(), engine.origin, engine.coverage(), scan.truth.object, scan.truth.origin)


def phase_psnr(pair: Aligned) -> float:
    """Phase PSNR against the range of the ground truth, dB."""
    return image_metrics(pair.object, pair.truth, pair.mask, 3.0)["phase_psnr_truth_range"]


def psnr_by_epoch(scan: Scan, settings: Refinement) -> list[float]:
    """Phase PSNR after each epoch, dB."""
    return [phase_psnr(against_ground_truth(scan, engine)) for engine, _ in refined(scan, settings)]


# --- drawing ---


def panels(columns: int, width: float = 7.2, height: float = 2.2, **options: object) -> tuple[Figure, list[Axes]]:
    """Make a row of panels."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained", **options)
    return figure, list(np.atleast_1d(axes))


def show(axis: Axes, image: np.ndarray, title: str, colours: str = "viridis", limit: float | None = None) -> None:
    """Draw an image without ticks, symmetric about 0 where a limit is given."""
    low, high = (None, None) if limit is None else (-limit, limit)
    axis.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axis.set(title=title, xticks=[], yticks=[])


def show_phase(axis: Axes, pair: Aligned, title: str, limit: float = 1.0) -> None:
    """Draw the phase of an aligned object where it is known."""
    phase = np.where(pair.mask, np.angle(pair.object * np.conj(pair.object[pair.mask].sum())), 0)
    show(axis, cut_to(phase, pair.mask), title, "viridis", limit)


def cut_to(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cut an image to the rows and columns that a mask reaches over."""
    rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    return image[rows, columns]


def coloured(wave: np.ndarray) -> np.ndarray:
    """Return a wave as colours: hue for phase, brightness for amplitude, ``(H, W, 3)``."""
    hue, value = (np.angle(wave) / (2 * np.pi)) % 1, np.abs(wave) / np.abs(wave).max()
    return matplotlib.colors.hsv_to_rgb(np.stack([hue, np.ones_like(hue), value], axis=-1))


# --- one picture a page ---


@drawing
def forward_model() -> Figure:
    """Draw probe, object patch, exit wave, expected counts and counts of one pattern."""
    scan = simulated_scan(photons=2e4)
    number = len(scan) // 2
    probe = torch.from_numpy(scan.probe)
    whole, subpixel = split_positions(torch.from_numpy(scan.positions[number : number + 1]))
    patch = cut_windows(torch.from_numpy(scan.truth.object), whole - SIZE // 2, SIZE)
    shifted = shift_probe(probe, subpixel)
    expected = expected_counts(patch, shifted)[0].numpy()
    figure, axes = panels(5)
    show(axes[0], coloured(shifted[0, 0].numpy()), r"probe $P(r-d_j)$")
    show(axes[1], np.angle(patch[0].numpy()), r"object patch $O_j$, phase")
    show(axes[2], coloured((patch * shifted[0])[0].numpy()), r"exit wave $P\,O_j$")
    show(axes[3], np.log10(expected + 0.1), r"expected counts $I_j$, log", "magma")
    show(axes[4], np.log10(scan.counts[number] + 0.1), r"counts $n_j$, log", "magma")
    return figure


@drawing
def rpie() -> Figure:
    """Draw the weight of the object update under two values of alpha, and PSNR with and without annealing."""
    scan = simulated_scan(photons=1e5, step_px=6.0)
    power = np.abs(scan.probe[0]) ** 2
    figure, axes = panels(3, height=2.4, width_ratios=(1, 1, 1.5))
    for axis, alpha in zip(axes, (0.1, 1.0)):
        show(axis, power / ((1 - alpha) * power + alpha * power.max()), rf"update weight, $\alpha$ = {alpha:g}")
    for label, step, alpha in (
        ("step 1.5, alpha 0.1", (1.5, 1.5), (0.1, 0.1)),
        ("step 0.3, alpha 1", (0.3, 0.3), (1.0, 1.0)),
        ("annealed, 1.5 to 0.3", (1.5, 0.3), (0.1, 1.0)),
    ):
        values = psnr_by_epoch(scan, Refinement(epochs=20, step_size=step, alpha=alpha))
        axes[2].plot(range(1, 21), values, label=label)
    axes[2].set(xlabel="epoch", ylabel="phase PSNR, dB", title="20 epochs")
    axes[2].legend(fontsize=7)
    return figure


@drawing
def low_order_phase() -> Figure:
    """Draw the phase after two epochs with and without the low-order phase solve."""
    scan = simulated_scan(kind="gaussian_random_field", photons=1e6)
    figure, axes = panels(3, height=2.5)
    pairs = []
    for epochs in (0, 2):
        *_, (engine, _) = refined(scan, Refinement(epochs=2, low_order_phase_epochs=epochs))
        pairs.append(against_ground_truth(scan, engine))
    show_phase(axes[0], replace(pairs[0], object=pairs[0].truth), "ground truth, phase", 0.8)
    for axis, pair, label in zip(axes[1:], pairs, ("rPIE alone", "with low-order phase")):
        show_phase(axis, pair, f"{label}, 2 epochs\n{phase_psnr(pair):.1f} dB", 0.8)
    return figure


@drawing
def mixed_state_probe() -> Figure:
    """Draw three modes refined from one, and the R-factor by their number."""
    scan = simulated_scan(photons=1e6, modes=(0.75, 0.17, 0.08), step_px=6.0)
    single = make_probe(ProbeRecipe(), SIZE, 1e6, np.random.default_rng(3))
    scan = replace(scan, probe=single)
    ends = {}
    for count in (1, 2, 3, 4):
        *_, (engine, error) = refined(scan, Refinement(epochs=25, probe_start_epoch=2, probe_modes=count))
        ends[count] = engine.probe.numpy(), error
    found = ends[3][0]
    figure, axes = panels(4, height=2.3, width_ratios=(1, 1, 1, 1.3))
    powers = (np.abs(found) ** 2).sum((1, 2))
    for number, (axis, mode) in enumerate(zip(axes, found)):
        show(axis, coloured(mode), f"mode {number + 1}, {100 * powers[number] / powers.sum():.0f} %")
    axes[3].semilogy(list(ends), [error for _, error in ends.values()], "o-")
    axes[3].set(xlabel="modes refined", title="R-factor", xticks=(1, 2, 3, 4))
    return figure


@drawing
def probe_relaxation() -> Figure:
    """Draw the variations of a probe whose focus drifts, their weights along the scan, and the R-factor by epoch."""
    scan = disturbed_scan(BeamStability(defocus_drift_waves=0.25))
    errors = {}
    for count in (0, 1, 2):
        settings = Refinement(epochs=30, probe_start_epoch=2, probe_variations=count)
        *states, (engine, last) = refined(scan, settings)
        errors[count] = [*(error for _, error in states), last]
    found = engine.instrument()
    figure, axes = panels(4, height=2.3, width_ratios=(1, 1, 1.3, 1.3))
    for number, (axis, mode) in enumerate(zip(axes, found.probe_variations)):
        show(axis, coloured(mode), f"variation {number + 1}")
    axes[2].plot(found.variation_weights, ".", markersize=2)
    axes[2].set(xlabel="pattern", title="weights")
    for count, values in errors.items():
        axes[3].semilogy(range(1, 31), values, label=f"{count} variations")
    axes[3].set(xlabel="epoch", title="R-factor")
    axes[3].legend(fontsize=7)
    return figure


@drawing
def detector_response() -> Figure:
    """Draw the R-factor by epoch with and without the terms, the fitted background, and the fitted width by epoch."""
    figure, axes = panels(3, height=2.4, width_ratios=(1.4, 1, 1.4))
    base = {"epochs": 40, "probe_start_epoch": 2}
    cases = {"background": ({"dark_counts": 20, "beamstop_px": 6}, {"background_start_epoch": 3})}
    cases["blur"] = ({"point_spread_px": 0.7}, {"point_spread_start_epoch": 3})
    for colour, (name, (detector, settings)) in enumerate(cases.items()):
        scan = disturbed_scan(detector=Detector(**detector))
        for style, extra in (("--", {}), ("-", settings)):
            errors, widths = [], []
            for engine, error in refined(scan, Refinement(**base, **extra)):
                errors.append(error)
                widths.append(engine.detector.point_spread_px)
            axes[0].semilogy(errors, style, color=f"C{colour}", label=f"{name}, {'fitted' if extra else 'ignored'}")
        if name == "background":
            show(axes[1], engine.instrument().background, "background")
    axes[2].plot(widths)
    axes[2].axhline(0.7, linestyle="--", color="black", linewidth=1)
    axes[2].set(xlabel="epoch", title="width of the blur (px)")
    axes[0].set(xlabel="epoch", title="R-factor")
    axes[0].legend(fontsize=7)
    return figure


@drawing
def near_field() -> Figure:
    """Draw a pattern, the R-factor by epoch with recorded and refined positions, and the phase from both."""
    rng, size = np.random.default_rng(3), 64
    recipe = ProbeRecipe(name="diffuser", diameter_px=44, diffuser_feature_px=3.0, diffuser_phase_rad=1.0)
    probe = make_probe(recipe, size, 1e5 * 44**2, rng)
    image = make_object(ObjectRecipe(name="siemens_star", size=(112, 112), phase_rad=(0, 0.6)), rng)
    path = Trajectory(step_px=6.0, error_px=0.7)
    nominal, true = make_trajectory(path, image.shape, size, 44, rng)
    geometry = near_field_geometry(6.5e-6, 7e-11, 0.3, 0.01)
    scan = from_simulation(true, probe, image, nominal_positions=nominal, geometry=geometry)
    figure, axes = panels(4, height=2.4, width_ratios=(1, 1.3, 1, 1))
    show(axes[0], np.sqrt(scan.counts[len(scan) // 2]), "a pattern")
    for axis, (name, first) in zip(axes[2:], (("recorded", None), ("refined", 3))):
        steps = [*refined(scan, Refinement(epochs=40, step_size=(1.0, 0.1), batch_size=4, position_start_epoch=first))]
        axes[1].semilogy([error for _, error in steps], label=f"{name} positions")
        pair = against_ground_truth(scan, steps[-1][0])
        show_phase(axis, pair, f"{name}, {phase_psnr(pair):.1f} dB")
    axes[1].set(xlabel="epoch", title="R-factor")
    axes[1].legend(fontsize=7)
    return figure


@drawing
def multislice() -> Figure:
    """Draw two stars at different depths as one slice and as two, and the R-factor of both by epoch."""
    rng, size, pixel_m, wavelength_m = np.random.default_rng(3), 64, 2.5e-8, 1.4e-10
    spacing_m = 20 * pixel_m**2 / wavelength_m
    recipe = ObjectRecipe(name="siemens_star", size=(144, 144), slices=2, slice_spacing_m=spacing_m)
    slices = make_slices(recipe, 3)
    probe = make_probe(ProbeRecipe(diameter_px=28, defocus=1.5), size, 1e6, rng)
    positions = make_trajectory(Trajectory(step_px=6, jitter_px=1.0), slices.shape[1:], size, 28, rng)[1]
    geometry = Geometry(pixel_m, wavelength_m, 2.0)
    scan = from_simulation(positions, probe, slices, geometry=geometry, slice_spacing_m=spacing_m)
    settings = Refinement(epochs=60, stop="epochs")
    thick = settings.model_copy(update={"slices": 2, "slice_spacing_m": spacing_m})
    figure, axes = panels(4, height=2.4, width_ratios=(1, 1, 1, 1.3))
    for name, choice in (("one slice", settings), ("two slices", thick)):
        found = refine_scan(scan, choice, None, DistributedContext(), None, lambda row: True)
        axes[3].semilogy(found.history["epoch"], found.history["error"], label=name)
        if found.slices is None:
            show(axes[0], np.angle(found.object), "one slice")
        else:
            for number, image in enumerate(found.slices):
                show(axes[number + 1], np.angle(image), f"slice {number + 1} of two")
    axes[3].set(xlabel="epoch", title="R-factor")
    axes[3].legend(fontsize=7)
    return figure


@drawing
def constraints() -> Figure:
    """Draw a star at few photons without and with total variation, and a raster artefact before and after."""
    few = simulated_scan(photons=2e3)
    figure, axes = panels(4, height=2.2)
    for axis, weight in zip(axes, (0.0, 0.02)):
        *_, (engine, _) = refined(few, Refinement(epochs=15, constraints={"total_variation": weight}))
        pair = against_ground_truth(few, engine)
        show_phase(axis, pair, f"{'total variation' if weight else '2e3 photons'}, {phase_psnr(pair):.1f} dB")
    side, step = len(few.truth.object), 9
    grid = torch.from_numpy(np.indices((12, 12)).reshape(2, -1).T * step + SIZE // 2)
    y, x = np.indices((side, side))
    artefact = 0.1 * (np.cos(2 * np.pi * y / step) + np.cos(2 * np.pi * x / step))
    image = torch.from_numpy((few.truth.object * np.exp(1j * artefact)).astype(np.complex64))
    context = ConstraintContext(grid, torch.ones(side, side))
    cleaned = constrain_object(image, Constraints(raster_peaks=1.0), context)
    for axis, found, title in zip(axes[2:], (image, cleaned), ("raster artefact", "its peaks removed")):
        error = np.angle(found.numpy() * few.truth.object.conj())
        show(axis, error - error.mean(), f"{title}, {error.std():.2f} rad", "coolwarm", 0.3)
    return figure


@drawing
def position_refinement() -> Figure:
    """Draw recorded and refined positions against the true ones, and their distance by epoch."""
    scan = simulated_scan(photons=1e5, step_px=6.0, error_px=1.5)
    true = scan.truth.positions

    def off(positions: np.ndarray) -> np.ndarray:
        difference = positions - true
        return difference - difference.mean(0)

    distances = [off(scan.positions).std()]
    for engine, _ in refined(scan, Refinement(epochs=25, low_order_phase_epochs=12, position_start_epoch=2)):
        distances.append(off(engine.positions.numpy()).std())
    figure, axes = panels(3, height=2.6, width_ratios=(1, 1, 1.3))
    for axis, positions, label in (
        (axes[0], scan.positions, "recorded"),
        (axes[1], engine.positions.numpy(), "refined"),
    ):
        axis.plot(*off(positions).T[::-1], ".", markersize=3)
        axis.set(title=f"{label} - true", xlabel="x, px", xlim=(-6, 6), ylim=(6, -6), aspect="equal")
    axes[2].semilogy(distances, ".-")
    axes[2].set(xlabel="epoch", title="rms error along an axis, px")
    return figure


@drawing
def probe_retrieval() -> Figure:
    """Draw the true probe, a guess without its aberrations, what refinement makes of it, and R-factors by epoch."""
    scan = simulated_scan(kind="dead_leaves", photons=1e6, step_px=6.0, aberrations={"astigmatism": 0.2, "coma_x": 0.1})
    guess = make_probe(ProbeRecipe(), SIZE, 1e6, np.random.default_rng(0))
    started = replace(scan, probe=guess)
    kept = [error for _, error in refined(started, Refinement(epochs=40))]
    probes, errors = zip(
        *(
            (engine.probe[0].numpy(), error)
            for engine, error in refined(started, Refinement(epochs=40, probe_start_epoch=2))
        )
    )
    figure, axes = panels(4, height=2.3, width_ratios=(1, 1, 1, 1.3))
    waves = {"true probe": scan.probe[0], "guess": guess[0], "refined, 40 epochs": probes[-1]}
    for axis, (label, wave) in zip(axes, waves.items()):
        show(axis, coloured(wave * np.conj((wave * scan.probe[0].conj()).sum())), label)
    axes[3].semilogy(range(1, 41), kept, label="probe kept")
    axes[3].semilogy(range(1, 41), errors, label="probe refined")
    axes[3].set(xlabel="epoch", title="R-factor")
    axes[3].legend(fontsize=7)
    return figure


@drawing
def phase_synchronisation() -> Figure:
    """Draw patches with random phase offsets, stitched before and after synchronisation."""
    rng = np.random.default_rng(0)
    scan = simulated_scan(kind="procedural")
    image = torch.from_numpy(scan.truth.object)
    positions = torch.from_numpy(np.round(scan.positions))
    weight = torch.from_numpy((np.abs(scan.probe[0]) ** 2 / (np.abs(scan.probe[0]) ** 2).max()).astype(np.float32))
    offsets = torch.from_numpy(np.exp(1j * rng.uniform(-np.pi, np.pi, len(scan))).astype(np.complex64))
    patches = extract_patches(image, positions, SIZE) * offsets[:, None, None]
    pairs = neighbour_pairs(positions.numpy(), reach=SIZE)
    shifts = (positions[pairs[:, 1]] - positions[pairs[:, 0]]).long().numpy()
    overlap, bound = overlaps((patches * weight).numpy(), pairs, shifts)
    found = synchronise(len(scan), pairs, overlap, bound)
    total = place_patches(weight.expand(len(scan), SIZE, SIZE), positions, tuple(image.shape))
    seen = (total > 1e-3 * total.median()).numpy()
    figure, axes = panels(3, height=2.5)
    show(axes[0], np.angle(image.numpy()), "ground truth, phase")
    solved = torch.from_numpy(found.factors)[:, None, None]
    for axis, factors, label in ((axes[1], 1.0, "as predicted"), (axes[2], solved, "synchronised")):
        sums = place_patches(patches * factors * weight, positions, tuple(image.shape))
        mean = (sums / total.clamp_min(1e-12)).numpy()
        mean = mean * np.conj((mean * image.numpy().conj())[seen].sum())
        show(axis, np.where(seen, np.angle(mean), 0), label)
    return figure


@drawing
def group_networks() -> Figure:
    """Draw the canvas of a group of seven after some steps of back-projection."""
    scan = simulated_scan(kind="dead_leaves", photons=1e5)
    counts, probes, centre = group_of(scan, 7)
    canvases = [backproject(counts.sqrt(), probes, iterations=steps).canvas[0].numpy() for steps in (1, 5, 20)]
    corner = torch.from_numpy(centre[None]).long() - SIZE // 2
    truth = cut_windows(torch.from_numpy(scan.truth.object), corner, SIZE)[0].numpy()
    illumination = intensity(probes).sum((1, 2))[0].numpy()
    lit = illumination > 0.05 * illumination.max()
    inner = slice(10, 54)
    figure, axes = panels(5)
    show(axes[0], np.log10(illumination / illumination.max() + 1e-3)[inner, inner], "illumination, log", "magma")
    for axis, canvas, label in zip(axes[1:], [*canvases, truth], ("1 step", "5 steps", "20 steps", "ground truth")):
        turned = canvas * np.conj((illumination * canvas * truth.conj()).sum())
        show(axis, np.where(lit, np.angle(turned), 0)[inner, inner], label, "viridis", 1.0)
    return figure


def group_of(
    scan: Scan, size: int, number: int | None = None, more: int = 0
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return counts, probes and centre of a pattern in the middle and its nearest ones, as networks see them."""
    middle = scan.positions.mean(0) if number is None else scan.positions[number]
    members = np.argsort(np.linalg.norm(scan.positions - middle, axis=1))[: size + more]
    if more:  # members and held-out neighbours are drawn alike
        members = np.random.default_rng(0).permutation(members)
    centre = np.round(scan.positions[members[:size]].mean(0))
    counts = torch.from_numpy(np.fft.ifftshift(scan.counts[members].astype(np.float32), axes=(1, 2)))
    probes = shift_probe(torch.from_numpy(scan.probe), torch.from_numpy(scan.positions[members] - centre))
    return counts[None], probes[None], centre


@drawing
def learned_refinement() -> Figure:
    """Draw what the network of learned refinement sees after the second epoch."""
    scan = simulated_scan(photons=1e5)
    engine = RefinementEngine(scan, Refinement())
    for epoch in range(2):
        before, _ = run_epoch(engine, epoch)
    view = object_features(engine.object, before, engine.preconditioned_gradient(), engine.illumination()).numpy()
    mask = engine.coverage()
    figure, axes = panels(4, height=2.4)
    for axis, image, label, colours in (
        (axes[0], np.angle(view[0]), "object, phase", "viridis"),
        (axes[1], (view[0] - view[1]).imag, "change in last epoch, imag", "RdBu"),
        (axes[2], view[2].imag, "preconditioned gradient, imag", "RdBu"),
        (axes[3], np.log10(view[3].real), "noise level, log", "magma"),
    ):
        inside = np.where(mask, image, np.nan)
        limit = None if colours == "magma" else float(np.nanpercentile(np.abs(inside), 99))
        show(axis, cut_to(inside, mask), label, colours, limit)
        axis.title.set_fontsize(8)
    return figure


@drawing
def learned_prior() -> Figure:
    """Draw a sparse scan refined without and with the learned prior, and the phase PSNR of both by epoch."""
    scan = simulated_scan(photons=1e5, step_px=11.0)
    figure, axes = panels(4, height=2.4)
    for axis, prior, label in ((axes[0], "none", "rPIE"), (axes[1], "pretrained", "with prior")):
        loop = RefinementLoop(RefinementEngine(scan, Refinement.model_validate({"epochs": 20, "prior": prior})))
        by_epoch: list[float] = []

        def judge(row: dict, loop: RefinementLoop = loop, by_epoch: list[float] = by_epoch) -> bool:
            by_epoch.append(phase_psnr(against_ground_truth(scan, loop.engine)))
            return True

        loop.run("scan", judge)
        pair = against_ground_truth(scan, loop.engine)
        show_phase(axis, pair, f"{label}, {by_epoch[-1]:.1f} dB")
        axes[3].plot(range(1, len(by_epoch) + 1), by_epoch, label=label)
    show_phase(axes[2], replace(pair, object=pair.truth), "ground truth")
    axes[3].set(xlabel="epoch", title="phase PSNR, dB")
    axes[3].legend(frameon=False, fontsize=7)
    return figure


@drawing
def held_out_neighbours() -> Figure:
    """Draw data errors of a group's own patterns and of held-out neighbours by steps of back-projection."""
    scan = simulated_scan(kind="dead_leaves", photons=2e3, step_px=6.0, side=160)
    steps = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
    own, held_out, truth_errors = (np.zeros(len(steps)) for _ in range(3))
    numbers = np.argsort(np.linalg.norm(scan.positions - scan.positions.mean(0), axis=1))[:24]
    for number in numbers:
        counts, probes, centre = group_of(scan, 7, number, more=3)
        corner = torch.from_numpy(centre[None]).long() - SIZE // 2
        truth = cut_windows(torch.from_numpy(scan.truth.object), corner, SIZE)
        weight = intensity(probes[:, :7]).sum((1, 2))
        for index, count in enumerate(steps):
            canvas = backproject(counts[:, :7].sqrt(), probes[:, :7], iterations=count).canvas
            expected = expected_counts(canvas[:, None], probes, propagate=far_field_corner)
            own[index] += amplitude_error(counts[:, :7], expected[:, :7])
            held_out[index] += amplitude_error(counts[:, 7:], expected[:, 7:])
            product = intensity((weight * canvas.conj() * truth).sum())
            truth_errors[index] += 1 - product / (
                (weight * intensity(canvas)).sum() * (weight * intensity(truth)).sum()
            )
    figure, axes = panels(2, height=2.6)
    axes[0].loglog(steps, own / len(numbers), ".-", label="its own 7 patterns")
    axes[0].loglog(steps, held_out / len(numbers), ".-", label="3 held-out neighbours")
    axes[0].set(xlabel="steps of back-projection", title="R-factor")
    axes[0].legend(fontsize=7)
    axes[1].loglog(steps, truth_errors / len(numbers), ".-", color="black")
    axes[1].set(xlabel="steps of back-projection", title="patch error against the ground truth")
    return figure


@drawing
def uncertainty() -> Figure:
    """Draw the error of a refined phase and the uncertainty estimated for it."""
    scan = simulated_scan(photons=2e4, side=160)
    settings = Refinement(epochs=15)

    def refine_again(other: Scan) -> RefinementEngine:
        *_, (engine, _) = refined(other, settings)
        return engine

    engine = refine_again(scan)
    deviation = phase_uncertainty(scan, engine, engine.coverage(), refine_again)
    pair = against_ground_truth(scan, engine)
    error = phase_error(pair.object, pair.truth)
    error = np.abs(error - error[pair.mask].mean())
    within = np.mean(error[pair.mask] < deviation[pair.mask])
    figure, axes = panels(3, height=2.5)
    show_phase(axes[0], pair, "refined phase")
    for axis, image, label in (
        (axes[1], error, "|error|, 0 to 0.3 rad"),
        (axes[2], deviation, "standard deviation, 0 to 0.3 rad"),
    ):
        axis.imshow(cut_to(np.where(pair.mask, image, 0), pair.mask), cmap="magma", vmin=0, vmax=0.3)
        axis.set(title=label, xticks=[], yticks=[])
    axes[2].set_xlabel(f"{100 * within:.0f} % of errors lie within one", fontsize=8)
    return figure


@drawing
def resolution() -> Figure:
    """Draw ring correlation of half sets at two doses, with the three thresholds."""
    figure, axes = panels(2, height=2.7, sharey=True)
    for axis, photons in zip(axes, (1e3, 1e5)):
        scan = simulated_scan(photons=photons, step_px=5.0, kind="dead_leaves")
        halves = [part_of(scan, np.arange(first, len(scan), 2)) for first in (0, 1)]
        engines = []
        for half in halves:
            *_, (engine, _) = refined(half, Refinement(epochs=12))
            engines.append(engine)
        coverages = [engine.coverage() for engine in engines]
        one, other = engines
        pair = align(
            one.object.numpy(), one.origin, coverages[0], other.object.numpy(), other.origin,
            truth_coverage=coverages[1],
        )  # fmt: skip
        curve = ring_correlation(pair.object, pair.truth, pair.mask)
        axis.plot(curve.frequency, curve.correlation, color="black")
        for name in THRESHOLDS:
            axis.plot(curve.frequency, curve.threshold(name), "--", linewidth=1, label=name)
        axis.set(xlabel="spatial frequency, cycles/px", title=f"{photons:g} photons per pattern", ylim=(-0.2, 1.02))
    axes[0].set_ylabel("FRC of half sets")
    axes[0].legend(fontsize=7)
    return figure


def part_of(scan: Scan, chosen: np.ndarray) -> Scan:
    """Keep some patterns of a scan."""
    return replace(scan, counts=scan.counts[chosen], positions=scan.positions[chosen])


@drawing
def overlap() -> Figure:
    """Draw the illumination of two scans and the phase PSNR by step."""
    figure, axes = panels(3, height=2.5, width_ratios=(1, 1, 1.4))
    steps, values = (4.0, 6.0, 8.0, 10.0, 12.0, 15.0), []
    for step in steps:
        scan = simulated_scan(photons=1e6, step_px=step)
        *_, (engine, _) = refined(scan, Refinement(epochs=20))
        values.append(phase_psnr(against_ground_truth(scan, engine)))
        if step in (6.0, 15.0):
            axis = axes[0 if step == 6.0 else 1]
            show(axis, np.log10(engine.illumination().numpy() + 1), f"illumination, step {step:g} px", "magma")
    diameter = beam_diameter(np.abs(scan.probe[0]) ** 2)
    axes[2].plot(steps, values, "o-")
    axes[2].set(xlabel="step, px", title=f"phase PSNR, dB (beam {diameter:.0f} px)")
    return figure


@drawing
def convergence() -> Figure:
    """Draw R-factor, phase error and phase change by epoch, with and without the low-order phase solve."""
    scan = simulated_scan(photons=1e6)
    figure, axes = panels(3, height=2.5)
    for label, epochs in (("rPIE alone", 0), ("with low-order phase", 12)):
        rows = []
        for engine, error in refined(scan, Refinement(epochs=30, low_order_phase_epochs=epochs)):
            pair = against_ground_truth(scan, engine)
            found = image_metrics(pair.object, pair.truth, pair.mask, 9.0)
            rows.append((error, found["phase_rms_rad"], found["phase_low_frequency_rms_rad"]))
        for axis, column in zip(axes, zip(*rows)):
            axis.semilogy(range(1, 31), column, label=label)
    for axis, title in zip(axes, ("R-factor met", "phase error, rad rms", "low-frequency part, rad rms")):
        axis.set(xlabel="epoch", title=title)
    axes[0].legend(fontsize=7)
    return figure


@drawing
def noise_floor() -> Figure:
    """Draw the expected residual of a Poisson pixel, and R-factors beside the noise floor by dose."""
    figure, axes = panels(2, height=2.6)
    means = np.geomspace(1e-3, 1e3, 200)
    axes[0].semilogx(means, counting_noise(means), color="black")
    axes[0].axhline(0.25, linestyle="--", linewidth=1)
    axes[0].set(xlabel="expected counts of a pixel", title=r"$E\,(\sqrt{n}-\sqrt{I})^2$")
    doses, reached, floors = (1e3, 1e4, 1e5, 1e6), [], []
    for photons in doses:
        scan = simulated_scan(photons=photons)
        *_, (_, error) = refined(scan, Refinement(epochs=15))
        positions = torch.from_numpy(scan.positions)
        whole, subpixel = split_positions(positions)
        windows = cut_windows(torch.from_numpy(scan.truth.object), whole - SIZE // 2, SIZE)
        expected = expected_counts(windows, shift_probe(torch.from_numpy(scan.probe), subpixel)).numpy()
        reached.append(error)
        floors.append(counting_noise(expected).sum() / scan.counts.sum(dtype=np.float64))
    axes[1].loglog(doses, reached, "o-", label="15 epochs of rPIE")
    axes[1].loglog(doses, floors, "s--", label="noise floor of the ground truth")
    axes[1].set(xlabel="photons per pattern", title="R-factor")
    axes[1].legend(fontsize=7)
    return figure


@drawing
def simulation() -> Figure:
    """Draw object, probe, positions and counts of a simulated scan."""
    scan = simulated_scan(kind="procedural", photons=1e5, side=176)
    figure, axes = panels(5)
    show(axes[0], np.abs(scan.truth.object), "object, amplitude", "gray")
    show(axes[1], np.angle(scan.truth.object), "object, phase")
    show(axes[2], coloured(scan.probe[0]), "probe")
    axes[3].plot(scan.positions[:, 1], scan.positions[:, 0], ".", markersize=2)
    axes[3].set(title="positions", xlim=(0, 176), ylim=(176, 0), aspect="equal", xticks=[], yticks=[])
    show(axes[4], np.log10(scan.counts[len(scan) // 2] + 0.1), "counts, log", "magma")
    return figure


@drawing
def metrics() -> Figure:
    """Draw an object before and after its ambiguities are removed, and its error."""
    scan = simulated_scan(photons=1e5)
    *_, (engine, _) = refined(scan, Refinement(epochs=12))
    found = engine.object.numpy()
    y, x = np.indices(found.shape)
    found = (found * 0.8 * np.exp(1j * (0.6 + 0.02 * x - 0.01 * y))).astype(np.complex64)
    pair = align(found, engine.origin, engine.coverage(), scan.truth.object, scan.truth.origin)
    error = np.where(pair.mask, phase_error(pair.object, pair.truth), 0)
    figure, axes = panels(4, height=2.4)
    show(axes[0], cut_to(np.where(pair.mask, np.angle(found), 0), pair.mask), "with scale and ramp")
    show_phase(axes[1], pair, "gauge removed")
    show_phase(axes[2], replace(pair, object=pair.truth), "ground truth")
    show(axes[3], cut_to(error, pair.mask), "phase error, ±0.2 rad", "RdBu", 0.2)
    return figure


def draw(names: list[str], folder: Path) -> list[Path]:
    """Draw pictures by the names of their pages; return their paths."""
    matplotlib.use("Agg")
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        torch.manual_seed(0)
        with plt.rc_context({"font.size": 8, "axes.titlesize": 8}):
            figure = DRAWINGS[name]()
        written.append(folder / f"{name}.webp")
        figure.savefig(written[-1], dpi=110, pil_kwargs={"quality": 82, "method": 6})
        plt.close(figure)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *DRAWINGS], help="pages whose picture to draw; all without")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write them")
    arguments = parser.parse_args()
    for path in draw(arguments.names or list(DRAWINGS), arguments.folder):
        print(path, f"{path.stat().st_size / 1024:.1f} kB")
