"""The one schema: every setting of every step, with its unit, range and default.

A setting has one reader. Sections are named for the verb or noun that reads them; defaults stand at the top level, a
scan or a model overrides what it names. What cannot change a result (devices, workers, tracking) stands in ``runtime``
and ``tracking`` and reruns nothing.
"""

import difflib
import json
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
HALVES = ("even", "odd")


class ConfigError(ValueError):
    """A config that cannot be run: the message names each culprit and the remedy."""


class Section(BaseModel):
    """Settings that are read together: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _named(value: Any) -> Any:
    """``dead_leaves`` is short for ``{name: dead_leaves}``."""
    return {"name": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    """``pinn`` is short for ``[pinn]``."""
    return (value,) if isinstance(value, str) else value


def _square(side: Any) -> Any:
    """``400`` is short for ``[400, 400]``."""
    return (side, side) if isinstance(side, int) else side


def _increasing(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [low, high], got {list(pair)}")
    return pair


def _not_negative(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] < 0:
        raise ValueError(f"expected 0 or more, got {list(pair)}")
    return pair


def _positive(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError(f"expected more than 0, got {list(pair)}")
    return pair


def _occupancies(shares: tuple[float, ...]) -> tuple[float, ...]:
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"expected shares that sum to 1, got {list(shares)}, which sum to {sum(shares):.6g}")
    return shares


def _fraction(value: Any) -> Any:
    """``0.1`` is short for ``{fraction: 0.1}``."""
    return {"fraction": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Range = Annotated[tuple[float, float], AfterValidator(_increasing)]
Share = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], AfterValidator(_increasing)
]
Shape = Annotated[
    tuple[PositiveInt, PositiveInt],
    BeforeValidator(_square, json_schema_input_type=PositiveInt | tuple[PositiveInt, PositiveInt]),
]
Alpha = Annotated[float, Field(gt=0, le=1)]
PatternSize = Annotated[int, Field(ge=16, le=1024, multiple_of=2)]


def _refuse_idle(section: Section, choice: str, acts_on: dict[str, tuple[str, ...]]) -> None:
    """Refuse settings that were changed but do not act on what was chosen."""
    for setting, names in acts_on.items():
        if choice not in names and getattr(section, setting) != type(section).model_fields[setting].default:
            raise ValueError(f"{setting} acts on {', '.join(names)}, not on {choice}: remove it")


# --- scans -----------------------------------------------------------------------------------------------------------


class Recipe(Section):
    """A named way to make something. A setting that does not act on what is named is refused, never ignored."""

    acts_on: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Settings that act on some names only, and those names."""

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Recipe":
        _refuse_idle(self, self.name, self.acts_on)
        return self


