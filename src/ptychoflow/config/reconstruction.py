"""Settings of the steps after packing and training: inference, stitching, refinement, evaluation."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .base import Alpha, Section


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
    """Largest shift of a refined position along each axis from the recorded one, px."""
    intensity_start_epoch: PositiveInt | None = None
    """Epoch from which an intensity scale of each pattern is fitted as well, for a beam that fluctuates; None takes the
    beam as constant. Drifts that are slow along the scan cannot be distinguished from the object's amplitude."""
    convergence_tolerance: NonNegativeFloat = 1e-3
    """Stop after an epoch that changes the phase by less than this, rad rms, and lowers the R-factor by less than this
    fraction of it. 0 runs all epochs."""
    uncertainty: bool = False
    """Estimate the standard deviation of the phase at each pixel by a parametric bootstrap: three refinements of scans
    simulated from the result. It takes four times the time."""
    seed: NonNegativeInt = 0
    """Seed of the random order of patterns."""

    @model_validator(mode="after")
    def _starts_are_within_the_epochs(self) -> "Refinement":
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
    """The metrics (read by `evaluate`)."""

    split_half: bool = False
    """Also reconstruct the even and the odd patterns separately and compare the two by Fourier ring correlation: a
    resolution estimate without ground truth, for twice the time."""
    max_shift_px: Annotated[float, Field(ge=0, le=16)] = 2.0
    """Largest shift along each axis by which registration may move a reconstruction onto the ground truth, px; the
    metrics report the shift. 0 compares at the recorded positions."""
    taper_px: NonNegativeFloat = 8.0
    """Width of the tapered edge for Fourier ring correlation, px. Without a taper the edges of the field correlate."""
