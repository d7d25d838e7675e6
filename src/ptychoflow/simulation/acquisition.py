"""Acquisition: from object, probe and scan path to the counts of a detector."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import Detector, NominalGeometry, Simulation, Trajectory
from ..core.scan import Geometry, GroundTruth, Scan, near_field_geometry, smallest_dtype
from ..io.output_guard import check_outputs
from ..io.product_kinds import SIMULATED_SCAN
from ..io.scan_cxi import write_scan
from ..physics.forward_model import expected_counts, in_detector_frame, probe_spectrum, shift_spectrum
from ..physics.multislice import slice_transfer, transmit
from ..physics.patches import cut_windows, extract_patches, split_positions
from ..physics.propagation import FAR_FIELD, Propagator, angular_spectrum
from .beam_stability import BeamVariation, squared_radius
from .detector import blur_counts, detector_mask, draw_counts
from .probes import beam_diameter, scale_to_photons
from .rng import seeded_rng
from .scan_paths import exposure_points, make_trajectory

BLOCK_VALUES = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Complex numbers in the waves that each thread computes at a time: those that fill a core's cache, or a GPU."""


@dataclass(frozen=True)
class SliceStack:
    """Slices of a thick sample.

    Attributes:
        slices: complex transmissions along the beam, ``(S, H, W)``.
        spacing_m: distance between neighbouring slices, m.
        transfer: of the vacuum between them, zero frequency at the corner, ``(N, N)``.
    """

    slices: np.ndarray
    spacing_m: float
    transfer: Tensor

    @classmethod
    def of(cls, slices: np.ndarray, spacing_m: float | None, size: int, geometry: Geometry) -> "SliceStack | None":
        """Return the stack for waves of ``size`` px; None for a single slice.

        Raises:
            ValueError: if the distance between several slices is not positive, or too long for the waves.
        """
        if len(slices) == 1:
            return None
        if spacing_m is None or not spacing_m > 0:
            raise ValueError(f"got {len(slices)} slices that are {spacing_m} m apart, expected a positive distance")
        transfer = slice_transfer(size, geometry.pixel_size_m, geometry.wavelength_m, spacing_m)
        return cls(slices.astype(np.complex64), spacing_m, transfer.to(torch.complex64))


