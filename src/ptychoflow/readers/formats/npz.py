"""Reader of npz archives: PtychoPINN's, SLAC's with patterns last, ptychodus's, and arrays with units in their names.

PtychoPINN's programs disagree on whether ``diff3d`` holds counts or amplitudes, so floating-point patterns need
``source.domain``. Its positions are object pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...io.lazy_stack import Stack, stack_of
from ...io.npz_archive import Archive, open_npz
from ..raw_scan import Measurement
from ..scan_positions import Positions

LONGEST_SCAN_M = 1e-3
"""Largest position that is taken as metres: SLAC files do not state the unit."""


def holds(*names: str) -> Callable[[Path], bool]:
    """Return a predicate that is True for npz archives with arrays of all these names."""

    def recognise(path: Path) -> bool:
        with open_npz(path) as archive:
            return all(name in archive for name in names)

    return recognise


def is_ptychopinn(path: Path) -> bool:
    """Return True for training archives of PtychoPINN, whose patterns have either of two names."""
    with open_npz(path) as archive:
        return "xcoords" in archive and "ycoords" in archive and ("diff3d" in archive or "diffraction" in archive)


def read_ptychopinn(path: Path, dataset: str | None = None) -> Measurement:
    """Read a training archive of PtychoPINN or ptychodus: ``diff3d``, ``xcoords``, ``ycoords``, ``probeGuess``.

    Older archives have patterns along the last axis, ``(H, W, J)``: the number of positions tells them.
    """
    with open_npz(path) as archive:
        patterns = archive.array(dataset or ("diff3d" if "diff3d" in archive else "diffraction"), 3)
        count = len(archive.array("xcoords", 1))
        if patterns.shape[0] != count == patterns.shape[-1]:
            patterns = np.moveaxis(patterns, -1, 0)
        return _ptychopinn(archive, stack_of(patterns), ("ycoords", "xcoords"), path)


def read_slac(path: Path, dataset: str | None = None) -> Measurement:
    """Read a PtychoPINN archive with patterns along the last axis, ``(H, W, J)``; tiny positions are metres."""
    with open_npz(path) as archive:
        patterns = stack_of(np.moveaxis(archive.array(dataset or "diffraction", 3), -1, 0))
        return _ptychopinn(archive, patterns, ("ycoords_start", "xcoords_start"), path)


def read_ptychodus_npz(path: Path, dataset: str | None = None) -> Measurement:
    """Read patterns as ptychodus writes them; positions and probe are in a product."""
    with open_npz(path) as archive:
        bad = archive.array("bad_pixels", 2, kinds="buif") != 0 if "bad_pixels" in archive else None
        return Measurement(
            patterns=stack_of(archive.array(dataset or "patterns", 3)),
            mask=None if bad is None else ~bad,
            name=path.stem,
        )


def read_named_npz(path: Path, dataset: str | None = None) -> Measurement:
    """Read ``patterns``, ``position_y_m``, ``position_x_m`` and other arrays, each with its unit in its name."""
    with open_npz(path) as archive:
        y, x = (np.asarray(archive.array(f"position_{axis}_m", 1), np.float64) for axis in "yx")
        energy, milliradians = archive.number("energy_ev", "photon_energy_eV"), archive.number("semi_angle_mrad")
        return Measurement(
            patterns=stack_of(archive.array(dataset or "patterns", 3)),
            positions=Positions(_pairs(y, x, path)),
            corner=None,
            probe=_modes(archive, "probe"),
            wavelength_m=archive.number("wavelength_m"),
            energy_ev=energy,
            detector_distance_m=archive.number("detector_distance_m"),
            detector_pixel_m=archive.number("detector_pixel_m", "detector_pixel_size_m"),
            pixel_size_m=archive.number("object_pixel_m", "pixel_size_m"),
            defocus_m=archive.number("defocus_m"),
            aperture_rad=milliradians * 1e-3 if milliradians else None,  # mrad to rad
            name=path.stem,
            metadata=archive.numbers(),
        )


def _ptychopinn(archive: Archive, patterns: Stack, axes: tuple[str, str], path: Path) -> Measurement:
    y, x = (np.asarray(archive.array(name, 1), np.float64) for name in axes)
    metres = axes[0].endswith("start") and max(abs(y).max(), abs(x).max()) < LONGEST_SCAN_M
    energy = archive.number("photon_energy_eV", "probe_energy_ev", "probe_energy_eV")
    domain = archive.text("measurement_domain")
    bad = archive.array("bad_pixels", 2, kinds="buif") != 0 if "bad_pixels" in archive else None
    # these programs count a patch's pixels from (N - 1) / 2, we from N // 2
    half = (patterns.shape[-1] - 1) / 2 - patterns.shape[-1] // 2
    guess = archive.array("objectGuess", 2, 3, kinds="c") if "objectGuess" in archive else None
    return Measurement(
        patterns=patterns,
        positions=Positions(_pairs(y, x, path), "m" if metres else "px"),
        amplitude={"count_intensity": False, "normalized_amplitude": True}.get(domain),
        mask=None if bad is None else ~bad,
        probe=_modes(archive, "probeGuess"),
        probe_in_photons=archive.text("scale_contract_version")
        == "ci_intensity_v2",  # its forward model counts photons
        energy_ev=energy,
        detector_distance_m=archive.number("detector_distance_m"),
        detector_pixel_m=archive.number("detector_pixel_size_m", "detector_pixel_m"),
        object=guess if guess is None or guess.ndim == 2 else guess[0],
        object_origin=(half, half),
        name=path.stem,
    )


def _pairs(y: np.ndarray, x: np.ndarray, path: Path) -> np.ndarray:
    if len(y) != len(x):
        raise ValueError(
            f"{path.name}: got {len(y)} positions along y and {len(x)} along x, expected as many: correct the file"
        )
    return np.stack([y, x], axis=1)


def _modes(archive: Archive, name: str) -> np.ndarray | None:
    """Read a probe as modes ``(M, N, N)``, also one written ``(N, N, 1)``."""
    if name not in archive:
        return None
    probe = archive.array(name, 2, 3, 4, kinds="cf")
    if probe.ndim == 3 and probe.shape[-1] == 1:
        probe = probe[..., 0]
    return np.asarray(probe, np.result_type(probe.dtype, np.complex64)).reshape(-1, *probe.shape[-2:])
