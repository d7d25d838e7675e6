"""Fit object and probe to the counts: the last mile from the network's result, the whole way from a flat object."""

import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .config import Refinement, Runtime
from .data.packing import open_dataset
from .files import provenance
from .physics.forward import fourier_ramp, intensity
from .physics.patches import split_positions, window_pixels
from .physics.propagation import far_field_corner, far_field_corner_inverse
from .physics.tilts import smooth_phase, tilt_equations
from .progress import track
from .reconstruction import Reconstruction, read_reconstruction, write_reconstruction
from .scan import Scan

logger = logging.getLogger(__name__)

BATCH = 64
"""Patterns at a time where their order does not matter."""
CACHE = 1 << 29
"""Most bytes to keep probes moved to every pattern in."""
KNOTS = 4.0
"""Spacing of the smooth phase's knots, in rms radii of the beam: nearer ones cannot be told from what PIE finds."""
LIT = 0.1
"""Least light of a pixel that counts as seen, relative to the median of those that light falls on."""


class Fit:
    """An object and a probe on their way to explain the counts of a scan.

    Args:
        scan: what to explain.
        settings: how.
        start: a reconstruction to start from; a flat object without it.

    Attributes:
        object: complex, ``(H, W)``.
        origin: position of its pixel ``[0, 0]``, px.
        probe: modes, ``(M, N, N)``.
    """

    def __init__(self, scan: Scan, settings: Refinement, start: Reconstruction | None = None) -> None:
        self.settings = settings
        self.size = scan.size
        shape, self.origin = _area(scan, start)
        self.object = torch.ones(shape, dtype=torch.complex64)
        self.probe = torch.from_numpy(scan.probe.astype(np.complex64))
        self._mask = None if scan.mask is None else torch.from_numpy(np.fft.ifftshift(scan.mask)).float()
        whole, rest = split_positions(torch.from_numpy(scan.positions) - torch.tensor(self.origin, dtype=torch.float64))
        self._places = whole.numpy()
        self._pixels = (whole - self.size // 2) @ torch.tensor([shape[1], 1])
        self._window = window_pixels(self.size, shape[1])
        self._rests = rest
        counts = np.fft.ifftshift(scan.counts, axes=(1, 2))
        self._amplitude = torch.from_numpy(np.sqrt(counts, dtype=np.float32))
        measured = self._amplitude if self._mask is None else self._amplitude * self._mask
        self._total = float(measured.square().sum(dtype=torch.float64))
        self._generator = torch.Generator().manual_seed(settings.seed)
        if start is not None:
            self.object.copy_(torch.from_numpy(start.object))
        self._moved = None

    def __len__(self) -> int:
        return len(self._rests)

    def epoch(self, update_probe: bool, done: float = 0.0) -> float:
        """Pass once over all patterns in random order; returns the R-factor met on the way.

        ``done`` is the share of the fit that lies behind, 0 to 1: it takes step and alpha from first to last.
        """
        self._rate, self._alpha = (_between(pair, done) for pair in (self.settings.step, self.settings.alpha))
        if update_probe:
            self._moved = None
        elif self._moved is None and 8 * len(self) * self.probe.numel() < CACHE:
            self._moved = torch.cat([self._move(rest) for rest in self._rests.split(BATCH)])
        order = torch.randperm(len(self), generator=self._generator)
        error = sum(self._step(batch, update_probe) for batch in order.split(self.settings.batch_size))
        return error / self._total

    def straighten(self) -> float:
        """Give the object the smooth phase that the patterns ask for; returns the greatest change, rad."""
        matrices, sides = [], []
        for batch in torch.arange(len(self)).split(BATCH):
            _, _, wave, modulus, miss = self._look(batch)
            matrix, side = tilt_equations(wave, modulus, miss)
            matrices.append(matrix)
            sides.append(side)
        light = intensity(self.probe).sum(0)
        matrices, sides = torch.cat(matrices).double().numpy(), torch.cat(sides).double().numpy()
        phase = smooth_phase(matrices, sides, self._places, self.object.shape, KNOTS * _rms_radius(light))
        self.object *= torch.from_numpy(np.exp(1j * phase).astype(np.complex64))
        return float(np.abs(phase).max())

    def light(self) -> Tensor:
        """Photons that fall on each pixel of the object over the whole scan, ``(H, W)``."""
        total = torch.zeros(self.object.numel())
        for batch in torch.arange(len(self)).split(BATCH):
            total.index_add_(0, self._under(batch).flatten(), intensity(self._probes(batch)).sum(1).flatten())
        return total.view(self.object.shape)

    def _look(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Probes and windows of a batch, the waves they make, their modulus, and what it misses of the amplitude."""
        probes = self._probes(batch)
        windows = self.object.view(-1)[self._under(batch)].view(-1, 1, self.size, self.size)
        wave = far_field_corner(windows * probes)
        modulus = intensity(wave).sum(1).clamp_min_(1e-12).sqrt_()
        miss = self._amplitude[batch] - modulus
        return probes, windows, wave, modulus, miss if self._mask is None else miss * self._mask

    def _step(self, batch: Tensor, update_probe: bool) -> float:
        """One regularised PIE step on a batch of patterns (rPIE: Maiden et al. 2017, Optica 4, 736, eq. 18)."""
        probes, windows, wave, modulus, miss = self._look(batch)
        error = float(miss.square().sum())
        change = far_field_corner_inverse(wave.mul_((miss / modulus)[:, None]))
        if update_probe:
            self._update_probe(batch, windows, change)
        light = intensity(probes).sum(1)
        floor = torch.lerp(light, light.amax((1, 2), keepdim=True), self._alpha)
        step = self._rate * (probes.conj() * change).sum(1) / floor
        self.object.view(-1).index_add_(0, self._under(batch).flatten(), step.flatten())
        return error

    def _update_probe(self, batch: Tensor, windows: Tensor, change: Tensor) -> None:
        """The same step for the probe, averaged over the batch, each pattern's share moved back by its rest."""
        back = far_field_corner(windows.conj() * change) * self._ramps(self._rests[batch]).conj()
        step = far_field_corner_inverse(back.sum(0))
        power = intensity(windows).sum((0, 1))
        self.probe = self.probe + self._rate * step / torch.lerp(power, power.max(), self._alpha)

    def _under(self, batch: Tensor) -> Tensor:
        """Pixels of the object under each pattern of a batch, counted along its rows, ``(b, N * N)``."""
        return self._pixels[batch][:, None] + self._window

    def _probes(self, batch: Tensor) -> Tensor:
        """Modes moved to each pattern's sub-pixel rest, ``(b, M, N, N)``."""
        return self._move(self._rests[batch]) if self._moved is None else self._moved[batch]

    def _move(self, rests: Tensor) -> Tensor:
        return far_field_corner_inverse(far_field_corner(self.probe) * self._ramps(rests))

    def _ramps(self, rests: Tensor) -> Tensor:
        return fourier_ramp(rests, self.size, torch.float32)[:, None]


def refine(
    dataset: Path,
    output: Path,
    refinement: Refinement = Refinement(),
    start: Path | None = None,
    runtime: Runtime = Runtime(),
) -> None:
    """Refine a reconstruction of a scan, or reconstruct it from a flat object.

    Args:
        dataset: the scan.
        output: the reconstruction, a ptychodus product, with its history.
        refinement: epochs, steps, what to refine.
        start: reconstruction to start from, such as ``stitch`` wrote; a flat object without it.
        runtime: device and threads.

    Raises:
        FileNotFoundError: if the dataset or the start is missing.
        ValueError: if either is damaged, or the fit fails.
    """
    scan = open_dataset(dataset)
    begin = None if start is None else read_reconstruction(start)
    logger.info("read %s: %d patterns of %d px; starting from %s", dataset, len(scan), scan.size, start or "nothing")
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    began, began_cpu = time.perf_counter(), time.process_time()
    fit = Fit(scan, refinement, begin)
    history = {name: [] for name in ("epoch", "seconds", "cpu_seconds", "error")}
    kept, snapshots = _snapshot_epochs(refinement.epochs), [fit.object.numpy().copy()]
    for epoch in track(range(1, refinement.epochs + 1), "refining"):
        free = refinement.probe_from is not None and epoch >= refinement.probe_from
        error = fit.epoch(update_probe=free, done=(epoch - 1) / max(refinement.epochs - 1, 1))
        if epoch <= refinement.smooth_epochs:
            fit.straighten()
        if not np.isfinite(error):
            raise ValueError(f"the fit of {scan.name} diverged in epoch {epoch}: lower refinement.step")
        row = (epoch, time.perf_counter() - began, time.process_time() - began_cpu, error)
        for name, value in zip(history, row, strict=True):
            history[name].append(value)
        if epoch in kept:
            snapshots.append(fit.object.numpy().copy())
    light = fit.light().numpy()
    facts = {
        "start": None if start is None else str(Path(start).name),
        "patterns": len(scan),
        "snapshot_epochs": [0, *kept],
        "seconds": history["seconds"][-1],
        "cpu_seconds": history["cpu_seconds"][-1],
        "provenance": provenance(refinement, dataset=dataset, start=start),
    }
    result = Reconstruction(
        object=fit.object.numpy(),
        origin=fit.origin,
        probe=fit.probe.numpy(),
        positions=scan.positions,
        geometry=scan.geometry,
        weight=light,
        coverage=light > LIT * np.median(light[light > 0.01 * light.max()]),
        name=f"{Path(output).parent.name}/{scan.name}",
        history=history,
        snapshots=np.stack(snapshots),
        facts=facts,
    )
    write_reconstruction(output, result)
    logger.info("refined %s: R-factor %.4f after %d epochs, %.1f s", output, error, refinement.epochs, facts["seconds"])


def _area(scan: Scan, start: Reconstruction | None) -> tuple[tuple[int, int], tuple[float, float]]:
    """Shape and origin of an object that holds every window; the start's own, which must hold them."""
    if start is None:
        low = np.floor(scan.positions.min(0)) - scan.size // 2 - 1
        shape = np.ceil(scan.positions.max(0) - low).astype(int) + scan.size // 2 + 1
        return (int(shape[0]), int(shape[1])), (float(low[0]), float(low[1]))
    low = np.round(scan.positions - start.origin).min(0) - scan.size // 2
    high = np.round(scan.positions - start.origin).max(0) + scan.size // 2
    if low.min() < 0 or (high > start.object.shape).any():
        raise ValueError(
            f"the start is {start.object.shape} px and does not hold all windows of {scan.name}: stitch this scan again"
        )
    return start.object.shape, start.origin


def _snapshot_epochs(epochs: int) -> list[int]:
    """Epochs whose object is kept: each of the first, then ever fewer, and the last."""
    kept = {1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 800}
    return sorted(epoch for epoch in kept | {epochs} if epoch <= epochs)


def _between(pair: tuple[float, float], share: float) -> float:
    """From the first number to the second, geometrically."""
    return pair[0] ** (1 - share) * pair[1] ** share


def _rms_radius(light: Tensor) -> float:
    """Root of the mean square distance from the beam's centre of mass, px."""
    line = torch.arange(light.shape[-1], dtype=light.dtype)
    share = light / light.sum()
    variances = [(s @ line.square() - (s @ line).square()) for s in (share.sum(0), share.sum(1))]
    return float(sum(variances).sqrt())
