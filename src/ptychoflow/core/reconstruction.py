"""A reconstruction: the object, the probe and positions that belong to it, and how well each pixel is known."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .instrument import IDEAL, Instrument
from .scan import Geometry

ROWS_AT_ONCE = 256
"""Rows checked at once, of arrays that may be larger than memory."""


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructed object with its probe, positions and quality of each pixel. Arrays may be memory maps.

    Attributes:
        object: complex transmission, complex64, ``(H, W)``; of a thick sample the product of its slices.
        origin: position ``(y, x)`` of the object's pixel ``[0, 0]``, px: index = position - origin.
        probe: probe modes, sqrt(photons), complex64, ``(M, N, N)``.
        positions: positions ``(y, x)``, refined if they were, px, ``(J, 2)``.
        geometry: wavelength, distance and pixel size.
        weight: illumination of each pixel, photons, or the sum of stitching weights, float32, ``(H, W)``.
        coverage: True where the object is known, ``(H, W)``.
        probe_scale: amplitude of the probe at each pattern relative to ``probe``, ``(J,)``; None where it is constant.
        component: index of the connected part of the scan that each pixel belongs to, the largest first, -1 outside,
            ``(H, W)``. Parts do not overlap, so that their phases cannot be compared. None for a single part.
        phase_uncertainty: standard deviation of the phase, rad, up to a ramp and a constant, ``(H, W)``; None where it
            was not estimated.
        instrument: variations of the probe, background and point spread that belong to the probe and positions.
        slices: slices of a thick sample along the beam, the first one upstream, complex64, ``(S, H, W)``; the probe is
            that on the first. None for a thin sample.
        slice_spacing_m: distance between neighbouring slices, m; 0 for a thin sample.
        name: ``method/scan``.
        history: columns with one number per epoch: ``epoch``, ``seconds``, ``error`` and others.
        snapshots: the object at some of those epochs, ``(K, H, W)``; their numbers in ``metadata["snapshot_epochs"]``.
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
    instrument: Instrument = IDEAL
    slices: np.ndarray | None = None
    slice_spacing_m: float = 0.0
    name: str = "reconstruction"
    history: dict[str, list[float]] = field(default_factory=dict)
    snapshots: np.ndarray | None = None
    component: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_shapes()
        for name in ("probe", "positions", "origin", "probe_scale"):
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{name} of the reconstruction holds NaN or infinity: make the reconstruction again")
        if self.slices is not None and not self.slice_spacing_m > 0:
            raise ValueError(f"slices of the reconstruction are {self.slice_spacing_m} m apart, expected more than 0")
        bands = (self.object[first : first + ROWS_AT_ONCE] for first in range(0, len(self.object), ROWS_AT_ONCE))
        if not all(np.isfinite(band).all() for band in bands):
            raise ValueError(
                "the reconstructed object holds NaN or infinity: check the counts and the probe of its scan"
            )

    def _check_shapes(self) -> None:
        """Refuse arrays whose shapes do not belong together."""
        shape, count, size = self.object.shape, len(self.positions), self.probe.shape[-1]
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"the reconstructed object has shape {shape}, expected (H, W)")
        expected = {
            "positions": (count, 2),
            "probe": (len(self.probe), size, size),
            "probe_scale": (count,),
            "snapshots": (0 if self.snapshots is None else len(self.snapshots), *shape),
            "slices": (0 if self.slices is None else len(self.slices), *shape),
            **dict.fromkeys(("weight", "coverage", "component", "phase_uncertainty"), shape),
        }
        variations = self.instrument.probe_variations
        modes = 0 if variations is None else len(variations)
        expected |= {"probe_variations": (modes, size, size), "variation_weights": (count, modes)}
        expected |= {"background": (size, size)}
        arrays = vars(self.instrument) | vars(self)
        for name, sides in expected.items():
            array = arrays[name]
            if array is not None and array.shape != sides:
                of_object = ", that of the object" if sides == shape else ""
                raise ValueError(f"{name} has shape {array.shape}, expected {sides}{of_object}")
        rows = {len(column) for column in self.history.values()}
        if len(rows) > 1:
            raise ValueError(f"columns of the history have {sorted(rows)} rows, expected as many in each")

    def in_memory(self) -> "Reconstruction":
        """Return a copy without memory-mapped arrays."""
        arrays: dict[str, Any] = {
            name: np.array(value) for name, value in vars(self).items() if isinstance(value, np.memmap)
        }
        return replace(self, **arrays)

    def summary(self) -> str:
        """Return one line on the stitched or learned object, for the log."""
        known = int(np.count_nonzero(self.coverage))
        covered = f"{known} of {self.coverage.size} px known"
        if "cascades" in self.metadata:
            return f"{self.metadata['cascades']} cascades, R-factor {self.history['error'][-1]:.4f}, {covered}"
        parts = self.metadata["components"]
        return (
            f"{self.metadata['patches']} patches agree to {self.metadata['agreement']:.3f}, "
            f"{covered}{f', in {parts} parts' if parts > 1 else ''}"
        )


def name_for(output: Path, scan: str) -> str:
    """Return the name of a reconstruction, ``method/scan``; the method is the name of the folder of its file."""
    return f"{Path(output).absolute().parent.name}/{scan}"