class ObjectRecipe(Recipe):
    """The sample to simulate."""

    name: Literal[
        *("dead_leaves", "lines", "gaussian_random_field", "procedural", "polyhedra", "perlin_noise", "white_noise"),
        *("blurred_noise", "points", "siemens_star", "photograph"),
    ] = "dead_leaves"
    """Kind of object."""
    size: Shape = (400, 400)
    """Height and width, px; one number for a square."""
    amplitude: Annotated[Range, AfterValidator(_not_negative)] = (0.7, 1.0)
    """Least and greatest amplitude, dimensionless, 0 or more."""
    phase_rad: Range = (-0.8, 0.8)
    """Least and greatest phase, rad; may exceed pi."""
    pink_noise: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of 1/f noise mixed into amplitude and phase; None is 0.2 for dead leaves and 0 for the others."""
    features_px: Annotated[Range, AfterValidator(_positive)] | None = None
    """Least and greatest radius, width or wavelength of a feature, px; None is the kind's own share of the size."""
    count: PositiveInt | None = None
    """How many features; None is the kind's own number."""
    power: NonNegativeFloat | None = None
    """Exponent: leaves have radii by `r^-power` (None is 3), a random field the amplitude spectrum `f^-power` (1.5)."""
    spokes: PositiveInt = 18
    """Pairs of spokes of a star."""
    images: tuple[str, str] = ("camera", "brick")
    """Phase image and amplitude image of a photograph: names of scikit-image's `data`, or paths."""

    acts_on = {
        "features_px": ("dead_leaves", "lines", "procedural", "polyhedra", "perlin_noise", "blurred_noise", "points"),
        "count": ("dead_leaves", "lines", "procedural", "polyhedra", "points"),
        "power": ("dead_leaves", "gaussian_random_field"),
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
    """`MODEL/SCAN` whose refined probe to use."""
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
    modes: Annotated[tuple[PositiveFloat, ...], AfterValidator(_occupancies)] | None = None
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
    fly_px: NonNegativeFloat = 0.0
    """Length of the motion along x during an exposure, px, centred on the position."""
    fly_exposures: Annotated[int, Field(ge=2)] = 5
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

    object: Annotated[ObjectRecipe, BeforeValidator(_named, json_schema_input_type=str | ObjectRecipe)] = ObjectRecipe()
    """The sample."""
    probe: Annotated[ProbeRecipe, BeforeValidator(_named, json_schema_input_type=str | ProbeRecipe)] = ProbeRecipe()
    """The beam."""
    trajectory: Annotated[Trajectory, BeforeValidator(_named, json_schema_input_type=str | Trajectory)] = Trajectory()
    """The path."""
    size: PatternSize = 64
    """Side of a pattern, px."""
    photons: PositiveFloat = 1e5
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

    swap: bool = False
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
"""Names of the formats that are read natively; `docs/formats.md` tells of each."""


def _known_format(name: str) -> str:
    if name not in ("auto", *FORMATS) and not name.startswith("ptychodus:"):
        raise ValueError(f"{name} is no format{nearest(name, FORMATS)}")
    return name


class Source(Section):
    """A measured scan (read by `convert`). `ptychoflow inspect FILE` writes one that is ready to use."""

    file: str
    """Path of the measurement; a bare name is looked for in the data cache (`PTYCHOFLOW_DATA`)."""
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
    object_is_truth: bool = False
    """The object in the file is what the scan was simulated from, not a guess."""
    reconstruction: str | None = None
    """`MODEL/SCAN` whose refined probe replaces the one in the file."""


class Packing(Section):
    """The dataset a scan becomes (read by `pack`)."""

    bad_pixels: tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = ()
    """Detector pixels `[y, x]` of the file that do not count."""
    impossible_counts: Literal["refuse", "mask", "drop"] = "refuse"
    """NaN, infinite and negative counts: refuse the scan, mask each pixel that ever has one, or drop such patterns."""
    saturation: PositiveInt | None = None
    """A pixel that reaches this in any pattern does not count, photons; None sets no limit."""
    centre: Literal["auto"] | tuple[NonNegativeInt, NonNegativeInt] | None = None
    """Pixel `[y, x]` of the direct beam, moved to the middle; `auto` moves patterns to where the probe puts them."""
    crop: PatternSize | None = None
    """Keep this central square of each pattern, px. Object pixels grow by as much; probe and positions follow."""
    bin: Annotated[int, Field(ge=1, le=64)] = 1
    """Sum squares of this many pixels a side into one, after the crop, px. The probe keeps its central part."""


# --- models ----------------------------------------------------------------------------------------------------------


class Network(Section):
    """The network (read by `train`; `infer` takes it from the checkpoint)."""

    architecture: Literal["unet", "fno", "cnn"] = "unet"
    """Kind of network: a residual U-Net, a Fourier operator, or the field's usual CNN with two decoders."""
    input: Literal["backprojection", "amplitude"] = "backprojection"
    """What it sees: the group back-projected through its probes, or the amplitudes of its patterns alone."""
    overlap: Literal["joint", "merged"] = "joint"
    """What it says: one canvas for the group, or a patch for each pattern, merged to one under their light."""
    head: Literal["complex", "amplitude_phase"] = "complex"
    """How: real and imaginary part to add, or an amplitude from 0 to 2 and a phase from -pi to pi to multiply with."""
    group_size: Annotated[int, Field(ge=1, le=16)] = 7
    """Patterns per group, C."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """Channels of the first level."""
    levels: Annotated[int, Field(ge=1, le=5)] = 3
    """Levels of the U-Net and of the CNN, each of which doubles the channels; Fourier blocks of the FNO."""
    attention: bool = False
    """Whether the encoder weighs channels and places; it makes a collapse likelier."""
    modes: Annotated[int, Field(ge=1, le=64)] = 12
    """Frequencies that a Fourier block mixes along each axis; those beyond a quarter of the window are left out."""
    iterations: PositiveInt = 10
    """Steps of back-projection before each correction; the first ones start from an empty object."""
    passes: Annotated[int, Field(ge=1, le=8)] = 2
    """Corrections, each by a network of its own after `iterations` of physics; time grows in proportion. Amplitudes are
    seen once."""

    acts_on: ClassVar[dict[str, tuple[str, ...]]] = {"attention": ("unet", "cnn"), "modes": ("fno",)}
    """Settings that act on some architectures only, and those."""

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Network":
        _refuse_idle(self, self.architecture, self.acts_on)
        _refuse_idle(self, self.input, dict.fromkeys(("iterations", "passes"), ("backprojection",)))
        if self.overlap == "merged" and self.group_size == 1:
            raise ValueError("overlap: merged merges the patterns of a group, but group_size is 1: raise it")
        return self

    def acting_on(self, architecture: str) -> list[str]:
        """The settings that act on some architectures only, this one among them."""
        return [setting for setting, names in self.acts_on.items() if architecture in names]


class Stage(Section):
    """A stretch of training with one weighting of the physics loss against the guide loss."""

    epochs: PositiveInt
    """Length."""
    physics_weight: Annotated[float, Field(ge=0, le=1)] | Literal["linear", "cosine", "exponential"] = 1.0
    """w in `(1 - w) L_guide + w L_physics`; a name ramps it from 0 to 1."""
    rate_factor: PositiveFloat = 1.0
    """Learning rate of the stage over that of the training; a ramp comes to it from the stage before."""
    freeze_encoder: bool = False
    """Leave the part of the network that reads its input as it is and train the rest: fine-tuning."""


class Shorthand(Section):
    """PtychoPINN's words for stages; they may stand in `training` instead of `stages`."""

    stage_1_epochs: NonNegativeInt = 0
    """Instead of `stages`: epochs on the guide loss, w = 0."""
    stage_2_epochs: NonNegativeInt = 0
    """Instead of `stages`: epochs in which w goes from 0 to 1."""
    stage_3_epochs: NonNegativeInt = 0
    """Instead of `stages`: epochs on the counts alone, w = 1."""
    physics_weight_schedule: Literal["linear", "cosine", "exponential"] = "cosine"
    """How w goes in `stage_2_epochs`."""
    stage_3_lr_factor: PositiveFloat = 0.1
    """`rate_factor` that `stage_2_epochs` go to and `stage_3_epochs` keep."""
    epochs_fine_tune: NonNegativeInt = 0
    """Instead of `stages`: epochs at the end on the counts alone with a frozen encoder."""
    fine_tune_gamma: PositiveFloat = 0.1
    """`rate_factor` of `epochs_fine_tune`."""

    @model_validator(mode="after")
    def _shapes_act(self) -> "Shorthand":
        shaped = {
            "physics_weight_schedule": self.stage_2_epochs,
            "stage_3_lr_factor": self.stage_2_epochs + self.stage_3_epochs,
            "fine_tune_gamma": self.epochs_fine_tune,
        }
        for name, epochs in shaped.items():
            if name in self.model_fields_set and not epochs:
                raise ValueError(f"{name} would do nothing without epochs that it shapes: remove it")
        if not self.stages():
            raise ValueError("stage_1_epochs to stage_3_epochs and epochs_fine_tune add up to no epoch: raise one")
        return self

    def stages(self) -> list[Stage]:
        """The stages that these words mean."""
        means = [
            (self.stage_1_epochs, {"physics_weight": 0.0}),
            (
                self.stage_2_epochs,
                {"physics_weight": self.physics_weight_schedule, "rate_factor": self.stage_3_lr_factor},
            ),
            (self.stage_3_epochs, {"physics_weight": 1.0, "rate_factor": self.stage_3_lr_factor}),
            (
                self.epochs_fine_tune,
                {"physics_weight": 1.0, "rate_factor": self.fine_tune_gamma, "freeze_encoder": True},
            ),
        ]
        return [Stage(epochs=epochs, **settings) for epochs, settings in means if epochs]


def _with_shorthand(schema: dict[str, Any]) -> None:
    """Tell readers of the schema of the words that may stand for stages."""
    schema["properties"] |= Shorthand.model_json_schema()["properties"]


class Regularisation(Section):
    """What canvases are kept from while training, under the light; means over pixels, so that sizes do not matter."""

    amplitude: Literal["total_variation", "mean_deviation"] | None = None
    """Of the amplitude: the step to the next pixels, or the distance from the mean; None leaves it free."""
    amplitude_weight: PositiveFloat = 1.0
    """Weight of that beside the loss."""
    phase: Literal["total_variation", "mean_deviation"] | None = None
    """The same of the phase, rad."""
    phase_weight: PositiveFloat = 1.0
    """Weight of that beside the loss."""

    @model_validator(mode="after")
    def _weights_act(self) -> "Regularisation":
        for part, weight in {"amplitude": self.amplitude_weight, "phase": self.phase_weight}.items():
            if getattr(self, part) is None and weight != 1.0:
                raise ValueError(f"{part}_weight acts with {part}, which is not set: name what to keep it from")
        return self


class Grouping(Section):
    """Which patterns are seen together."""

    method: Literal["nearest", "min_distance", "quadrant"] = "nearest"
    """How members are drawn beside the anchor: from its nearest neighbours, from the nearest within a band of
    distances, or from those in the quadrants around it, one from each before a second from any."""
    neighbours: PositiveInt = 9
    """K, how many nearest neighbours to draw from; `quadrant` wants some 30, so that each quadrant has a few."""
    min_distance_px: NonNegativeFloat = 0.0
    """Least distance from the anchor, object px; for `min_distance` and `quadrant`."""
    max_distance_px: PositiveFloat | None = None
    """Greatest distance from the anchor, object px; for `min_distance` and `quadrant`. None sets no limit."""
    y_bounds: Share = (0.0, 1.0)
    """Anchors lie between these shares of the height of the scan; training only, prediction covers every pattern."""
    x_bounds: Share = (0.0, 1.0)
    """The same across its width."""

    @model_validator(mode="after")
    def _distances_act(self) -> "Grouping":
        if self.method == "nearest" and (self.min_distance_px, self.max_distance_px) != (0.0, None):
            raise ValueError("min_distance_px and max_distance_px act on min_distance and quadrant, not on nearest")
        if self.max_distance_px is not None and self.max_distance_px < self.min_distance_px:
            raise ValueError(f"no distance is {self.min_distance_px} px or more and {self.max_distance_px} px or less")
        return self


class Validation(Section):
    """What is kept from training, to validate on. A number alone is short for `fraction`."""

    by: Literal["block", "region", "scan"] = "block"
    """One square block of each scan, placed by the seed; the same region of each; or whole scans."""
    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the patterns of each scan in its block; 0 keeps none."""
    y_bounds: Share = (0.9, 1.0)
    """The region lies between these shares of the height of a scan."""
    x_bounds: Share = (0.0, 1.0)
    """The same across its width."""
    scans: tuple[str, ...] = ()
    """Scans that are only validated on, of those to train on."""
    margin_px: NonNegativeFloat = 0.0
    """Patterns nearer than this to one that is validated on are not trained on either, object px."""

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Validation":
        if (self.by == "scan") != bool(self.scans):
            raise ValueError("scans names scans to validate on with `by: scan`, and only then")
        for by, names in {"block": ("fraction",), "region": ("y_bounds", "x_bounds")}.items():
            for name in names:
                if self.by != by and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} acts with `by: {by}`, not with {self.by}: remove it")
        return self


class Training(Section):
    """The training of a network (read by `train`)."""

    model_config = ConfigDict(json_schema_extra=_with_shorthand)

    stages: tuple[Stage, ...] = (Stage(epochs=2, physics_weight=0.0),)
    """Stages, one after another."""
    guide: Literal["auto", "truth", "amplitude"] = "auto"
    """Guide loss: the error against the truth (every scan needs one), the scale-free amplitude error, or, with `auto`,
    the one where a scan has a truth and the other where not."""
    learning_rate: PositiveFloat = 2e-3
    """Peak rate of AdamW."""
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the training over which the rate rises."""
    anneal_to: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the rate left at the end of training, reached along a cosine; 1 keeps it."""
    weight_decay: NonNegativeFloat = 0.0
    """Decay of AdamW."""
    gradient_clip: PositiveFloat = 1.0
    """Greatest norm of the gradient."""
    batch_size: PositiveInt = 16
    """Groups per step, over all devices."""
    groups_per_epoch: PositiveInt | None = None
    """Groups per epoch; one per training pattern without it."""
    loss: Literal["poisson", "amplitude", "mae", "legacy_amplitude"] = "poisson"
    """Physics loss on the counts."""
    witnesses: Annotated[int, Field(ge=0, le=16)] = 0
    """Patterns beside each group, drawn like its members, that the network does not see and that alone make up the data
    error: noise fitted in what it sees does not help it there. 0 takes the group's own. Acts on training on counts."""
    regularisation: Regularisation = Regularisation()
    """What is added to the loss."""
    grouping: Grouping = Grouping()
    """Which patterns form a group."""
    validation: Annotated[
        Validation,
        BeforeValidator(_fraction, json_schema_input_type=Annotated[float, Field(ge=0, lt=1)] | Validation),
    ] = Validation()
    """What is kept from training."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Of what the network computes in training; the physics stays in 32 bits. 16-mixed needs a GPU."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, which is what is validated and kept; None keeps none."""
    early_stopping: PositiveInt | None = None
    """Stop after this many validations without a smaller error; None goes through all stages."""
    keep: Literal["last", "best"] = "last"
    """Which weights become the model: those at the end, or those with the smallest error at a validation."""
    on_collapse: Literal["stop", "warn"] = "stop"
    """What to do with a training whose objects have gone flat at two validations in a row."""
    seed: NonNegativeInt = 0
    """Seed of weights, groups and order."""

    @model_validator(mode="after")
    def _what_needs_validation_has_it(self) -> "Training":
        none = self.validation.by == "block" and self.validation.fraction == 0
        if none and (self.early_stopping is not None or self.keep == "best"):
            raise ValueError("early_stopping and keep: best need something to validate on: raise validation.fraction")
        return self

    @model_validator(mode="before")
    @classmethod
    def _from_shorthand(cls, said: Any) -> Any:
        words = {name: said[name] for name in Shorthand.model_fields if name in said} if isinstance(said, dict) else {}
        if not words:
            return said
        if "stages" in said:
            raise ValueError(f"give stages or {', '.join(words)}, not both")
        return {name: said[name] for name in said if name not in words} | {"stages": Shorthand(**words).stages()}


class Inference(Section):
    """The prediction of patches (read by `infer` and `reconstruct`)."""

    groups: Literal["cover", "all"] = "cover"
    """Predict as few groups as hold every pattern, about 1.4 patterns / C of them, or one around each pattern."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's convolutions; physics stays in float32. `bfloat16` is for GPUs: on CPUs it gains nothing."""
    trim: Annotated[int, Field(ge=8, multiple_of=2)] | None = None
    """Keep this central square of each patch, px; None keeps where the illumination lives."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of real and imaginary parts of patches that are kept; float16 rounds to 1 in 2000."""
    keep_patches: bool = True
    """Write patches to disk (`infer`, then `stitch`); false predicts and stitches in one step (`reconstruct`)."""


class Stitching(Section):
    """The reassembly of patches (read by `stitch` and `reconstruct`)."""

    weighting: Literal["illumination", "uniform"] = "illumination"
    """Weight of the pixels of a patch: the mean light of the groups, or 1."""
    phase: Literal["synchronise", "none"] = "synchronise"
    """Solve for the phase offset of each patch, or leave them."""
    allow_dropped: bool = False
    """Leave out patches that hold NaN or infinity, and so patterns that are in no other; false stops there."""


class Refinement(Section):
    """The iterative fit to the counts (read by `refine`)."""

    epochs: PositiveInt = 12
    """Passes over all patterns."""
    batch_size: PositiveInt = 16
    """Patterns per update."""
    step: tuple[PositiveFloat, PositiveFloat] = (1.5, 0.3)
    """Step in the first and the last epoch, relative to the full rPIE step: large ones find, small ones settle."""
    alpha: tuple[Alpha, Alpha] = (0.1, 1.0)
    """Regularisation of rPIE in the first and the last epoch: near 0 dim pixels follow at once, 1 is plain PIE."""
    smooth_epochs: NonNegativeInt = 6
    """First epochs after each of which the slowly varying phase is solved for at once; 0 leaves it to the iteration."""
    probe_from: PositiveInt | None = None
    """Epoch from which the probe is refined as well; None keeps it."""
    modes: Annotated[int, Field(ge=1, le=32)] | None = None
    """Incoherent modes of the probe to refine, made from its first where there are fewer; None is those of the scan."""
    positions_from: PositiveInt | None = None
    """Epoch from which the position of each pattern is refined as well; None keeps them."""
    position_reach_px: PositiveFloat = 8.0
    """Farthest that a refined position may come to lie along an axis from where it was recorded, px."""
    brightness_from: PositiveInt | None = None
    """Epoch from which the light of each pattern is fitted as well; None takes the beam as steady. Changes
    that are slow along the scan cannot be told from the object's amplitude."""
    settled: NonNegativeFloat = 1e-3
    """Stop after an epoch that changes the phase by less, rad rms, and the R-factor by less than this share of it."""
    uncertainty: NonNegativeInt = 0
    """Scans to simulate from the result and to fit again, for the uncertainty of the phase: each takes as long as the
    fit, 2 are enough; 0 gives none."""
    seed: NonNegativeInt = 0
    """Seed of the order of patterns."""

    @model_validator(mode="after")
    def _new_modes_are_refined(self) -> "Refinement":
        if (self.modes or 1) > 1 and self.probe_from is None:
            raise ValueError("modes that are made up must be refined: set probe_from, such as 2, or remove modes")
        return self


class Evaluation(Section):
    """The measures (read by `evaluate`)."""

    split_half: bool = False
    """Reconstruct even and odd patterns apart as well and compare them by Fourier ring correlation."""
    max_shift_px: Annotated[float, Field(ge=0, le=16)] = 2.0
    """How far registration may move a reconstruction along an axis to lie on its truth, px; it reports the shift. 0
    leaves it where its positions put it."""
    taper_px: NonNegativeFloat = 8.0
    """Width of the tapered edge for Fourier ring correlation, px."""


# --- what reruns nothing ---------------------------------------------------------------------------------------------


class Runtime(Section):
    """Where and how to run; never changes a result, never triggers a rerun."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """What to compute on."""
    devices: PositiveInt = 1
    """Processes and devices of training and inference, on each node."""
    nodes: PositiveInt = 1
    """Computers that a training spreads over, its processes started by srun (a profile for SLURM does) or torchrun."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How processes train together: `auto` is DDP where there are several, `ddp` even for one."""
    accumulate: PositiveInt = 1
    """Parts in which the groups of a step pass, one after another, so that they need less memory."""
    compile: bool = False
    """Compile the networks for the device before training; pays off after some minutes."""
    checkpoint_minutes: PositiveFloat = 30.0
    """A half-trained state is written after each epoch and at least this often, min."""
    workers: NonNegativeInt = 0
    """Loader processes; none where counts lie on the device."""
    counts_on_device: Literal["auto", "always", "never"] = "auto"
    """Copy the counts to the device and gather groups there; `auto` does so on a GPU that has twice the room."""
    threads: PositiveInt | None = None
    """CPU threads of each process; None takes every core."""
    prediction_batch: PositiveInt | None = None
    """Groups predicted at once; None suits the device. What does not fit into memory is halved until it does."""
    canvas_memory_gib: NonNegativeFloat | None = None
    """Memory for a canvas, GiB; a larger one lies in files beside the product. None takes half of what is free."""


class Tracking(Section):
    """Where MLflow keeps runs; never triggers a rerun."""

    uri: str | None = "sqlite:///results/mlflow.db"
    """Tracking store; None tracks nothing."""
    experiment: str = "ptychoflow"
    """Name of the experiment."""


Export = Literal["directory", "h5", "npz", "cxi", "tif", "ptychopinn.npz"]


# --- the whole -------------------------------------------------------------------------------------------------------


class ScanEntry(Section):
    """A scan by name: simulated or measured, with what differs from the defaults."""

    simulation: Simulation | None = None
    """Makes it a simulated scan: what differs from the top-level `simulation`."""
    source: Source | None = None
    """Makes it a measured scan."""
    packing: Packing | None = None
    """What differs from the top-level `packing`."""


class ModelEntry(Section):
    """A way to reconstruct scans, with what differs from the defaults."""

    start: Literal["network", "flat"] = "network"
    """`network` trains one; `flat` is the iterative baseline, refined from an empty object."""
    adapts: str | None = None
    """Model whose trained network to go on with, instead of a fresh one: to fine-tune it, or to adapt it to the counts
    of a measured scan that `train_on` names. Its `network` settings hold."""
    train_on: tuple[str, ...] = ()
    """Scans to train on."""
    reconstructs: tuple[str, ...]
    """Scans to reconstruct."""
    exports: tuple[Export, ...] = ()
    """Forms to write each refined reconstruction in for other programs, in `results/exports/`: `directory` is
    ptychodus's standard directory, `h5`, `npz` and `cxi` its products, `tif` amplitude and phase, `ptychopinn.npz` a
    training archive."""
    network: Network | None = None
    """What differs from the top-level `network`."""
    training: Training | None = None
    """What differs from the top-level `training`."""
    inference: Inference | None = None
    """What differs from the top-level `inference`."""
    stitching: Stitching | None = None
    """What differs from the top-level `stitching`."""
    refinement: Refinement | None = None
    """What differs from the top-level `refinement`."""
    evaluation: Evaluation | None = None
    """What differs from the top-level `evaluation`."""


class Sweep(Section):
    """A model varied: each combination of values is a model, and scans where their settings vary, named from them."""

    model: Annotated[
        tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ]
    """Model to vary, or a list of models to vary alike; what a setting does not touch they share."""
    over: Annotated[dict[str, tuple[Any, ...] | dict[str | int | float, Any]], Field(min_length=1)]
    """What to vary: a setting such as `training.seed`, or `train_on`, with a list of values; a mapping names them."""
    scans: tuple[str, ...] = ()
    """Scans whose `simulation`, `source` or `packing` settings vary; every scan of the model without it."""


READS: dict[str, tuple[str, ...]] = {
    "simulate": ("simulation",),
    "convert": ("source",),
    "pack": ("packing",),
    "train": ("network", "training"),
    "infer": ("inference",),
    "stitch": ("stitching",),
    "refine": ("refinement",),
    "evaluate": ("evaluation",),
    "sweep": (),
    "report": (),
    "export": (),
}
"""The sections each step reads: what its rerun depends on."""
IN_ONE = {"reconstruct": (*READS["infer"], *READS["stitch"])}
"""What steps read that do the work of several."""
BATCH = ("source", "packing", "inference", "stitching", "refinement")
"""The sections that `batch` reads, which is no step of the workflow but several of them."""


class Config(Section):
    """A whole run: scans, models, and the defaults of every step."""

    title: str = "ptychoflow"
    """Heading of the report."""
    scans: dict[str, ScanEntry]
    """Scans by name."""
    models: dict[str, ModelEntry]
    """Models by name."""
    sweeps: dict[str, Sweep] = {}
    """Sweeps by name."""
    simulation: Simulation = Simulation()
    packing: Packing = Packing()
    network: Network = Network()
    training: Training = Training()
    inference: Inference = Inference()
    stitching: Stitching = Stitching()
    refinement: Refinement = Refinement()
    evaluation: Evaluation = Evaluation()
    runtime: Runtime = Runtime()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _names_meet(self) -> "Config":
        problems = [*self._problems_of_scans(), *self._problems_of_models(), *self._problems_of_sweeps()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def section(self, name: str, scan: str | None = None, model: str | None = None) -> Section:
        """One section, with what the scan or the model overrides laid over the default."""
        if name == "network" and model is not None and self.models[model].adapts is not None:
            return self.section(name, model=self.models[model].adapts)
        default = getattr(self, name, None)
        owners = [self.scans[whole_scan(scan)]] if scan is not None else []
        owners += [self.models[model]] if model is not None else []
        override = next((getattr(owner, name) for owner in owners if name in type(owner).model_fields), None)
        if default is None or override is None:
            return override or default
        merged = merge(default.model_dump(exclude_unset=True), override.model_dump(exclude_unset=True))
        return type(default).model_validate(merged)

    def settings(self, step: str, scan: str | None = None, model: str | None = None) -> str:
        """Exactly what a step reads, as canonical JSON: the parameter its rerun depends on."""
        sections = {name: self.section(name, scan, model).model_dump(mode="json") for name in (READS | IN_ONE)[step]}
        return json.dumps(sections, sort_keys=True, separators=(",", ":"))

    def probe_source(self, scan: str) -> str | None:
        """``MODEL/SCAN`` whose refined probe this scan is made with, if any."""
        entry = self.scans[whole_scan(scan)]
        if entry.source is not None:
            return entry.source.reconstruction
        return self.section("simulation", scan=scan).probe.reconstruction

    def files(self, scan: str) -> list[str]:
        """Files that the settings of a scan name, there or not."""
        source = self.scans[whole_scan(scan)].source
        if source is not None:
            named = (source.file, source.positions, source.probe)
        else:
            simulation = self.section("simulation", scan=scan)
            named = (simulation.probe.file, simulation.trajectory.file, *simulation.object.images)
        return [name for name in named if name is not None]

    def reconstructions(self) -> list[tuple[str, str]]:
        """Every ``(model, scan)`` to reconstruct, in the order written."""
        return [(model, scan) for model, entry in self.models.items() for scan in entry.reconstructs]

    def _problems_of_scans(self):
        if not self.scans:
            yield "scans is empty: name at least one, such as `leaves: {simulation: {object: dead_leaves}}`"
        for name, entry in self.scans.items():
            if not NAME.fullmatch(name):
                yield f"scans.{name}: expected letters, digits, - and _ in a name, because files are named so"
            if (entry.simulation is None) == (entry.source is None):
                yield f"scans.{name}: expected either simulation (made here) or source (measured), not both or neither"
            elif (reference := self.probe_source(name)) is not None:
                yield from self._problems_of_reference(f"scans.{name}", reference)

    def _problems_of_reference(self, where: str, reference: str):
        model, _, scan = reference.partition("/")
        if model not in self.models or scan not in self.models[model].reconstructs:
            known = [f"{m}/{s}" for m, s in self.reconstructions()]
            yield f"{where}: takes its probe from {reference}, which is not reconstructed{nearest(reference, known)}"
        elif where.removeprefix("scans.") in self._scans_behind(reference):
            yield f"{where}: takes its probe from {reference}, which is itself made from this scan: use another scan"

    def _scans_behind(self, reference: str) -> set[str]:
        """Every scan that a reconstruction ``MODEL/SCAN`` is made from, directly or through the probes of others."""
        behind: set[str] = set()
        waiting = [reference]
        while waiting:
            model, _, scan = waiting.pop().partition("/")
            for name in {scan, *self._learned_from(model)} & self.scans.keys() - behind:
                behind.add(name)
                further = self.probe_source(name)
                waiting += [further] if further and further.partition("/")[0] in self.models else []
        return behind

    def _learned_from(self, model: str) -> set[str]:
        """The scans that went into a network, also into those that it adapts."""
        return {scan for name in self._adapted_by(model) if name in self.models for scan in self.models[name].train_on}

    def _adapted_by(self, model: str) -> list[str]:
        """A model, the one it adapts, the one that adapts, and so on; the last one twice where they go in circles."""
        chain = [model]
        while (entry := self.models.get(chain[-1])) is not None and entry.adapts is not None:
            chain.append(entry.adapts)
            if chain[-1] in chain[:-1]:
                break
        return chain

    def _problems_of_adapting(self, name: str, entry: ModelEntry):
        chain = self._adapted_by(name)
        if entry.adapts not in self.models:
            yield f"models.{name}.adapts: there is no model {entry.adapts}{nearest(entry.adapts, self.models)}"
        elif chain[-1] in chain[:-1]:
            yield f"models.{name}.adapts goes in circles ({' -> '.join(chain)}): let one start afresh"
        elif "flat" in (entry.start, self.models[entry.adapts].start):
            yield f"models.{name}: adapts goes on with a network, start: flat has none: remove one of them"
        elif entry.network is not None:
            yield f"models.{name}.network: the network is that of {entry.adapts}, which this model adapts: remove it"

    def _problems_of_models(self):
        if not self.models:
            yield "models is empty: name at least one, such as `flat: {start: flat, reconstructs: [...]}`"
        for name, entry in self.models.items():
            if not NAME.fullmatch(name):
                yield f"models.{name}: expected letters, digits, - and _ in a name, because files are named so"
            if entry.start == "network" and not entry.train_on:
                yield f"models.{name}.train_on is empty: name the scans to train on, or set start: flat to iterate only"
            if entry.start == "flat" and entry.train_on:
                yield f"models.{name}: start: flat trains nothing, remove train_on"
            if entry.adapts is not None:
                yield from self._problems_of_adapting(name, entry)
            if not entry.reconstructs:
                yield f"models.{name}.reconstructs is empty: name the scans to reconstruct"
            for key in ("train_on", "reconstructs"):
                for scan in getattr(entry, key):
                    if scan not in self.scans:
                        yield f"models.{name}.{key}: there is no scan {scan}{nearest(scan, self.scans)}"

    def _problems_of_sweeps(self):
        for name, sweep in self.sweeps.items():
            if not NAME.fullmatch(name):
                yield f"sweeps.{name}: expected letters, digits, - and _ in a name, because files are named so"
            for key, known in (("model", self.models), ("scans", self.scans)):
                for word in getattr(sweep, key):
                    if word not in known:
                        yield f"sweeps.{name}.{key}: there is no {word}{nearest(word, known)}"
            for key, values in sweep.over.items():
                if not values:
                    yield f"sweeps.{name}.over.{key} is empty: give values, such as [0, 1, 2]"


def whole_scan(name: str) -> str:
    """The scan that a name means: ``star`` for ``star`` and for its halves ``star.even`` and ``star.odd``."""
    whole, _, half = name.partition(".")
    return whole if half in HALVES else name


def load_config(source: Path | str | dict) -> Config:
    """Validate a config from a YAML file or plain data.

    Raises:
        FileNotFoundError: if there is no such file.
        ConfigError: naming every culprit: unknown keys with the nearest known one, wrong types, missing scans.
    """
    raw = source
    if not isinstance(source, dict):
        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no config {source}")
        try:
            raw = yaml.safe_load(Path(source).read_text())
        except yaml.YAMLError as error:
            raise ConfigError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    return validate(Config, raw)


def validate(schema: type[Section], data: Any, where: str = "") -> Any:
    """Plain data as a section; every error in one readable line, its place told from ``where`` on.

    Raises:
        ConfigError: saying where, what was expected and what came.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ConfigError("config: " + "; ".join(where + _explain(schema, e) for e in error.errors())) from None


def step_sections(step: str, data: dict) -> dict[str, Section]:
    """The sections a step reads, from the JSON its rule hands over; defaults for what is not there."""
    names = BATCH if step == "batch" else (READS | IN_ONE)[step]
    known = {name: Config.model_fields[name].annotation if name != "source" else Source for name in names}
    for name in data:
        if name not in known:
            raise ConfigError(f"config: {step} reads {', '.join(known) or 'no settings'}, not {name}")
    return {name: validate(schema, data.get(name, {}), f"{name}.") for name, schema in known.items()}


def merge(base: dict, override: dict) -> dict:
    """``base`` with ``override`` laid over it, nested dictionaries merged, everything else replaced."""
    merged = dict(base)
    for key, value in override.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def _explain(schema: type[Section], error: dict) -> str:
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith(("function-", "constrained-")))
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{nearest(str(error['loc'][-1]), _known_keys(schema, error['loc'][:-1]))}"
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
        return f"{where}: {text}" if where else text
    if error["type"] == "missing":
        return f"{where}: missing, it has no default"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _known_keys(schema: type[Section], path: tuple) -> list[str]:
    """Keys allowed at a place of the config; empty where that cannot be told."""
    for part in path:
        if isinstance(schema, type) and issubclass(schema, Section) and part in schema.model_fields:
            schema = _section_in(schema.model_fields[part].annotation) or schema
    return [*schema.model_fields, *(Shorthand.model_fields if schema is Training else ())]


def _section_in(annotation: Any) -> type[Section] | None:
    """The section class inside ``X | None``, ``dict[str, X]``, ``tuple[X, ...]`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, getattr(annotation, "__args__", ()))), None)


def nearest(word: str, known) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
