"""Settings of scans: simulation, source of measured ones, packing."""

import math
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ..core.suggestions import did_you_mean
from ..core.units import quantity_of
from .base import Patterns, PatternSize, Range, Recipe, Section, Shape, named, not_negative, occupancies, positive


class ObjectRecipe(Recipe):
    """The sample to simulate, a complex transmission."""

    name: Literal[
        "dead_leaves",
        "lines",
        "gaussian_random_field",
        "procedural",
        "polyhedra",
        "perlin_noise",
        "white_noise",
        "blurred_noise",
        "points",
        "siemens_star",
        "photograph",
    ] = "dead_leaves"
    """Kind of object."""
    size: Shape = (400, 400)
    """Height and width of the object, px; one number for a square."""
    amplitude: Annotated[Range, AfterValidator(not_negative)] = (0.7, 1.0)
    """Lowest and highest amplitude, dimensionless, 0 or more; 1 absorbs nothing."""
    phase_rad: Range = (-0.8, 0.8)
    """Lowest and highest phase, rad; may exceed pi, where the phase wraps."""
    pink_noise_fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    """Fraction of 1/f noise mixed into amplitude and phase, 0 to 1. None is 0.2 for dead leaves and 0 for the
    others."""
    feature_size_px: Annotated[Range, AfterValidator(positive)] | None = None
    """Smallest and largest radius, width or wavelength of a feature, px. None chooses for the kind of object, in
    proportion to its size."""
    count: PositiveInt | None = None
    """Number of features; None chooses for the kind of object."""
    spectral_exponent: NonNegativeFloat | None = None
    """Exponent of the power law, dimensionless. Dead leaves have radii distributed as `r^-p` (None is 3), a random
    field has the amplitude spectrum `f^-p` (None is 1.5)."""
    spokes: PositiveInt = 18
    """Pairs of spokes of a Siemens star."""
    slices: Annotated[int, Field(ge=1, le=64)] = 1
    """Slices of a thick sample along the beam, each an object of this kind; 1 is a thin sample. Stars are smaller,
    beside one another, and have different numbers of spokes."""
    slice_spacing_m: PositiveFloat | None = None
    """Distance between neighbouring slices, m; needed with more than one. The probe is that on the first slice."""
    images: tuple[str, str] = ("camera", "brick")
    """Phase image and amplitude image of a photograph: names of images in scikit-image's `data`, or paths."""

    acts_on = {
        "feature_size_px": (
            "dead_leaves",
            "lines",
            "procedural",
            "polyhedra",
            "perlin_noise",
            "blurred_noise",
            "points",
        ),
        "count": ("dead_leaves", "lines", "procedural", "polyhedra", "points"),
        "spectral_exponent": ("dead_leaves", "gaussian_random_field"),
        "spokes": ("siemens_star",),
        "images": ("photograph",),
    }

    @model_validator(mode="after")
    def _slices_are_apart(self) -> "ObjectRecipe":
        if self.slices > 1 and self.name == "photograph":
            raise ValueError("slices of a photograph would all be alike: choose another object, or remove slices")
        if (self.slices > 1) != (self.slice_spacing_m is not None):
            raise ValueError("give slices above 1 and slice_spacing_m together, or neither")
        return self


Aberration = Literal[
    "astigmatism",
    "astigmatism_45",
    "coma_y",
    "coma_x",
    "trefoil_y",
    "trefoil_x",
    "spherical",
    "secondary_astigmatism",
    "secondary_astigmatism_45",
    "tetrafoil",
    "tetrafoil_45",
]


