"""A reconstruction: the object that was found, and its file, a ptychodus product with our measures beside it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .scan import Geometry

BAND = 256
"""Rows looked at at once, of arrays that may be larger than memory."""


@dataclass(frozen=True)
class Reconstruction:
    """An object, what it was reconstructed with and how far to trust each pixel.

    Attributes:
        object: complex transmission, complex64, ``(H, W)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px, as in :class:`ptychoflow.core.scan.GroundTruth`.
        probe: modes, sqrt(photons), complex64, ``(M, N, N)``.
        positions: px, ``(J, 2)``, refined where they were.
        geometry: lengths.
        weight: light that each pixel received, photons, or the sum of stitching weights, float32, ``(H, W)``.
        coverage: True where the object is known, ``(H, W)``.
        probe_scale: amplitude of each pattern's beam relative to the probe, ``(J,)``; None where it was taken as steady.
        component: which part of a scan that does not hang together each pixel shows, the largest first, -1 where none
            does, ``(H, W)``; phases of different parts cannot be compared. None for a single part.
        phase_uncertainty: standard deviation of the phase, rad, but for a ramp and a constant, ``(H, W)``; None where
            it was not asked for.
        name: ``method/scan``.
        history: one row per epoch: ``epoch``, ``seconds``, ``error`` and other plain numbers, as columns.
        snapshots: the object at some of those epochs, ``(K, H, W)``; their epochs in ``metadata["snapshot_epochs"]``.
        metadata: counts of patches, timing, settings, provenance: plain data.
    """

    object: np.ndarray
    origin: tuple[float, float]
    probe: np.ndarray
    positions: np.ndarray
    geometry: Geometry
    weight: np.ndarray
    coverage: np.ndarray
    probe_scale: np.ndarray | None = None
    phase_uncertainty: np.ndarray | None = None
    name: str = "reconstruction"
    history: dict[str, list[float]] = field(default_factory=dict)
    snapshots: np.ndarray | None = None
    component: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("weight", "coverage", "component"):
            if getattr(self, name) is not None and getattr(self, name).shape != self.object.shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, the object {self.object.shape}")
        bands = (self.object[first : first + BAND] for first in range(0, len(self.object), BAND))
        if not all(np.isfinite(band).all() for band in bands):
            raise ValueError("the reconstructed object holds NaN or infinity")

    def in_memory(self) -> "Reconstruction":
        """The same with no array in a file."""
        arrays = {name: np.array(value) for name, value in vars(self).items() if isinstance(value, np.memmap)}
        return replace(self, **arrays)

    def in_words(self) -> str:
        """What was stitched, for the log."""
        known = int(np.count_nonzero(self.coverage))
        seen = f"{known} of {self.coverage.size} px known"
        if "corrections" in self.metadata:
            return f"{self.metadata['corrections']} corrections, R-factor {self.history['error'][-1]:.4f}, {seen}"
        parts = self.metadata["components"]
        return (
            f"{self.metadata['patches']} patches agree to {self.metadata['agreement']:.3f}, "
            f"{seen}{f', in {parts} parts' if parts > 1 else ''}"
        )


def name_for(output: Path, scan: str) -> str:
    """What a reconstruction is called: ``method/scan``, the method by the folder that its file is put into."""
    return f"{Path(output).absolute().parent.name}/{scan}"
