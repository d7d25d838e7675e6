"""Experiments: object, probe and path put together into the counts that a detector gives."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import Detector, NominalGeometry, Simulation, Trajectory
from ..core.scan import Geometry, GroundTruth, Scan, smallest_dtype
from ..io.scan_cxi import write_scan
from ..physics.forward_model import expected_counts, probe_spectrum, shift_spectrum
from ..physics.patches import cut_windows, extract_patches, split_positions
from ..physics.propagation import far_field_corner
from .detector import count, detector_mask, spread_charge
from .probes import beam_diameter, scale_to_photons
from .rng import seeded_rng
from .scan_paths import exposure_points, make_trajectory

BLOCK_VALUES = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Complex numbers in the waves that each thread computes at a time: what a core's cache holds, and what fills a GPU."""


@dataclass(frozen=True)
class Experiment:
    """What counts follow from. Patterns are computed in blocks of a fixed size: no result depends on a batch.

    Attributes:
        object: complex transmission, ``(H, W)``.
        probe: modes, sqrt(photons), ``(M, N, N)``.
        positions: where the beam is, px of the object, ``(J, 2)``.
        exposures: points of one exposure relative to its position, px, ``(K, 2)``.
        detector: what counts the photons.
        mask: True where a pixel counts, ``(N, N)``; None where all do.
        seed: of the noise.
        propagate: from the exit wave to the wave on the detector, laid out as the pattern is; None is the far field.
    """

    object: np.ndarray
    probe: np.ndarray
    positions: np.ndarray
    exposures: np.ndarray = field(default_factory=lambda: np.zeros((1, 2)))
    detector: Detector = field(default_factory=Detector)
    mask: np.ndarray | None = None
    seed: int = 0
    propagate: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        size = self.probe.shape[-1]
        if min(self.object.shape) < size:
            raise ValueError(f"the probe is {size} px wide, larger than the object of {self.object.shape} px")
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
        return len(self.positions)

    def expected(self, device: str = "cpu") -> Iterator[Tensor]:
        """Expected counts in blocks, float32, ``(b, N, N)``, zero frequency at the centre; no noise, nothing masked."""
        image, probe = (torch.from_numpy(array).to(device, torch.complex64) for array in (self.object, self.probe))
        size, per_pattern, propagate = probe.shape[-1], probe.numel() * len(self.exposures), self.propagate
        if propagate is None:
            # under a tilted object the corner far field has zero frequency in the middle: no pattern is rolled
            image, propagate = image * _tilt(self.object.shape, size).to(image), far_field_corner
        spectrum = probe_spectrum(probe)
        block = _block_size(per_pattern, torch.device(device))
        for first in range(0, len(self), block):
            places = torch.from_numpy(self.positions[first : first + block, None] + self.exposures).to(device)
            whole, subpixel_shift = split_positions(places.flatten(0, 1))
            windows = cut_windows(image, whole - size // 2, size)
            yield self._detected(
                expected_counts(windows, shift_spectrum(spectrum, subpixel_shift), propagate=propagate)
            )

    def _detected(self, counts: Tensor) -> Tensor:
        """What the detector expects of the light of each exposure, ``(b K, N, N)``: their mean, blurred, ``(b, N, N)``.

        What changes nothing is left out: each would copy every pattern.
        """
        if len(self.exposures) > 1:
            counts = counts.unflatten(0, (-1, len(self.exposures))).mean(1)
        if self.detector.point_spread_px > 0:
            counts = spread_charge(counts, self.detector.point_spread_px)
        return counts + self.detector.dark_counts if self.detector.dark_counts > 0 else counts

    def counts(self, device: str = "cpu") -> Iterator[np.ndarray]:
        """Counts in blocks, whole numbers, int64, ``(b, N, N)``; noise is drawn on as many threads as torch uses."""

        def draw(index: int, expected: np.ndarray) -> np.ndarray:
            return count(expected, self.detector, self.mask, self.seed, index)

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            waiting, first = deque(), 0
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
) -> Scan:
    """Simulate a scan in memory from arrays.

    Args:
        positions: where the beam is, px of the object, ``(J, 2)``.
        probe: ``(M, N, N)`` or ``(N, N)``.
        object: complex transmission, ``(H, W)``.
        photons: per pattern; None keeps those that the probe carries.
        detector: what counts them.
        seed: of the noise and of dead pixels.
        geometry: lengths; nominal ones without it.
        nominal_positions: what is recorded as positions, where that differs from where the beam was.
        exposures: points of one exposure relative to its position, px, ``(K, 2)``.
        name: of the scan.
        device: what computes the expected counts. The noise is always drawn on the processor.

    Returns:
        The scan, its counts in the smallest dtype that holds them, its truth the object.

    Raises:
        ValueError: if positions lie outside the object, or the probe is larger than it.
    """
    probe = probe[None] if probe.ndim == 2 else probe
    probe = scale_to_photons(probe, _light(probe) if photons is None else photons)
    still = np.zeros((1, 2)) if exposures is None else exposures
    mask = detector_mask(detector, probe.shape[-1], seed)
    positions = np.asarray(positions, np.float64)
    experiment = Experiment(object.astype(np.complex64), probe, positions, still, detector, mask, seed)
    counts = np.concatenate(list(experiment.counts(device)))
    nominal = positions if nominal_positions is None else nominal_positions
    geometry = geometry or nominal_geometry(Simulation().geometry, probe.shape[-1])
    metadata = {"photons_asked": _light(probe), "photons_measured": float(counts.sum(dtype=np.float64) / len(counts))}
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
        trajectory: the path over every object.
        photons: per pattern; None keeps those of each probe.
        detector: what counts them.
        seed: of the first scan.
        geometry: lengths; nominal ones without it.
        folder: where to write ``synthetic_{i}.cxi`` as well.
        device: what computes the expected counts.

    Returns:
        The scans, in memory; the command ``simulate`` makes those that are larger.
    """
    if not objects or not probes:
        raise ValueError(f"expected objects and probes, got {len(objects)} objects and {len(probes)} probes")
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
            write_scan(Path(folder) / f"{scan.name}.cxi", scan)
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
    """The scan of an experiment: positions as recorded, and in its truth the object and where the beam really was."""
    astray = not np.array_equal(nominal_positions, experiment.positions)
    truth = GroundTruth(experiment.object, positions=experiment.positions if astray else None)
    return Scan(counts, nominal_positions, experiment.probe, geometry, experiment.mask, truth, name, metadata)


def cut_labels(scan: Scan) -> np.ndarray:
    """The patch of the truth under each pattern, ``(J, N, N)``, cut by the function whose adjoint stitches.

    Raises:
        ValueError: if the scan has no truth.
    """
    if scan.truth is None:
        raise ValueError(f"{scan.name} has no truth to cut labels from: only simulated scans have")
    places = scan.positions if scan.truth.positions is None else scan.truth.positions
    relative = torch.from_numpy(places - np.asarray(scan.truth.origin))
    return extract_patches(torch.from_numpy(np.asarray(scan.truth.object)), relative, scan.size).numpy()


def nominal_geometry(lengths: NominalGeometry, size: int) -> Geometry:
    """The geometry of simulated patterns of ``size`` px."""
    return Geometry.from_detector(size, lengths.energy_ev, lengths.detector_distance_m, lengths.detector_pixel_m)


def _block_size(per_pattern: int, device: torch.device) -> int:
    """How many patterns to compute at once, each of so many complex numbers."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return max(1, threads * BLOCK_VALUES[device.type] // per_pattern)


def _tilt(shape: tuple[int, int], size: int) -> Tensor:
    """``exp(2 pi i r . (N // 2) / N)``, ``shape``: moves the far fields of windows of N px by ``N // 2`` px."""
    y, x = (np.exp(2j * np.pi * (np.arange(side) * (size // 2) % size) / size) for side in shape)
    return torch.from_numpy(y[:, None] * x)


def _light(probe: np.ndarray) -> float:
    """Photons that a probe carries."""
    return float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