class ProbeRecipe(Recipe):
    """The probe to simulate."""

    name: Literal["zone_plate", "kb_mirror", "disc", "gaussian", "diffuser", "file", "reconstruction"] = "zone_plate"
    """Kind of probe. `diffuser` is a wide beam with random phase, as the near field needs. `reconstruction` takes the
    refined probe of another reconstruction, `file` that of a file."""
    reconstruction: str | None = None
    """Reconstruction, as `METHOD/SCAN`, whose refined probe to use."""
    file: str | None = None
    """File with the probe: a scan (`.cxi`), a reconstruction (`.h5`), an `.npz` (`probe` or `probeGuess`) or an
    `.npy`."""
    diameter_px: PositiveFloat = 24.0
    """Diameter of the illuminated spot, object px."""
    defocus: float | None = None
    """Defocus, waves at the edge of the aperture. None is 1.7, and 0 for a diffuser and a probe from a file or a
    reconstruction."""
    defocus_spread: NonNegativeFloat = 0.0
    """Largest random deviation of a scan's defocus from `defocus`, waves; the seed determines it."""
    aberrations: dict[Aberration, float] = {}
    """Zernike aberrations over the aperture, waves rms each."""
    aberration_spread: NonNegativeFloat = 0.0
    """Random aberrations of a scan, waves rms in total; the seed determines them."""
    central_stop: Annotated[float, Field(ge=0, lt=1)] = 0.35
    """Diameter of the central stop as a fraction of that of the zone plate, dimensionless."""
    diffuser_feature_px: PositiveFloat = 4.0
    """Size of the features of a diffuser, standard deviation of the Gaussian that blurs its phase, object px."""
    diffuser_phase_rad: NonNegativeFloat = 2.0
    """Phase of a diffuser, rad rms."""
    modes: Annotated[tuple[PositiveFloat, ...], AfterValidator(occupancies)] | None = None
    """Fraction of the photons in each orthogonal incoherent mode; the fractions sum to 1. None is one mode, or those of
    the file."""

    acts_on = {
        "reconstruction": ("reconstruction",),
        "file": ("file",),
        "diameter_px": ("zone_plate", "kb_mirror", "disc", "gaussian", "diffuser"),
        "diffuser_feature_px": ("diffuser",),
        "diffuser_phase_rad": ("diffuser",),
        "central_stop": ("zone_plate",),
    }

    @model_validator(mode="after")
    def _file_is_named(self) -> "ProbeRecipe":
        if self.name == "file" and self.file is None:
            raise ValueError("file is missing: name the file that holds the probe")
        return self


class Trajectory(Recipe):
    """The scan path."""

    name: Literal["raster", "jittered_raster", "fermat", "concentric", "file"] = "jittered_raster"
    """Kind of scan path."""
    step_px: PositiveFloat = 8.0
    """Mean distance between neighbouring positions, object px."""
    overlap_percent: Annotated[float, Field(ge=0, lt=100)] | None = None
    """Overlap of neighbouring positions, percent of the diameter that holds 90 % of the probe intensity; instead of
    `step_px`. 60 to 80 is usual."""
    jitter_px: NonNegativeFloat = 2.0
    """Largest random deviation from the raster along each axis, px. It avoids raster artefacts."""
    file: str | None = None
    """File with positions (y, x) in object px, two columns: `.npy`, `.csv` or `.txt`."""
    error_px: NonNegativeFloat = 0.0
    """Random error of each recorded position along each axis, px rms. The scan records the intended position, and the
    probe is elsewhere by this much."""
    drift_px: NonNegativeFloat = 0.0
    """Length of a linear drift over the scan in a random direction, px. Recorded positions do not include it."""
    fly_scan_length_px: NonNegativeFloat = 0.0
    """Length of the motion along x during each exposure, px, centred on the position; 0 is a step scan."""
    fly_scan_samples: Annotated[int, Field(ge=2)] = 5
    """Points that the motion during an exposure is averaged over, 2 or more; used where `fly_scan_length_px` is above
    0."""

    acts_on = {
        "step_px": ("raster", "jittered_raster", "fermat", "concentric"),
        "overlap_percent": ("raster", "jittered_raster", "fermat", "concentric"),
        "jitter_px": ("jittered_raster",),
        "file": ("file",),
    }

    @model_validator(mode="after")
    def _one_step(self) -> "Trajectory":
        if self.overlap_percent is not None and self.step_px != type(self).model_fields["step_px"].default:
            raise ValueError("give step_px or overlap_percent, not both")
        if self.name == "file" and self.file is None:
            raise ValueError("file is missing: name the file that holds the positions")
        return self