@dataclass(frozen=True)
class Experiment:
    """Object, probe, positions and detector of a simulated scan.

    Patterns are computed in blocks of a fixed size: no result depends on a batch.

    Attributes:
        object: complex transmission, ``(H, W)``.
        probe: modes, sqrt(photons), ``(M, N, N)``.
        positions: true positions of the beam, px of the object, ``(J, 2)``.
        exposures: points of one exposure relative to its position, px, ``(K, 2)``.
        detector: point spread, dark counts, noise, saturation.
        mask: True where a pixel is valid, ``(N, N)``; None where all are.
        seed: of the noise.
        geometry: lengths of the near field; None is the far field.
        beam: deviation of the beam at each pattern; None for a constant beam.
        thickness: slices of a thick sample, whose product is the object; None for a thin one.
    """

    object: np.ndarray
    probe: np.ndarray
    positions: np.ndarray
    exposures: np.ndarray = field(default_factory=lambda: np.zeros((1, 2)))
    detector: Detector = field(default_factory=Detector)
    mask: np.ndarray | None = None
    seed: int = 0
    geometry: Geometry | None = None
    beam: BeamVariation | None = None
    thickness: SliceStack | None = None

    def __post_init__(self) -> None:
        size = self.probe.shape[-1]
        if min(self.object.shape) < size:
            raise ValueError(
                f"the probe is {size} px wide, larger than the object of {self.object.shape} px: enlarge the object"
            )
        first = (self.positions[:, None] + self.exposures).reshape(-1, 2).round() - size // 2
        outside = ((first < 0) | (first + size > self.object.shape)).any(1).reshape(len(self.positions), -1).any(1)
        if outside.any():
            last = tuple(side - size + size // 2 for side in self.object.shape)
            raise ValueError(
                f"positions: {outside.sum()} of {len(outside)} lie outside, the first is number {outside.argmax()} at "
                f"{tuple(self.positions[outside][0].tolist())}; patches of {size} px in an object of "
                f"{self.object.shape} px have their centres from {(size // 2, size // 2)} to {last}"
            )

    def __len__(self) -> int:
        """Return the number of patterns J."""
        return len(self.positions)

    def expected(self, device: str = "cpu") -> Iterator[Tensor]:
        """Compute the expected counts in blocks, without noise and mask.

        Args:
            device: where to compute.

        Yields:
            Expected counts, float32, ``(b, N, N)``, zero frequency at the centre.
        """
        stack = self.object[None] if self.thickness is None else self.thickness.slices
        layers, probe = (torch.from_numpy(array).to(device, torch.complex64) for array in (stack, self.probe))
        above, image = layers[:-1], layers[-1]
        size, per_pattern = probe.shape[-1], probe.numel() * len(self.exposures)
        near = self._near_field(device)
        if near.transfer is None:
            # a phase ramp on the object puts the zero frequency of the corner far field at the centre: no roll needed
            image = image * _centring_ramp(self.object.shape, size).to(image)
        spectrum = probe_spectrum(probe)
        radius = None if self.beam is None else squared_radius(spectrum)
        block = _block_size(per_pattern, torch.device(device))
        for first in range(0, len(self), block):
            points = torch.from_numpy(self.positions[first : first + block, None] + self.exposures).to(device)
            whole, subpixel_shift = split_positions(points.flatten(0, 1))
            windows = cut_windows(image, whole - size // 2, size)
            own = spectrum
            if self.beam is not None and radius is not None:
                own = self.beam.vary_spectrum(spectrum, radius, slice(first, first + block), len(self.exposures))
            propagate = in_detector_frame(near, subpixel_shift)
            waves = shift_spectrum(own, subpixel_shift)
            if self.thickness is not None:  # from the first slice on to the last
                incident = torch.stack([*(cut_windows(layer, whole - size // 2, size) for layer in above), windows])
                waves = transmit(waves, incident, self.thickness.transfer.to(device))[0][-1]
            yield self._detected(expected_counts(windows, waves, propagate=propagate))

    def _near_field(self, device: str) -> Propagator:
        """Return the propagator to the near field, laid out as the pattern is; to the far field in corner layout."""
        if self.geometry is None or not self.geometry.near_field:
            return FAR_FIELD
        geometry, size = self.geometry, self.probe.shape[-1]
        lengths = geometry.pixel_size_m, geometry.wavelength_m, geometry.effective_distance_m
        transfer = angular_spectrum(size, *lengths)
        return Propagator(transfer).to(device)

    def _detected(self, counts: Tensor) -> Tensor:
        """Average the counts of each exposure, ``(b K, N, N)``, blur them, and add dark counts: ``(b, N, N)``.

        Steps without effect are skipped: each would copy every pattern.
        """
        if len(self.exposures) > 1:
            counts = counts.unflatten(0, (-1, len(self.exposures))).mean(1)
        if self.detector.point_spread_px > 0:
            counts = blur_counts(counts, self.detector.point_spread_px)
        return counts + self.detector.dark_counts if self.detector.dark_counts > 0 else counts

    def counts(self, device: str = "cpu") -> Iterator[np.ndarray]:
        """Draw the counts in blocks; noise is drawn on as many threads as torch uses.

        Args:
            device: where to compute the expected counts.

        Yields:
            Counts, int64, ``(b, N, N)``.
        """

        def draw(index: int, expected: np.ndarray) -> np.ndarray:
            return draw_counts(expected, self.detector, self.mask, self.seed, index)

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            waiting: deque[list[Future[np.ndarray]]] = deque()
            first = 0
            for block in self.expected(device):
                patterns = block.cpu().numpy()
                waiting.append(
                    list(map(pool.submit, [draw] * len(patterns), range(first, first + len(patterns)), patterns))
                )
                first += len(patterns)
                if len(waiting) > 4:
                    yield np.stack([pattern.result() for pattern in waiting.popleft()])
            while waiting:
                yield np.stack([pattern.result() for pattern in waiting.popleft()])


def from_simulation(
    positions: np.ndarray,
    probe: np.ndarray,
    object: np.ndarray,
    photons: float | None = None,
    detector: Detector = Detector(),
    seed: int = 0,
    geometry: Geometry | None = None,
    nominal_positions: np.ndarray | None = None,
    exposures: np.ndarray | None = None,
    name: str = "simulation",
    device: str = "cpu",
    slice_spacing_m: float | None = None,
) -> Scan:
    """Simulate a scan in memory from arrays.

    Args:
        positions: true positions of the beam, px of the object, ``(J, 2)``.
        probe: ``(M, N, N)`` or ``(N, N)``.
        object: complex transmission, ``(H, W)``, or slices of a thick sample, ``(S, H, W)``.
        photons: per pattern; None keeps those that the probe carries.
        detector: point spread, dark counts, noise, saturation, dead pixels.
        seed: of the noise and of dead pixels.
        geometry: lengths; nominal ones without it.
        nominal_positions: recorded positions, px, ``(J, 2)``, where they differ from the true ones.
        exposures: points of one exposure relative to its position, px, ``(K, 2)``.
        name: of the scan.
        device: where to compute the expected counts; noise is always drawn on the CPU.
        slice_spacing_m: distance between slices, m; the probe is that on the first.

    Returns:
        The scan, its counts in the smallest dtype that holds them, the object as its ground truth.

    Raises:
        ValueError: if positions lie outside the object, or the probe is larger than it.
    """
    probe = probe[None] if probe.ndim == 2 else probe
    probe = scale_to_photons(probe, _photons(probe) if photons is None else photons)
    exposures = np.zeros((1, 2)) if exposures is None else exposures
    mask = detector_mask(detector, probe.shape[-1], seed)
    positions = np.asarray(positions, np.float64)
    geometry = geometry or nominal_geometry(Simulation().geometry, probe.shape[-1])
    slices = object.astype(np.complex64).reshape(-1, *object.shape[-2:])
    thickness = SliceStack.of(slices, slice_spacing_m, probe.shape[-1], geometry)
    image = slices.prod(0)
    experiment = Experiment(image, probe, positions, exposures, detector, mask, seed, geometry, thickness=thickness)
    counts = np.concatenate(list(experiment.counts(device)))
    nominal = positions if nominal_positions is None else nominal_positions
    metadata = {
        "photons_requested": _photons(probe),
        "photons_measured": float(counts.sum(dtype=np.float64) / len(counts)),
    }
    return as_scan(experiment, counts.astype(smallest_dtype(counts)), nominal, geometry, name, metadata)


def simulate_multiple_experiments(
    objects: Sequence[np.ndarray],
    probes: Sequence[np.ndarray],
    trajectory: Trajectory = Trajectory(),
    photons: float | None = None,
    detector: Detector = Detector(),
    seed: int = 0,
    geometry: Geometry | None = None,
    folder: Path | None = None,
    device: str = "cpu",
) -> list[Scan]:
    """Simulate one scan of each object: object i with probe ``i % len(probes)`` and seed ``seed + i``.

    Args:
        objects: complex transmissions, ``(H, W)`` each.
        probes: ``(M, N, N)`` or ``(N, N)`` each.
        trajectory: the scan path over every object.
        photons: per pattern; None keeps those of each probe.
        detector: point spread, dark counts, noise, saturation, dead pixels.
        seed: of the first scan.
        geometry: lengths; nominal ones without it.
        folder: where to write ``synthetic_{i}.cxi`` as well.
        device: where to compute the expected counts.

    Returns:
        The scans, in memory; the command ``simulate`` makes larger ones.

    Raises:
        ValueError: if objects or probes are missing, a probe is larger than its object, or something else than a
            scan stands at a file's place.
    """
    if not objects or not probes:
        raise ValueError(
            f"expected at least one object and one probe, got {len(objects)} objects and {len(probes)} probes"
        )
    scans = []
    for number, image in enumerate(objects):
        probe, own_seed = probes[number % len(probes)], seed + number
        diameter = beam_diameter(np.sum(np.abs(probe.reshape(-1, *probe.shape[-2:])) ** 2, axis=0))
        nominal, true = make_trajectory(
            trajectory, image.shape, probe.shape[-1], diameter, seeded_rng(own_seed, "trajectory")
        )
        scan = from_simulation(
            true, probe, image, photons, detector, own_seed, geometry, nominal, exposure_points(trajectory),
            name=f"synthetic_{number}", device=device,
        )  # fmt: skip
        if folder is not None:
            path = Path(folder) / f"{scan.name}.cxi"
            check_outputs([(path, SIMULATED_SCAN)])
            write_scan(path, scan)
        scans.append(scan)
    return scans


def as_scan(
    experiment: Experiment,
    counts: np.ndarray,
    nominal_positions: np.ndarray,
    geometry: Geometry,
    name: str,
    metadata: dict,
) -> Scan:
    """Make the scan of an experiment, with its object and true positions as ground truth.

    Args:
        experiment: object, probe, true positions, mask.
        counts: drawn from it, ``(J, N, N)``.
        nominal_positions: recorded positions, px, ``(J, 2)``.
        geometry: lengths.
        name: of the scan.
        metadata: plain data to keep with it.

    Returns:
        The scan.
    """
    displaced = not np.array_equal(nominal_positions, experiment.positions)
    thick = experiment.thickness
    truth = GroundTruth(
        experiment.object,
        positions=experiment.positions if displaced else None,
        slices=None if thick is None else thick.slices,
        slice_spacing_m=0.0 if thick is None else thick.spacing_m,
    )
    return Scan(counts, nominal_positions, experiment.probe, geometry, experiment.mask, truth, name, metadata)


def cut_labels(scan: Scan) -> np.ndarray:
    """Cut labels: the patch of the ground truth under each pattern, by the function whose adjoint stitches.

    Args:
        scan: with a ground truth.

    Returns:
        Patches, complex, ``(J, N, N)``.

    Raises:
        ValueError: if the scan has no ground truth.
    """
    if scan.truth is None:
        raise ValueError(
            f"{scan.name} has no ground truth to cut labels from: simulate it, or set source.object_is_ground_truth"
        )
    positions = scan.positions if scan.truth.positions is None else scan.truth.positions
    relative = torch.from_numpy(positions - np.asarray(scan.truth.origin))
    return extract_patches(torch.from_numpy(np.asarray(scan.truth.object)), relative, scan.size).numpy()


def nominal_geometry(lengths: NominalGeometry, size: int) -> Geometry:
    """Make the geometry of simulated patterns.

    Args:
        lengths: energy, detector distance and pixel.
        size: side N of a pattern, px.
    """
    far = Geometry.from_detector(size, lengths.energy_ev, lengths.detector_distance_m, lengths.detector_pixel_m)
    if lengths.propagation == "far_field":
        return far
    return near_field_geometry(
        lengths.detector_pixel_m, far.wavelength_m, far.detector_distance_m, lengths.focus_distance_m
    )


def _block_size(per_pattern: int, device: torch.device) -> int:
    """Return the number of patterns to compute at once, each of so many complex numbers."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return max(1, threads * BLOCK_VALUES[device.type] // per_pattern)


def _centring_ramp(shape: tuple[int, int], size: int) -> Tensor:
    """Return ``exp(2 pi i r . (N // 2) / N)``, which shifts the far fields of windows of N px by ``N // 2`` px."""
    y, x = (np.exp(2j * np.pi * (np.arange(side) * (size // 2) % size) / size) for side in shape)
    return torch.from_numpy(y[:, None] * x)


def _photons(probe: np.ndarray) -> float:
    """Return the photons per pattern that a probe carries."""
    return float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
