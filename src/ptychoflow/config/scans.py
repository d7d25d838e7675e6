"""Settings of scans: simulated, measured, packed."""

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
from .base import PatternSize, Range, Recipe, Section, Shape, named, not_negative, occupancies, positive


class ObjectRecipe(Recipe):
    """The sample to simulate."""

    name: Literal[
        *("dead_leaves", "lines", "gaussian_random_field", "procedural", "polyhedra", "perlin_noise", "white_noise"),
        *("blurred_noise", "points", "siemens_star", "photograph"),
    ] = "dead_leaves"
    """Kind of object."""
    size: Shape = (400, 400)
    """Height and width, px; one number for a square."""
    amplitude: Annotated[Range, AfterValidator(not_negative)] = (0.7, 1.0)
    """Least and greatest amplitude, dimensionless, 0 or more."""
    phase_rad: Range = (-0.8, 0.8)
    """Least and greatest phase, rad; may exceed pi."""
    pink_noise_fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of 1/f noise mixed into amplitude and phase; None is 0.2 for dead leaves and 0 for the others."""
    feature_size_px: Annotated[Range, AfterValidator(positive)] | None = None
    """Least and greatest radius, width or wavelength of a feature, px; None is the kind's own share of the size."""
    count: PositiveInt | None = None
    """How many features; None is the kind's own number."""
    spectral_exponent: NonNegativeFloat | None = None
    """Exponent: leaves have radii by `r^-power` (None is 3), a random field the amplitude spectrum `f^-power` (1.5)."""
    spokes: PositiveInt = 18
    """Pairs of spokes of a star."""
    images: tuple[str, str] = ("camera", "brick")
    """Phase image and amplitude image of a photograph: names of scikit-image's `data`, or paths."""

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


Aberration = Literal[
    *("astigmatism", "astigmatism_45", "coma_y", "coma_x", "trefoil_y", "trefoil_x", "spherical"),
    *("secondary_astigmatism", "secondary_astigmatism_45", "tetrafoil", "tetrafoil_45"),
]


class ProbeRecipe(Recipe):
    """The beam to simulate."""

    name: Literal["zone_plate", "kb_mirror", "disc", "gaussian", "file", "reconstruction"] = "zone_plate"
    """Kind of probe; `reconstruction` takes the probe refined in `reconstruction`, `file` any other."""
    reconstruction: str | None = None
    """`METHOD/SCAN` whose refined probe to use."""
    file: str | None = None
    """A probe in a scan (`.cxi`), a reconstruction (`.h5`), an `.npz` (`probe` or `probeGuess`) or an `.npy`."""
    diameter_px: PositiveFloat = 24.0
    """Diameter of the illuminated spot, object px."""
    defocus: float | None = None
    """Defocus, waves at the edge of the aperture; None is 1.7, and 0 for a probe from elsewhere."""
    defocus_spread: NonNegativeFloat = 0.0
    """The defocus of each scan, by its seed, lies within this of `defocus`, waves."""
    aberrations: dict[Aberration, float] = {}
    """Zernike aberrations over the aperture, waves rms each."""
    aberration_spread: NonNegativeFloat = 0.0
    """Random aberrations of each scan, by its seed, waves rms all together."""
    central_stop: Annotated[float, Field(ge=0, lt=1)] = 0.35
    """Diameter of the central stop over that of the zone plate."""
    modes: Annotated[tuple[PositiveFloat, ...], AfterValidator(occupancies)] | None = None
    """Share of the light in each orthogonal incoherent mode, summing to 1; None is one mode, or those of the file."""

    acts_on = {
        "reconstruction": ("reconstruction",),
        "file": ("file",),
        "diameter_px": ("zone_plate", "kb_mirror", "disc", "gaussian"),
        "central_stop": ("zone_plate",),
    }

    @model_validator(mode="after")
    def _file_is_named(self) -> "ProbeRecipe":
        if self.name == "file" and self.file is None:
            raise ValueError("file is missing: name the file that holds the probe")
        return self