class Detector(Section):
    """The detector model, applied in this order. The default counts every photon and adds nothing."""

    point_spread_px: NonNegativeFloat = 0.0
    """Standard deviation of the Gaussian point spread function, detector px."""
    dark_counts: NonNegativeFloat = 0.0
    """Mean dark counts per pixel and pattern, counts; Poisson distributed."""
    read_noise: NonNegativeFloat = 0.0
    """Standard deviation of the Gaussian read noise per pixel, counts rms. Counts are rounded and not below 0."""
    saturation: PositiveInt | None = None
    """Largest count that a pixel can hold, counts; None sets no limit."""
    dead_pixels: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of pixels, chosen by the seed, that count nothing. They are masked."""
    beamstop_px: NonNegativeFloat = 0.0
    """Diameter of a beamstop over the centre of the pattern, px. Its pixels are masked."""


class BeamStability(Section):
    """The beam's drift and flicker during a simulated scan. The default is a constant beam."""

    pointing_drift_px: NonNegativeFloat = 0.0
    """Largest slow drift of the probe on the sample along each axis, object px. Recorded positions do not include
    it."""
    defocus_drift_waves: NonNegativeFloat = 0.0
    """Largest slow drift of the defocus, waves at the edge of the aperture; 0.17 is 10 % of the default defocus."""
    flicker: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Fluctuation of the intensity from pattern to pattern, rms fraction of the mean."""
    correlation_patterns: PositiveFloat = 10.0
    """Standard deviation of the Gaussian that makes drifts smooth along the scan, patterns."""

    @property
    def is_constant(self) -> bool:
        """True for a beam that is the same at every pattern."""
        return not (self.pointing_drift_px or self.defocus_drift_waves or self.flicker)

    @model_validator(mode="after")
    def _correlation_acts(self) -> "BeamStability":
        drifts = self.pointing_drift_px or self.defocus_drift_waves
        if not drifts and self.correlation_patterns != type(self).model_fields["correlation_patterns"].default:
            raise ValueError("correlation_patterns acts on pointing_drift_px and defocus_drift_waves: set one of them")
        return self


Propagation = Literal["far_field", "near_field"]
"""Propagation of the wave from the sample to the detector."""


class NominalGeometry(Section):
    """Geometry of a simulated scan, or of a file that carries none. The report marks it as nominal."""

    energy_ev: PositiveFloat
    """Photon energy, eV."""
    detector_distance_m: PositiveFloat
    """Distance from sample to detector, m."""
    detector_pixel_m: PositiveFloat
    """Side of a detector pixel, m."""
    propagation: Propagation = "far_field"
    """Propagation from the sample to the detector: `far_field`, or `near_field`, by the angular spectrum."""
    focus_distance_m: PositiveFloat | None = None
    """Distance from the focus of a cone beam to the sample in the near field, m, which magnifies. None is a parallel
    beam."""

    @model_validator(mode="after")
    def _focus_acts(self) -> "NominalGeometry":
        _check_focus(self.propagation, self.focus_distance_m)
        return self


def _check_focus(propagation: str | None, focus_distance_m: float | None) -> None:
    """Refuse the distance of a focus that nothing reads."""
    if focus_distance_m is not None and propagation != "near_field":
        raise ValueError("focus_distance_m acts in the near field only: set propagation: near_field, or remove it")


class Simulation(Section):
    """A simulated scan (read by `simulate`)."""

    object: Annotated[ObjectRecipe, BeforeValidator(named, json_schema_input_type=str | ObjectRecipe)] = ObjectRecipe()
    """Sample to simulate; a bare name is short for `{name: ...}`."""
    probe: Annotated[ProbeRecipe, BeforeValidator(named, json_schema_input_type=str | ProbeRecipe)] = ProbeRecipe()
    """Probe to simulate; a bare name is short for `{name: ...}`."""
    trajectory: Annotated[Trajectory, BeforeValidator(named, json_schema_input_type=str | Trajectory)] = Trajectory()
    """Scan path to simulate; a bare name is short for `{name: ...}`."""
    size: PatternSize = 64
    """Side of a diffraction pattern, px."""
    photons_per_pattern: PositiveFloat = 1e5
    """Photons per pattern that the probe carries, before the sample absorbs any."""
    beam: BeamStability = BeamStability()
    """Drift and flicker of the beam; the default is a constant beam."""
    detector: Detector = Detector()
    """Detector model; the default is ideal."""
    geometry: NominalGeometry = NominalGeometry(energy_ev=8800.0, detector_distance_m=2.0, detector_pixel_m=172e-6)
    """Energy, distance and detector pixel; a probe from a reconstruction or a scan brings its own."""
    seed: NonNegativeInt = 0
    """Seed of object, probe, positions and noise; each draws from a random stream of its own."""

    def files(self) -> list[str]:
        """Return the files that the settings name, whether they exist or not."""
        names = (self.probe.file, self.trajectory.file, *self.object.images)
        return [name for name in names if name is not None]


class MeasuredGeometry(Section):
    """Geometry that a measured file does not carry, or carries wrongly. The report marks it as nominal."""

    energy_ev: PositiveFloat | None = None
    """Photon energy, or kinetic energy of electrons, eV; see `source.radiation`."""
    wavelength_m: PositiveFloat | None = None
    """Wavelength, m, instead of `energy_ev`."""
    detector_distance_m: PositiveFloat | None = None
    """Distance from sample to detector, m."""
    detector_pixel_m: PositiveFloat | None = None
    """Side of a detector pixel, m."""
    pixel_size_m: PositiveFloat | None = None
    """Side of an object pixel, m, for patterns of the size in the file. It follows from the other three where they are
    known."""
    propagation: Propagation | None = None
    """Propagation from the sample to the detector: `far_field`, or `near_field`, where a pattern is a blurred shadow of
    the sample. None is what the file says, or else the far field."""
    focus_distance_m: PositiveFloat | None = None
    """Distance from the focus of a cone beam to the sample in the near field, m, which magnifies. None is what the file
    says, or else a parallel beam."""

    @model_validator(mode="after")
    def _one_wavelength(self) -> "MeasuredGeometry":
        if self.energy_ev is not None and self.wavelength_m is not None:
            raise ValueError("give energy_ev or wavelength_m, not both")
        _check_focus(self.propagation, self.focus_distance_m)
        return self


class ZonePlate(Section):
    """A zone plate: its outermost zone determines the aperture of the beam, lambda / (2 width)."""

    outermost_zone_m: PositiveFloat
    """Width of the outermost zone, m."""
    central_stop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Diameter of the central stop as a fraction of that of the zone plate, dimensionless."""


