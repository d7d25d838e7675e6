"""Settings of networks and of their training."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from .base import Section, Share, fraction, refuse_idle


class Network(Section):
    """The network (read by `train`; `infer` takes it from the checkpoint)."""

    architecture: Literal["unet", "fno", "cnn"] = "unet"
    """Kind of network: a residual U-Net, a Fourier operator, or the field's usual CNN with two decoders."""
    input: Literal["backprojection", "amplitude", "object_estimate"] = "backprojection"
    """What it sees: the group back-projected through its probes, the amplitudes of its patterns alone, or a fit of the
    whole scan, whose object it corrects between epochs (`reconstruct` does; there are no patches)."""
    output: Literal["canvas", "patches"] = "canvas"
    """What it says: one canvas for the group, or a patch for each pattern, merged to one under their light."""
    head: Literal["complex", "amplitude_phase"] = "complex"
    """How: real and imaginary part to add, or an amplitude from 0 to 2 and a phase from -pi to pi to multiply with."""
    group_size: Annotated[int, Field(ge=1, le=16)] = 7
    """Patterns per group, C."""
    base_channels: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """Channels of the first level."""
    depth: Annotated[int, Field(ge=1, le=5)] = 3
    """Levels of the U-Net and of the CNN, each of which doubles the channels; Fourier blocks of the FNO."""
    attention: bool = False
    """Whether the encoder weighs channels and places; it makes a collapse likelier."""
    fourier_modes: Annotated[int, Field(ge=1, le=64)] = 12
    """Frequencies that a Fourier block mixes along each axis; those beyond a quarter of the window are left out."""
    physics_iterations: PositiveInt = 10
    """Steps of back-projection before each correction, the first ones from an empty object; epochs of a fit, 1 unless
    set."""
    cascades: Annotated[int, Field(ge=1, le=8)] = 2
    """Corrections, each by a network of its own after `physics_iterations`; time grows in proportion. Amplitudes are
    seen once. A fit is corrected by one and the same network, 3 times unless set."""

    acts_on: ClassVar[dict[str, tuple[str, ...]]] = {"attention": ("unet", "cnn"), "fourier_modes": ("fno",)}
    """Settings that act on some architectures only, and those."""
    of_a_fit: ClassVar[dict[str, int]] = {"physics_iterations": 1, "cascades": 3}
    """What is taken for a fit unless set: an epoch comes as far as many steps of back-projection."""

    @model_validator(mode="after")
    def _a_fit_has_its_own(self) -> "Network":
        """It counts as not set: what a model that sees something else takes from here is not that."""
        if self.input == "object_estimate":
            self.__dict__.update({name: value for name, value in self.of_a_fit.items() if name in self.hanging()})
        return self

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Network":
        refuse_idle(self, self.architecture, self.acts_on)
        refuse_idle(
            self, self.input, dict.fromkeys(("physics_iterations", "cascades"), ("backprojection", "object_estimate"))
        )
        refuse_idle(self, self.input, {"output": ("backprojection", "amplitude")})
        if self.output == "patches" and self.group_size == 1:
            raise ValueError("output: patches merges the patches of a group, but group_size is 1: raise it")
        return self

    def hanging(self) -> set[str]:
        """The settings that nobody set and whose value hangs on `input`."""
        return self.of_a_fit.keys() - self.model_fields_set

    def acting_on(self, architecture: str) -> list[str]:
        """The settings that act on some architectures only, this one among them."""
        return [setting for setting, names in self.acts_on.items() if architecture in names]