class Trajectory(Recipe):
    """Where the beam goes."""

    name: Literal["raster", "jittered_raster", "fermat", "concentric", "file"] = "jittered_raster"
    """Kind of path."""
    step_px: PositiveFloat = 8.0
    """Mean step, object px."""
    overlap_percent: Annotated[float, Field(ge=0, lt=100)] | None = None
    """Instead of a step: overlap of neighbouring spots, percent of the diameter that holds 90 % of the light."""
    jitter_px: NonNegativeFloat = 2.0
    """Greatest random deviation from the raster along each axis, px."""
    file: str | None = None
    """Positions (y, x) in px of the object, two columns: `.npy`, `.csv` or `.txt`."""
    error_px: NonNegativeFloat = 0.0
    """Random error of each position along each axis, px rms: what is recorded is where the beam should have been."""
    drift_px: NonNegativeFloat = 0.0
    """Length of a steady drift over the scan, in a random direction, px."""
    fly_scan_length_px: NonNegativeFloat = 0.0
    """Length of the motion along x during an exposure, px, centred on the position."""
    fly_scan_samples: Annotated[int, Field(ge=2)] = 5
    """Points that stand for the motion during an exposure, where there is any."""

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
    """What a detector does to the light, in this order. The default counts every photon and nothing else."""

    point_spread_px: NonNegativeFloat = 0.0
    """Standard deviation of the Gaussian that a photon's charge spreads over, detector px."""
    dark_counts: NonNegativeFloat = 0.0
    """Mean counts per pixel and pattern without light; Poisson as the photons."""
    read_noise: NonNegativeFloat = 0.0
    """Normal noise of reading a pixel, counts rms; counts are rounded and stay at 0 or above."""
    saturation: PositiveInt | None = None
    """Greatest count of a pixel."""
    dead_pixels: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of pixels, chosen by the seed, that count nothing; masked."""
    beamstop_px: NonNegativeFloat = 0.0
    """Diameter of a disc over the centre that lets nothing through, px; masked."""


class NominalGeometry(Section):
    """Lengths of a simulated scan, or those that a measured file does not carry. The report calls them nominal."""

    energy_ev: PositiveFloat
    """Photon energy, eV."""
    detector_distance_m: PositiveFloat
    """Sample to detector, m."""
    detector_pixel_m: PositiveFloat
    """Side of a detector pixel, m."""


class Simulation(Section):
    """A simulated scan (read by `simulate`)."""

    object: Annotated[ObjectRecipe, BeforeValidator(named, json_schema_input_type=str | ObjectRecipe)] = ObjectRecipe()
    """The sample."""
    probe: Annotated[ProbeRecipe, BeforeValidator(named, json_schema_input_type=str | ProbeRecipe)] = ProbeRecipe()
    """The beam."""
    trajectory: Annotated[Trajectory, BeforeValidator(named, json_schema_input_type=str | Trajectory)] = Trajectory()
    """The path."""
    size: PatternSize = 64
    """Side of a pattern, px."""
    photons_per_pattern: PositiveFloat = 1e5
    """Photons per pattern in the beam, before the sample absorbs any."""
    detector: Detector = Detector()
    """What counts it."""
    geometry: NominalGeometry = NominalGeometry(energy_ev=8800.0, detector_distance_m=2.0, detector_pixel_m=172e-6)
    """Lengths; a probe from a reconstruction or a scan brings its own."""
    seed: NonNegativeInt = 0
    """Seed of object, beam, path and noise: each has random numbers of its own."""


class MeasuredGeometry(Section):
    """Lengths that a measured file does not carry, or carries wrongly. The report says that they are nominal."""

    energy_ev: PositiveFloat | None = None
    """Photon energy, eV."""
    wavelength_m: PositiveFloat | None = None
    """Wavelength, m, instead of an energy; for electrons the only way."""
    detector_distance_m: PositiveFloat | None = None
    """Sample to detector, m."""
    detector_pixel_m: PositiveFloat | None = None
    """Side of a detector pixel, m."""
    pixel_size_m: PositiveFloat | None = None
    """Side of an object pixel, m, of the patterns as they stand in the file; follows from the others where known."""

    @model_validator(mode="after")
    def _one_wavelength(self) -> "MeasuredGeometry":
        if self.energy_ev is not None and self.wavelength_m is not None:
            raise ValueError("give energy_ev or wavelength_m, not both")
        return self


class Orientation(Section):
    """How the scan axes lie against the detector; applied to the positions in this order. `inspect` finds it."""

    transpose: bool = False
    """Exchange y and x."""
    flip_y: bool = False
    """Reverse y."""
    flip_x: bool = False
    """Reverse x."""
    rotation_deg: float = 0.0
    """Then turn from y towards x, degrees."""


FORMATS = (
    *("cxi", "nxcxi_ptycho", "nexus", "hxn", "fold_slice", "ptypy", "emd", "matlab"),
    *("tike_npz", "ptychopinn_npz", "slac_npz", "ptychodus_npz", "npz", "stack"),
    *("ptychodus", "ptychodus_training"),
)

"""Names of the formats that are read natively; `docs/reference/file-formats.md` tells of each."""


def _known_format(name: str) -> str:
    if name not in ("auto", *FORMATS) and not name.startswith("ptychodus:"):
        raise ValueError(f"{name} is no format{did_you_mean(name, FORMATS)}")
    return name


class Source(Section):
    """A measured scan (read by `convert`). `ptychoflow inspect FILE` writes one that is ready to use."""

    file: str
    """Path of the measurement; a bare name is looked for in the data cache (`PTYCHOFLOW_DATA`). An address such as
    `s3://bucket/scan.h5` is fetched by the workflow, with Snakemake's plugin for that store."""
    format: Annotated[str, AfterValidator(_known_format), Field(json_schema_extra={"examples": list(FORMATS)})] = "auto"
    """What the file is; `auto` looks into it; `ptychodus:NAME` asks that reader of an installed ptychodus."""
    dataset: str | None = None
    """Name of the patterns in the file, where it holds several or calls them something unusual."""
    positions: str | None = None
    """Another file with the positions, where this one has none; looked for beside it too."""
    probe: str | None = None
    """Another file with the probe to start from: a ptychodus product, `.ptyr`, `.mat`, `.npy`; looked for beside it."""
    url: str | None = None
    """Where to download it when the cache does not hold it."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Checksum the file must have."""
    geometry: MeasuredGeometry | None = None
    """Lengths, where the file has none or wrong ones."""
    domain: Literal["auto", "counts", "amplitude"] = "auto"
    """Whether patterns are counts or their square roots; `auto` is what the format says."""
    zero_frequency: Literal["auto", "centre", "corner"] = "auto"
    """Where the direct beam lies in a pattern; `auto` is what the format says, else where the light is."""
    position_unit: Literal["auto", "m", "mm", "um", "nm", "px"] = "auto"
    """Unit of the positions; `auto` is what the format says."""
    orientation: Orientation = Orientation()
    """How the scan axes lie against the detector."""
    centre: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    """Pixel `(y, x)` of the direct beam; what the format says, else the middle, without it."""
    size: PatternSize | None = None
    """Cut patterns to this square around the beam; the largest that fits where they are no squares."""
    defocus_m: float | None = None
    """Distance from focus to sample of the probe that is made up where the file has none, m."""
    object_is_ground_truth: bool = False
    """The object in the file is what the scan was simulated from, not a guess."""
    reconstruction: str | None = None
    """`METHOD/SCAN` whose refined probe replaces the one in the file."""


class Packing(Section):
    """The dataset a scan becomes (read by `pack`)."""

    bad_pixels: tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = ()
    """Detector pixels `[y, x]` of the file that do not count."""
    invalid_counts: Literal["error", "mask", "drop"] = "error"
    """NaN, infinite and negative counts: refuse the scan, mask each pixel that ever has one, or drop such patterns."""
    saturation: PositiveInt | None = None
    """A pixel that reaches this in any pattern does not count, photons; None sets no limit."""
    centre: Literal["auto"] | tuple[NonNegativeInt, NonNegativeInt] | None = None
    """Pixel `[y, x]` of the direct beam, moved to the middle; `auto` moves patterns to where the probe puts them."""
    crop: PatternSize | None = None
    """Keep this central square of each pattern, px. Object pixels grow by as much; probe and positions follow."""
    binning: Annotated[int, Field(ge=1, le=64)] = 1
    """Sum squares of this many pixels a side into one, after the crop, px. The probe keeps its central part."""