class Orientation(Section):
    """Orientation of scan axes relative to detector axes, applied to positions in this order. `inspect` finds it."""

    transpose: bool = False
    """Exchange y and x."""
    flip_y: bool = False
    """Reverse y."""
    flip_x: bool = False
    """Reverse x."""
    rotation_deg: float = 0.0
    """Rotation after that, from y towards x, degrees."""


FORMATS = (
    *("cxi", "nxcxi_ptycho", "nexus", "hxn", "fold_slice", "ptypy", "emd", "empad", "matlab"),
    *("merlin", "digital_micrograph", "blockfile", "hspy", "zspy"),
    *("tike_npz", "ptychopinn_npz", "slac_npz", "ptychodus_npz", "npz", "stack"),
    *("ptychodus", "ptychodus_training"),
)

"""Names of the formats that are read natively; `docs/reference/file-formats.md` tells of each."""


def _known_format(name: str) -> str:
    if name not in ("auto", *FORMATS) and not name.startswith("ptychodus:"):
        raise ValueError(f"unknown format: {name}{did_you_mean(name, FORMATS)}")
    return name


class KeyEntry(Section):
    """An array or a number of a measurement by its name, with what the file does not say of it."""

    name: str
    """Name in the file: a path in HDF5, an attribute after `@`, or an array of an NPZ or MATLAB file."""
    unit: str | None = None
    """Unit of the numbers; None takes that of the file."""
    scale: float = 1.0
    """Multiplier of the numbers; -1 reverses a motor."""
    column: NonNegativeInt | None = None
    """Column, from 0, where the array is a table with one row a pattern."""

    @model_validator(mode="after")
    def _makes_sense(self) -> "KeyEntry":
        if self.unit is not None and quantity_of(self.unit) is None:
            raise ValueError(
                f"unknown unit {self.unit!r} of {self.name}: write m, mm, um, nm, px, eV, keV, J or angstrom"
            )
        if not (math.isfinite(self.scale) and self.scale != 0):
            raise ValueError(f"scale of {self.name} is {self.scale}, expected a finite number other than 0")
        return self


Key = Annotated[KeyEntry, BeforeValidator(named, json_schema_input_type=str | KeyEntry)]


