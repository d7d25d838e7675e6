"""Settings of what is made of a scan: prediction, stitching, refinement, measures."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .base import Alpha, Section


class Inference(Section):
    """The prediction of patches (read by `infer` and `reconstruct`)."""

    groups: Literal["minimal_cover", "all"] = "minimal_cover"
    """Predict as few groups as hold every pattern, about 1.4 patterns / C of them, or one around each pattern."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's convolutions; physics stays in float32. `bfloat16` takes half the time on GPUs and, where a fit
    is corrected, on processors with AVX-512 BF16; elsewhere it gains nothing."""
    patch_crop_px: Annotated[int, Field(ge=8, multiple_of=2)] | None = None
    """Keep this central square of each patch, px; None keeps where the illumination lives."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of real and imaginary parts of patches that are kept; float16 rounds to 1 in 2000."""
    write_patches: bool = True
    """Write patches to disk (`infer`, then `stitch`); false predicts and stitches in one step (`reconstruct`)."""


class Stitching(Section):
    """The reassembly of patches (read by `stitch` and `reconstruct`)."""

    weighting: Literal["illumination", "uniform"] = "illumination"
    """Weight of the pixels of a patch: the mean light of the groups, or 1."""
    phase: Literal["synchronise", "none"] = "synchronise"
    """Solve for the phase offset of each patch, or leave them."""
    allow_missing_patches: bool = False
    """Leave out patches that hold NaN or infinity, and so patterns that are in no other; false stops there."""


class Refinement(Section):
    """The iterative fit to the counts (read by `refine`)."""

    epochs: PositiveInt = 12
    """Passes over all patterns."""
    batch_size: PositiveInt = 16
    """Patterns per update."""
    step_size: tuple[PositiveFloat, PositiveFloat] = (1.5, 0.3)
    """Step in the first and the last epoch, relative to the full rPIE step: large ones find, small ones settle."""
    alpha: tuple[Alpha, Alpha] = (0.1, 1.0)
    """Regularisation of rPIE in the first and the last epoch: near 0 dim pixels follow at once, 1 is plain PIE."""
    amplitude_step_scale: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How much of each step's change of amplitude the object follows: less where it is nearly transparent and photons
    are few, so that its amplitude is mostly noise; 0 leaves it about as it began."""
    low_order_phase_epochs: NonNegativeInt = 6
    """First epochs after each of which the slowly varying phase is solved for at once; 0 leaves it to the iteration."""
    probe_start_epoch: PositiveInt | None = None
    """Epoch from which the probe is refined as well; None keeps it."""
    probe_modes: Annotated[int, Field(ge=1, le=32)] | None = None
    """Incoherent modes of the probe to refine, made from its first where there are fewer; None is those of the scan."""
    position_start_epoch: PositiveInt | None = None
    """Epoch from which the position of each pattern is refined as well; None keeps them."""
    max_position_shift_px: PositiveFloat = 8.0
    """Farthest that a refined position may come to lie along an axis from where it was recorded, px."""
    intensity_start_epoch: PositiveInt | None = None
    """Epoch from which the light of each pattern is fitted as well; None takes the beam as steady. Changes
    that are slow along the scan cannot be told from the object's amplitude."""
    convergence_tolerance: NonNegativeFloat = 1e-3
    """Stop after an epoch that changes the phase by less, rad rms, and the R-factor by less than this share of it."""
    uncertainty: bool = False
    """Estimate how far the phase may be off, from three fits to scans simulated from it: four times the time."""
    seed: NonNegativeInt = 0
    """Seed of the order of patterns."""

    @model_validator(mode="after")
    def _what_is_let_free_has_its_epochs(self) -> "Refinement":
        for name in ("probe_start_epoch", "position_start_epoch", "intensity_start_epoch"):
            first = getattr(self, name)
            if first is not None and first > self.epochs:
                raise ValueError(f"{name} is {first}, but there are {self.epochs} epochs: lower it, or remove it")
        return self

    @model_validator(mode="after")
    def _new_modes_are_refined(self) -> "Refinement":
        if (self.probe_modes or 1) > 1 and self.probe_start_epoch is None:
            raise ValueError(
                "additional probe modes need probe refinement: set probe_start_epoch, such as 2, or remove probe_modes"
            )
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
