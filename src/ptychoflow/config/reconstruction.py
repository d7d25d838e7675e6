"""Settings of the steps after packing and training: inference, stitching, refinement, evaluation."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .base import Alpha, Section, refuse_idle


class Inference(Section):
    """The prediction of patches by a trained network (read by `infer` and `reconstruct`)."""

    groups: Literal["minimal_cover", "all"] = "minimal_cover"
    """Groups of patterns to predict. `minimal_cover` takes as few groups as contain every pattern, about 1.4 J / C for
    J patterns in groups of C; `all` takes one around each pattern, J groups in total."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's convolutions; physics stays in float32. `bfloat16` takes half the time on GPUs
    and, in learned refinement, on processors with AVX-512 BF16. Elsewhere it gains nothing."""
    patch_crop_px: Annotated[int, Field(ge=8, multiple_of=2)] | None = None
    """Side of the central square of each patch that is kept, px. None keeps the square that the illumination fills."""
    dtype: Literal["float16", "float32"] = "float16"
    """Number format of the real and imaginary parts of patches on disk. `float16` halves the disk space and rounds by 1
    in 2000."""
    write_patches: bool = True
    """Write patches to disk (`infer`, then `stitch`). `false` predicts and stitches in one step (`reconstruct`), which
    saves the disk space."""


class Stitching(Section):
    """The assembly of predicted patches to one object (read by `stitch` and `reconstruct`)."""

    weighting: Literal["illumination", "uniform"] = "illumination"
    """Weight of each pixel where patches overlap. `illumination` takes the mean illumination of the groups, so that
    well illuminated pixels count more; `uniform` takes 1."""
    phase: Literal["synchronise", "none"] = "synchronise"
    """Global phase of each patch, which diffraction does not determine. `synchronise` solves for all of them from
    overlapping patches; `none` leaves them as predicted."""
    allow_missing_patches: bool = False
    """Leave out patches that hold NaN or infinity, even where a pattern is in no other patch. `false` ends with an
    error instead."""


Strength = Annotated[float, Field(ge=0, le=1)]


class Constraints(Section):
    """Constraints between the epochs of a refinement.

    A strength of 0 leaves a constraint out, 1 makes it hold after each epoch, and between them it is approached.
    """

    start_epoch: PositiveInt = 1
    """Epoch from which constraints act, at the end of each epoch."""
    amplitude_at_most_one: Strength = 0.0
    """Strength, 0 to 1, by which the object's amplitude above 1 is lowered to 1: a sample without gain. The probe must
    carry the photons of the beam."""
    phase_only: Strength = 0.0
    """Strength, 0 to 1, by which the object's amplitude is moved to 1: a sample that absorbs nothing."""
    total_variation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Weight of the total variation of the complex object, in units of the object; 0.001 to 0.01 removes noise from
    piecewise constant objects."""
    low_pass: Strength = 0.0
    """Strength, 0 to 1, by which frequencies of the object beyond `low_pass_cycles_per_px` are removed."""
    low_pass_cycles_per_px: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Frequency at which the Gaussian low pass is 1/2, cycles/px."""
    raster_peaks: Strength = 0.0
    """Strength, 0 to 1, by which raster artefacts are removed: peaks in the object's spectrum at the frequencies of a
    regular scan. A scan without a period is left as it is."""
    probe_support: Strength = 0.0
    """Strength, 0 to 1, by which the probe outside `probe_support_diameter_px` is removed."""
    probe_support_diameter_px: PositiveFloat = 32.0
    """Diameter of the disc that holds the probe, object px."""
    probe_centring: Strength = 0.0
    """Fraction, 0 to 1, of the distance from the probe's centre of mass to the middle by which probe and object are
    moved together, in whole pixels."""
    probe_aperture: Strength = 0.0
    """Strength, 0 to 1, by which the far field of the probe outside `probe_aperture_diameter_px` is removed."""
    probe_aperture_diameter_px: PositiveFloat = 32.0
    """Diameter of the disc that holds the far field of the probe, detector px."""
    probe_power: Strength = 0.0
    """Strength, 0 to 1, by which the probe keeps the photons that it starts with; the object takes up the factor."""
    slice_regularisation: Strength = 0.0
    """Strength, 0 to 1, by which slices of a thick sample are made alike where diffraction does not tell them apart:
    coarse structure, whose frequency along the beam lies beyond the cone that the detector sees."""
    slice_centring: Strength = 0.0
    """Fraction, 0 to 1, of the distance from the sample's centre of mass along the beam to the middle of the slices by
    which the sample is moved, in whole slices, and the probe with it. It needs `probe_start_epoch`."""

    @property
    def act(self) -> bool:
        """True if any constraint has a strength."""
        return any(getattr(self, name) for name in STRENGTHS)

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Constraints":
        for strength, names in STRENGTHS.items():
            for name in names:
                if getattr(self, strength) == 0 and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} acts with {strength} above 0 only: set {strength}, or remove {name}")
        if not self.act and self.start_epoch != 1:
            raise ValueError("start_epoch acts where a constraint has a strength above 0: set one, or remove it")
        return self