class Keys(Section):
    """Names of what a file holds: each a name, or `{name: ..., unit: um, scale: -1, column: 0}`."""

    patterns: Key | None = None
    """Patterns, `(J, H, W)`, `(Jy, Jx, H, W)`, or `(H, W, J)`."""
    y: Key | None = None
    """Positions along y: one a pattern, the axis of a raster, or a column of a table. A table `(J, 2)` of y and x needs
    no other key."""
    x: Key | None = None
    """Positions along x."""
    energy: Key | None = None
    """Energy of the photons or electrons; eV without a unit."""
    wavelength: Key | None = None
    """Wavelength, instead of the energy; m without a unit."""
    distance: Key | None = None
    """Distance from sample to detector; m without a unit."""
    pixel: Key | None = None
    """Side of a detector pixel; m without a unit."""
    object_pixel: Key | None = None
    """Side of an object pixel of the uncut patterns, instead of distance and detector pixel; m without a unit."""
    mask: Key | None = None
    """Mask of the detector pixels, `(H, W)`."""
    mask_marks: Literal["auto", "good", "bad"] = "auto"
    """Pixels where the mask is not zero. `auto` goes by its name, else leaves the larger part of the detector."""
    probe: Key | None = None
    """Initial probe, complex, `(H, W)` or `(modes, H, W)`."""
    object: Key | None = None
    """Object, complex, for `object_is_ground_truth`."""


FAR_FIELD_SETTINGS = {
    "zero_frequency": "they have no direct beam, remove it",
    "defocus_m": "give the distance from focus to sample as geometry.focus_distance_m",
    "zone_plate": "their initial probe follows from the mean pattern, remove it",
}
"""Settings of a source that act on far-field patterns only, and what to do instead."""


class Raster(Section):
    """A raster scan row by row, whose positions the file does not hold."""

    step_m: PositiveFloat | tuple[PositiveFloat, PositiveFloat]
    """Distance between neighbouring positions, m; one number, or `(y, x)`."""
    shape: tuple[PositiveInt, PositiveInt] | None = None
    """Rows and columns of the scan, with those of the flyback. None takes what the file says."""
    flyback_columns: NonNegativeInt = 0
    """Columns at the end of each row recorded while the beam flew back; their patterns are left out."""