class Stage(Section):
    """A stretch of training with one weighting of the physics loss against the guide loss."""

    epochs: PositiveInt
    """Length."""
    physics_weight: Annotated[float, Field(ge=0, le=1)] | Literal["linear", "cosine", "exponential"] = 1.0
    """w in `(1 - w) L_guide + w L_physics`; a name ramps it from 0 to 1."""
    lr_factor: PositiveFloat = 1.0
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
    """`lr_factor` that `stage_2_epochs` go to and `stage_3_epochs` keep."""
    epochs_fine_tune: NonNegativeInt = 0
    """Instead of `stages`: epochs at the end on the counts alone with a frozen encoder."""
    fine_tune_gamma: PositiveFloat = 0.1
    """`lr_factor` of `epochs_fine_tune`."""

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
                {"physics_weight": self.physics_weight_schedule, "lr_factor": self.stage_3_lr_factor},
            ),
            (self.stage_3_epochs, {"physics_weight": 1.0, "lr_factor": self.stage_3_lr_factor}),
            (
                self.epochs_fine_tune,
                {"physics_weight": 1.0, "lr_factor": self.fine_tune_gamma, "freeze_encoder": True},
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
    k_nearest: PositiveInt = 9
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

    split: Literal["block", "region", "scan"] = "block"
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
        if (self.split == "scan") != bool(self.scans):
            raise ValueError("scans names scans to validate on with `split: scan`, and only then")
        for split, names in {"block": ("fraction",), "region": ("y_bounds", "x_bounds")}.items():
            for name in names:
                if self.split != split and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} acts with `split: {split}`, not with {self.split}: remove it")
        return self


class Training(Section):
    """The training of a network (read by `train`)."""

    model_config = ConfigDict(json_schema_extra=_with_shorthand)

    stages: tuple[Stage, ...] = (Stage(epochs=2, physics_weight=0.0),)
    """Stages, one after another."""
    supervision: Literal["auto", "ground_truth", "amplitude"] = "auto"
    """Guide loss: the error against the truth (every scan needs one), the scale-free amplitude error, or, with `auto`,
    the one where a scan has a truth and the other where not."""
    learning_rate: PositiveFloat = 2e-3
    """Peak rate of AdamW."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the training over which the rate rises."""
    final_lr_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the rate left at the end of training, reached along a cosine; 1 keeps it."""
    weight_decay: NonNegativeFloat = 0.0
    """Decay of AdamW."""
    gradient_clip: PositiveFloat = 1.0
    """Greatest norm of the gradient."""
    batch_size: PositiveInt = 16
    """Groups per step, over all devices."""
    groups_per_epoch: PositiveInt | None = None
    """Groups per epoch; one per training pattern without it."""
    physics_loss: Literal["poisson", "amplitude", "mae", "legacy_amplitude"] = "poisson"
    """Physics loss on the counts."""
    held_out_neighbours: Annotated[int, Field(ge=0, le=16)] = 0
    """Patterns beside each group, drawn like its members, that the network does not see and that alone make up the data
    error: noise fitted in what it sees does not help it there. 0 takes the group's own. Acts on training on counts."""
    regularisation: Regularisation = Regularisation()
    """What is added to the loss."""
    grouping: Grouping = Grouping()
    """Which patterns form a group."""
    validation: Annotated[
        Validation,
        BeforeValidator(fraction, json_schema_input_type=Annotated[float, Field(ge=0, lt=1)] | Validation),
    ] = Validation()
    """What is kept from training."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Of what the network computes in training; the physics stays in 32 bits. 16-mixed needs a GPU."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, which is what is validated and kept; None keeps none."""
    early_stopping_patience: PositiveInt | None = None
    """Stop after this many validations without a smaller error; None goes through all stages."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights become the model: those at the end, or those with the smallest error at a validation."""
    on_collapse: Literal["stop", "warn"] = "stop"
    """What to do with a training whose objects have gone flat at two validations in a row."""
    seed: NonNegativeInt = 0
    """Seed of weights, groups and order."""

    @model_validator(mode="after")
    def _what_needs_validation_has_it(self) -> "Training":
        none = self.validation.split == "block" and self.validation.fraction == 0
        if none and (self.early_stopping_patience is not None or self.checkpoint == "best"):
            raise ValueError(
                "early_stopping_patience and checkpoint: best need something to validate on: raise validation.fraction"
            )
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