STRENGTHS: dict[str, tuple[str, ...]] = {
    "amplitude_at_most_one": (),
    "phase_only": (),
    "total_variation": (),
    "low_pass": ("low_pass_cycles_per_px",),
    "raster_peaks": (),
    "probe_support": ("probe_support_diameter_px",),
    "probe_centring": (),
    "probe_aperture": ("probe_aperture_diameter_px",),
    "probe_power": (),
    "slice_regularisation": (),
    "slice_centring": (),
}
"""Constraints and the settings that act with them."""


SLICE_SETTINGS = ("slice_spacing_m", "slice_start_epoch", "slice_spacing_start_epoch")
"""Settings that act on several slices only; None otherwise."""
SLICE_CONSTRAINTS = ("slice_regularisation", "slice_centring")
"""Constraints that act on several slices only."""


class Refinement(Section):
    """The iterative refinement of the object on the counts by rPIE (read by `refine`)."""

    epochs: PositiveInt = 12
    """Epochs; in each, every pattern is used once. More epochs resolve more detail until they fit the noise."""
    batch_size: PositiveInt = 16
    """Patterns per object update. Larger batches use a GPU better and converge more slowly per epoch."""
    step_size: tuple[PositiveFloat, PositiveFloat] = (1.5, 0.3)
    """Step size in the first and in the last epoch, dimensionless; 1 is the full rPIE update. Large steps converge
    fast, small ones end closer to the minimum. Lower the last one for few photons."""
    alpha: tuple[Alpha, Alpha] = (0.1, 1.0)
    """Regularisation of rPIE in the first and in the last epoch, above 0 to 1. Near 0 weakly illuminated pixels follow
    at once; 1 is ePIE, which changes them slowly."""
    amplitude_step_scale: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Factor on the amplitude part of each object update, 0 to 1. Lower it for nearly transparent objects and few
    photons, where the amplitude is mostly noise; 0 keeps the initial amplitude approximately."""
    low_order_phase_epochs: NonNegativeInt = 6
    """Epochs, counted from the first, after each of which the slowly varying phase is solved for directly. Single
    patterns determine it poorly, so that rPIE alone converges slowly there. 0 leaves it to rPIE."""
    probe_start_epoch: PositiveInt | None = None
    """Epoch from which the probe is refined as well; None keeps the probe. Set it to 2 or so for measured scans, whose
    probe is never known exactly."""
    probe_modes: Annotated[int, Field(ge=1, le=32)] | None = None
    """Incoherent probe modes to refine, for partial coherence or vibration. Missing modes are made from the first; None
    keeps the number of the scan."""
    position_start_epoch: PositiveInt | None = None
    """Epoch from which the position of each pattern is refined as well; None keeps the positions. The object should be
    recognisable by then."""
    max_position_shift_px: PositiveFloat = 8.0
    """Largest shift of a refined position along each axis from the recorded one, or from where `position_model` and
    `position_search_rounds` put it, px."""
    position_model: Literal["none", "rigid", "affine"] = "none"
    """Model of positions that are wrong as a whole, fitted before the first epoch to the position steps of all patterns
    together. `rigid` is a rotation, `affine` adds scales and shear; `none` fits none. It needs `position_start_epoch`;
    `max_position_shift_px` then counts from where the model puts a pattern."""
    position_model_rounds: Annotated[int, Field(ge=1, le=500)] = 36
    """Rounds of the fit of `position_model`, each a refinement of 12 epochs from a uniform object. Raise it where the
    model has not converged, which a warning says."""
    position_search_rounds: Annotated[int, Field(ge=0, le=200)] = 0
    """Rounds of a search, before the first epoch, for positions that are off by more than the features of the object:
    each pattern is compared with an object that others made, at random places about its own. 12 or so where errors are
    several pixels; 0 searches none. It needs `position_start_epoch`, and takes the time of some fifteen epochs a
    round."""
    position_search_px: Annotated[float, Field(gt=1, le=200)] = 8.0
    """Standard deviation of the position errors that the search expects along each axis, px: the radius of its first
    round. No trial is further than four times that, along each axis, from where an affine map expects a pattern."""
    intensity_start_epoch: PositiveInt | None = None
    """Epoch from which an intensity scale of each pattern is fitted as well, for a beam that fluctuates; None takes the
    beam as constant. Drifts that are slow along the scan cannot be distinguished from the object's amplitude."""
    probe_variations: Annotated[int, Field(ge=0, le=16)] = 0
    """Variation modes of the first probe mode, for a beam that changes from pattern to pattern (orthogonal probe
    relaxation). 2 to 4 describe drift of position and focus; 0 takes the beam as constant. They need
    `probe_start_epoch`."""
    probe_variation_start_epoch: PositiveInt | None = None
    """Epoch from which the variations are refined; None is three epochs after `probe_start_epoch`, or the last epoch
    where that is earlier."""
    probe_variation_smoothing: NonNegativeFloat = 0.0
    """Standard deviation of the Gaussian that smooths the weights of the variations along the scan, patterns. 0 leaves
    the weights of neighbouring patterns independent; 3 or so suits slow drifts and few photons."""
    background_start_epoch: PositiveInt | None = None
    """Epoch from which a static background, 0 or more counts in each detector pixel, is fitted as well; None fits none.
    It needs a mask: a detector pixel that is not valid has no background."""
    point_spread_px: NonNegativeFloat = 0.0
    """Standard deviation of the detector's Gaussian point spread, detector px, by which expected counts are blurred; 0
    is a detector without blur."""
    point_spread_start_epoch: PositiveInt | None = None
    """Epoch from which the width of the point spread is fitted as well, from `point_spread_px` on; None keeps it."""
    slices: Annotated[int, Field(ge=1, le=256)] = 1
    """Slices of the object along the beam (multislice), for samples thicker than the depth of field; 1 is a thin
    sample. The probe is that on the first slice."""
    slice_spacing_m: PositiveFloat | None = None
    """Distance between neighbouring slices, m; needed with more than one slice. None takes that of the start."""
    slice_start_epoch: PositiveInt | None = None
    """Epoch from which the object has all its slices; before, it is one slice in the middle. None begins with all."""
    slice_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum from epoch to epoch of what tells the slices apart, 0 to below 1; coarse structure converges slowly
    there. It ends after 80 % of the epochs. Lower it for few photons."""
    slice_spacing_start_epoch: PositiveInt | None = None
    """Epoch from which the distance between slices is refined as well, from `slice_spacing_m` on; None keeps it."""
    constraints: Constraints = Constraints()
    """Constraints on object and probe between epochs; the default has none."""
    stop: Literal["auto", "epochs", "held_out"] = "auto"
    """Criterion that ends the refinement. `epochs` runs all of them. `held_out` keeps 2 % of the pixels of each pattern
    from all updates, anneals in cycles of 10, 20, 40 ... epochs, stops after a cycle that predicts these pixels worse
    than those before, and keeps the best epoch. `auto` does that from 30 epochs on where photons are few: there more
    epochs fit noise."""
    convergence_tolerance: NonNegativeFloat = 1e-3
    """Stop after an epoch that changes the phase by less than this, rad rms, and lowers the R-factor by less than this
    fraction of it. 0 runs all epochs."""
    prior: Literal["none", "pretrained"] = "none"
    """Learned prior that corrects the object between epochs. `pretrained` is a network that comes with ptychoflow,
    trained once for any beam and kind of object: for sparse scans and few photons."""
    prior_interval: PositiveInt = 2
    """Epochs from one correction by the prior to the next. The last epoch is never followed by one, and of bright scans
    the last quarter of the epochs has none."""
    uncertainty: bool = False
    """Estimate the standard deviation of the phase at each pixel by a parametric bootstrap: three refinements of scans
    simulated from the result. It takes four times the time."""
    seed: NonNegativeInt = 0
    """Seed of the random order of patterns."""

    @model_validator(mode="after")
    def _starts_are_within_the_epochs(self) -> "Refinement":
        for name in type(self).model_fields:
            first = getattr(self, name) if name.endswith("_start_epoch") else None
            if first is not None and first > self.epochs:
                raise ValueError(f"{name} is {first}, but there are {self.epochs} epochs: lower it, or remove it")
        first = self.constraints.start_epoch
        if first > self.epochs:
            raise ValueError(f"constraints.start_epoch is {first}, but there are {self.epochs} epochs: lower it")
        return self

    @model_validator(mode="after")
    def _prior_acts(self) -> "Refinement":
        refuse_idle(self, self.prior, {"prior_interval": ("pretrained",)})
        if self.prior != "none" and self.prior_interval >= self.epochs:
            raise ValueError(
                f"prior_interval is {self.prior_interval}, but only {self.epochs - 1} epochs may be followed by a "
                "correction: lower it, or set prior: none"
            )
        return self

    @model_validator(mode="after")
    def _new_modes_are_refined(self) -> "Refinement":
        if (self.probe_modes or 1) > 1 and self.probe_start_epoch is None:
            raise ValueError(
                "additional probe modes need probe refinement: set probe_start_epoch, such as 2, or remove probe_modes"
            )
        return self

    @model_validator(mode="after")
    def _modelled_positions_are_refined(self) -> "Refinement":
        if self.position_model != "none" and self.position_start_epoch is None:
            raise ValueError(
                "a position model needs position refinement: set position_start_epoch, such as 3, or remove "
                "position_model"
            )
        refuse_idle(self, self.position_model, {"position_model_rounds": ("rigid", "affine")})
        return self

    @model_validator(mode="after")
    def _search_is_refined(self) -> "Refinement":
        rounds = self.position_search_rounds
        refuse_idle(self, "0 rounds" if rounds == 0 else "a search", {"position_search_px": ("a search",)})
        if rounds and self.position_start_epoch is None:
            raise ValueError(
                "a search for positions finds whole pixels, which are refined then: set position_start_epoch, such as "
                "3, or remove position_search_rounds"
            )
        return self

    @model_validator(mode="after")
    def _variations_are_refined(self) -> "Refinement":
        if self.probe_variations and self.probe_start_epoch is None:
            raise ValueError(
                "probe variations need probe refinement: set probe_start_epoch, such as 2, or remove probe_variations"
            )
        refuse_idle(
            self,
            "probe_variations: 0" if self.probe_variations == 0 else "any",
            {name: ("any",) for name in ("probe_variation_start_epoch", "probe_variation_smoothing")},
        )
        return self

    @model_validator(mode="after")
    def _slices_act(self) -> "Refinement":
        if self.slices == 1:
            refuse_idle(self, "slices: 1", {"slice_momentum": ("slices above 1",)})
            changed = {name: getattr(self, name) for name in SLICE_SETTINGS}
            changed |= {f"constraints.{name}": getattr(self.constraints, name) or None for name in SLICE_CONSTRAINTS}
            for name, value in changed.items():
                if value is not None:
                    raise ValueError(f"{name} acts with slices above 1 only: set slices, or remove {name}")
            return self
        if self.prior != "none":
            raise ValueError("the learned prior corrects thin objects: set prior: none, or slices: 1")
        if self.position_model != "none" or self.position_search_rounds:
            raise ValueError(
                "a position model or search makes thin objects: set position_model: none, position_search_rounds: 0, "
                "or slices: 1"
            )
        if self.uncertainty:
            raise ValueError("the uncertainty is that of thin objects: set uncertainty: false, or slices: 1")
        if self.constraints.slice_centring and self.probe_start_epoch is None:
            raise ValueError("constraints.slice_centring moves the probe too: set probe_start_epoch, such as 2")
        return self

    @property
    def start_epochs(self) -> dict[str, int | None]:
        """Epoch from which each variable beside the object is refined; None for never."""
        variations = None
        if self.probe_variations and self.probe_start_epoch is not None:
            variations = self.probe_variation_start_epoch or min(self.probe_start_epoch + 3, self.epochs)
        return {
            "probe": self.probe_start_epoch,
            "positions": self.position_start_epoch,
            "probe_scale": self.intensity_start_epoch,
            "probe_variations": variations,
            "background": self.background_start_epoch,
            "point_spread": self.point_spread_start_epoch,
            "slices": (self.slice_start_epoch or 1) if self.slices > 1 else None,
            "slice_spacing": self.slice_spacing_start_epoch,
            "constraints": self.constraints.start_epoch if self.constraints.act else None,
        }


class Evaluation(Section):
    """The metrics (read by `evaluate`)."""

    split_half: bool = False
    """Also reconstruct the even and the odd patterns separately and compare the two by Fourier ring correlation: a
    resolution estimate without ground truth, for twice the time."""
    max_shift_px: Annotated[float, Field(ge=0, le=16)] = 2.0
    """Largest shift along each axis by which registration may move a reconstruction onto the ground truth, px; the
    metrics report the shift. 0 compares at the recorded positions."""
    taper_px: NonNegativeFloat = 8.0
    """Width of the tapered edge for Fourier ring correlation, px. Without a taper the edges of the field correlate."""