class Source(Section):
    """A measured scan (read by `convert`). `ptychoflow inspect FILE` writes one that is ready to use."""

    file: str
    """Path of the measurement. A bare name is looked up in the data cache (`PTYCHOFLOW_DATA`). An address such as
    `s3://bucket/scan.h5` is fetched by the workflow with Snakemake's plugin for that storage."""
    format: Annotated[str, AfterValidator(_known_format), Field(json_schema_extra={"examples": list(FORMATS)})] = "auto"
    """File format. `auto` detects it; `ptychodus:NAME` uses that reader of an installed ptychodus."""
    keys: Keys | None = None
    """Names of patterns, positions and lengths in the file, where no reader knows them. `inspect` proposes them."""
    dataset: str | None = None
    """Name of the dataset with the patterns, where the file holds several or uses an unusual name."""
    positions: str | None = None
    """Another file with the positions, where this one has none. Its name is also resolved beside the measurement."""
    raster: Raster | None = None
    """Positions of a raster scan made from its step and shape, instead of those of a file."""
    probe: str | None = None
    """Another file with the initial probe: a ptychodus product, `.ptyr`, `.mat` or `.npy`. Its name is also resolved
    beside the measurement."""
    link_folders: tuple[str, ...] = ()
    """Other folders that HDF5 links may lead to. By default only files in the folder of the measurement, or in folders
    below it, are opened."""
    url: Annotated[str, Field(pattern="^(https?|ftp|sftp)://|^doi:")] | None = None
    """Address to download the file from when the data cache does not hold it; `file` is then its name in the cache."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 checksum that the file must have. A download without it is refused, with the value to put here."""
    geometry: MeasuredGeometry | None = None
    """Geometry, where the file has none or a wrong one."""
    domain: Literal["auto", "counts", "amplitude"] = "auto"
    """Quantity in the patterns: counts or their square roots. `auto` follows the format."""
    zero_frequency: Literal["auto", "centre", "corner"] = "auto"
    """Place of the direct beam in a pattern. `auto` follows the format, or else finds it from the intensity."""
    position_unit: Literal["auto", "m", "mm", "um", "nm", "px"] = "auto"
    """Unit of the positions. `auto` follows the format."""
    orientation: Orientation = Orientation()
    """Orientation of the scan axes relative to the detector axes."""
    centre: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    """Pixel `(y, x)` of the direct beam. None follows the format, or else takes the middle."""
    size: PatternSize | None = None
    """Side of the square around the beam to cut patterns to, px. None takes the largest that fits where patterns are
    not square."""
    exclude: Patterns = ()
    """Patterns of the file to leave out before they are paired with positions: numbers from 0, ranges as `"144:"`. If
    there is a position for each pattern, it is left out too."""
    radiation: Literal["auto", "photons", "electrons"] = "auto"
    """Radiation that the energy is of. `auto` follows the file; else 100 keV and more are electrons, below 50 keV are
    photons."""
    defocus_m: float | None = None
    """Distance from focus to sample, m, for the probe that is estimated where the file has none."""
    fano_factor: PositiveFloat | None = None
    """Variance over mean of the counts of a pixel, dimensionless, as `inspect` finds it; the noise floor is that of
    such counts. None is 1, Poisson noise."""
    object_is_ground_truth: bool = False
    """Take the object in the file as ground truth, which the scan was simulated from. `false` takes it as a mere
    estimate."""
    zone_plate: ZonePlate | None = None
    """Zone plate that focuses the beam, for the probe that is estimated where the file has none."""
    reconstruction: str | None = None
    """Reconstruction, as `METHOD/SCAN`, whose refined probe replaces that of the file."""

    @model_validator(mode="after")
    def _download_stays_in_the_cache(self) -> "Source":
        path = PurePath(self.file)
        if self.url is not None and (path.is_absolute() or ".." in path.parts or path.name == ""):
            raise ValueError(
                f"file: with url expected the name of the download in the data cache, such as scan.h5, got {self.file}"
            )
        return self

    @model_validator(mode="after")
    def _raster_acts(self) -> "Source":
        by_keys = self.keys is not None and (self.keys.y is not None or self.keys.x is not None)
        if self.raster is not None and (self.positions is not None or by_keys):
            raise ValueError("give raster, or positions (keys.y and keys.x), not both")
        if self.raster is not None and self.position_unit != "auto":
            raise ValueError("position_unit does not act on raster, whose step is in m: remove it")
        return self

    @model_validator(mode="after")
    def _far_field_settings_act(self) -> "Source":
        if self.geometry is None or self.geometry.propagation != "near_field":
            return self
        for name, remedy in FAR_FIELD_SETTINGS.items():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} does not act on near-field patterns: {remedy}")
        return self

    def files(self) -> list[str]:
        """Return the files that the settings name, whether they exist or not."""
        return [name for name in (self.file, self.positions, self.probe) if name is not None]


class Packing(Section):
    """The preprocessing of a scan into a dataset (read by `pack`)."""

    bad_pixels: tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = ()
    """Detector pixels `[y, x]` of the file to mask."""
    invalid_counts: Literal["error", "mask", "drop", "clip"] = "error"
    """Treatment of NaN, infinite and negative counts. `error` stops, `mask` masks each pixel that has one in any
    pattern, `drop` removes patterns that have one, `clip` sets negative counts to 0, as dark-subtracted patterns need,
    and masks pixels with NaN or infinity."""
    exclude: Patterns = ()
    """Patterns to leave out with their positions: numbers of the scan from 0, and ranges as `"120:140"`."""
    exclude_outliers: bool = False
    """Leave out patterns whose total counts lie far from those of the others: lost and shuttered frames, frames of a
    detector that failed."""
    saturation: PositiveInt | None = None
    """Mask pixels that reach this count in any pattern, photons; None sets no limit."""
    centre: Literal["auto"] | tuple[NonNegativeInt, NonNegativeInt] | None = None
    """Pixel `[y, x]` of the direct beam, which is moved to the middle. `auto` aligns the patterns with the probe; None
    moves nothing."""
    crop: PatternSize | None = None
    """Side of the central square of each pattern to keep, px. Object pixels grow in proportion; probe and positions
    follow. Smaller patterns are faster and lower the resolution."""
    binning: Annotated[int, Field(ge=1, le=64)] = 1
    """Detector pixels along each side that are summed to one, after the crop. The field of view of a pattern shrinks in
    proportion; the probe keeps its centre."""
    probe_mask_px: PositiveFloat | None = None
    """Diameter of a disc with an edge of 1 px that the probe is multiplied with, object px: it removes what lies
    outside. None keeps the whole probe."""
