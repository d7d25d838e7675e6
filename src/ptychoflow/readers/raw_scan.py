"""A measurement as its file holds it, before conversion, with the conventions of the file named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..core.wavelengths import Radiation
from ..io.lazy_stack import Stack
from .scan_positions import Positions


class UnknownFormatError(ValueError):
    """A file that no reader knows, or whose arrays have other names than its reader knows."""


@dataclass(frozen=True)
class Measurement:
    """Patterns and their metadata; a reader fills in what its format defines, and leaves the rest None.

    Attributes:
        patterns: ``(J, H, W)``, left on disk.
        positions: of each pattern.
        amplitude: True where patterns are square roots of counts; None where the format leaves it open.
        corner: True where the direct beam lies at ``[0, 0]``, False where it lies near the middle; None where the
            format leaves it open.
        beam: pixel ``(y, x)`` of the direct beam.
        mask: True where a detector pixel is valid, ``(H, W)``.
        probe: modes, ``(M, H, W)``.
        probe_in_photons: True where the probe is in sqrt(photons).
        wavelength_m: m.
        energy_ev: of photons, or kinetic energy of electrons, eV.
        radiation: photons or electrons, where the file or its format says it.
        detector_distance_m: sample to detector, m.
        detector_pixel_m: side of a detector pixel, m.
        pixel_size_m: side of an object pixel of the uncut patterns, m.
        propagation: far or near field; None where the file does not say it.
        focus_distance_m: distance from the focus of a cone beam to the sample in the near field, m.
        object: complex transmission, ``(H, W)``, a guess or the ground truth; positions count from its pixel
            ``[0, 0]``.
        object_origin: position ``(y, x)`` of that pixel, px.
        object_is_ground_truth: True where the file says that the patterns were simulated from the object.
        defocus_m: distance from focus to sample, m.
        aperture_rad: half angle of the beam, rad.
        name: of the scan.
        file: name of the file in messages.
        unread: why values that the file holds cannot be used, for the message that asks for them.
        metadata: everything else, plain data.
    """

    patterns: Stack
    positions: Positions | None = None
    amplitude: bool | None = False
    corner: bool | None = False
    beam: tuple[float, float] | None = None
    mask: np.ndarray | None = None
    probe: np.ndarray | None = None
    probe_in_photons: bool = False
    wavelength_m: float | None = None
    energy_ev: float | None = None
    radiation: Radiation | None = None
    detector_distance_m: float | None = None
    detector_pixel_m: float | None = None
    pixel_size_m: float | None = None
    propagation: Literal["far_field", "near_field"] | None = None
    focus_distance_m: float | None = None
    object: np.ndarray | None = None
    object_origin: tuple[float, float] = (0.0, 0.0)
    object_is_ground_truth: bool = False
    defocus_m: float | None = None
    aperture_rad: float | None = None
    name: str = "scan"
    file: str = "the measurement"
    unread: Sequence[str] = ()
    metadata: dict = field(default_factory=dict)
