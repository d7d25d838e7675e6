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

from .base import Interval, Section, fraction, refuse_idle


class Network(Section):
    """The neural network (read by `train`; `infer` takes it from the checkpoint)."""

    architecture: Literal["unet", "fno", "cnn"] = "unet"
    """Kind of network: a residual U-Net, a Fourier neural operator, or PtychoPINN's CNN with two decoders."""
    input: Literal["backprojection", "amplitude", "counts", "object_estimate"] = "backprojection"
    """Input of the network. `backprojection`: an estimate of the object from the counts and probes of a group.
    `amplitude`: the square roots of the counts of a group alone. `counts`: those counts themselves, as networks of
    PtychoPINN see them. `object_estimate`: the object of the whole scan during iterative refinement, which the network
    corrects between epochs (learned refinement, by `reconstruct`; it makes no patches)."""
    output: Literal["canvas", "patches"] = "canvas"
    """Output of the network: one canvas for the whole group, on which overlapping patterns agree by construction, or a
    patch for each pattern, merged with the probe intensity as weight."""
    patch_weighting: Literal["illumination", "central", "uniform"] = "illumination"
    """Weight of each pixel where `output: patches` merges the patches of a group: the probe intensity, 1 in the central
    half of each patch and 0 around it, or 1."""
    head: Literal["complex", "amplitude_phase", "polar"] = "complex"
    """Form of the output. `complex`: real and imaginary part, added to the input estimate. `amplitude_phase`: an
    amplitude from 0 to 2 and a phase from -pi to pi, multiplied with it. `polar`: the head of PtychoPINN's CNN, an
    unbounded amplitude by `amplitude_activation` and a phase from -pi to pi in the central half of the patch, a SiLU of
    either in the border around it."""
    amplitude_activation: Literal["silu", "sigmoid", "softplus", "relu"] = "silu"
    """Function that makes the amplitude of `head: polar`."""
    group_size: Annotated[int, Field(ge=1, le=16)] = 7
    """Patterns per group, C, 1 to 16. Larger groups give more overlap and take more time."""
    base_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 32
    """Channels of the first level, 8 to 1024, a multiple of 8. The number of weights grows with its square."""
    depth: Annotated[int, Field(ge=1, le=5)] = 3
    """Levels of the U-Net and the CNN, each with twice the channels of the one before; Fourier blocks of the FNO."""
    attention: bool = False
    """Add channel and spatial attention to the encoder. Training collapses more easily with it."""
    fourier_modes: Annotated[int, Field(ge=1, le=64)] = 12
    """Frequencies along each axis that a Fourier block mixes, 1 to 64. Those above a quarter of the window's side are
    left out."""
    physics_iterations: Annotated[int, Field(ge=1, le=1000)] = 10
    """Iterations of physics before each network, 1 to 1000: back-projection steps, which start from a uniform object in
    the first cascade, or, for `input: object_estimate`, epochs of rPIE (1 unless set). No effect on `input: amplitude`
    and `counts`."""
    cascades: Annotated[int, Field(ge=1, le=8)] = 2
    """Cascades, that is unrolled iterations, 1 to 8. Each runs `physics_iterations` and then a network that corrects
    the object; time grows in proportion. Each has a network of its own, except for `input: object_estimate`, where all
    share one (3 cascades unless set). No effect on `input: amplitude` and `counts`, which have one."""

    acts_on: ClassVar[dict[str, tuple[str, ...]]] = {
        "attention": ("unet", "cnn"),
        "fourier_modes": ("fno",),
        "amplitude_activation": ("cnn",),
    }
    """Settings that have an effect on some architectures only, and those."""
    object_estimate_defaults: ClassVar[dict[str, int]] = {"physics_iterations": 1, "cascades": 3}
    """Defaults for `input: object_estimate`: one epoch of rPIE progresses as far as many back-projection steps."""

    @model_validator(mode="after")
    def _apply_object_estimate_defaults(self) -> "Network":
        """Set the defaults of learned refinement; they count as not set, so that other methods do not inherit them."""
        if self.input == "object_estimate":
            unset = self.input_dependent_defaults()
            self.__dict__.update({name: self.object_estimate_defaults[name] for name in unset})
        return self

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Network":
        refuse_idle(self, self.architecture, self.acts_on)
        refuse_idle(
            self, self.input, dict.fromkeys(("physics_iterations", "cascades"), ("backprojection", "object_estimate"))
        )
        refuse_idle(self, self.input, {"output": ("backprojection", "amplitude", "counts")})
        refuse_idle(self, f"output: {self.output}", {"patch_weighting": ("output: patches",)})
        refuse_idle(self, f"head: {self.head}", {"amplitude_activation": ("head: polar",)})
        if self.head == "polar" and self.architecture != "cnn":
            raise ValueError(f"head: polar is that of the cnn, not of the {self.architecture}: set architecture: cnn")
        if self.output == "patches" and self.group_size == 1:
            raise ValueError("output: patches merges the patches of a group, but group_size is 1: raise it")
        return self

    @property
    def sees_patterns(self) -> bool:
        """True if the network sees diffraction patterns alone, without probes and positions."""
        return self.input in ("amplitude", "counts")

    def input_dependent_defaults(self) -> set[str]:
        """Return the settings that were not set and whose default depends on `input`."""
        return self.object_estimate_defaults.keys() - self.model_fields_set

    def acting_on(self, architecture: str) -> list[str]:
        """Return the settings that have an effect on this architecture and not on all."""
        return [setting for setting, names in self.acts_on.items() if architecture in names]


class Stage(Section):
    """A part of the training with one weighting of physics loss and supervised loss."""

    epochs: PositiveInt
    """Epochs of this stage."""
    physics_weight: Annotated[float, Field(ge=0, le=1)] | Literal["linear", "cosine", "exponential"] = 1.0
    """Weight w of the physics loss in `(1 - w) L_supervised + w L_physics`, 0 to 1. A name ramps it from 0 to 1 over
    the stage."""
    lr_factor: PositiveFloat = 1.0
    """Learning rate of this stage relative to `learning_rate`. With a ramped `physics_weight` the rate approaches it
    from that of the stage before."""
    freeze_encoder: bool = False
    """Keep the weights of the encoder and train the others, for fine-tuning."""


class Shorthand(Section):
    """PtychoPINN's names for stages; they may replace `stages` in `training`."""

    stage_1_epochs: NonNegativeInt = 0
    """Epochs on the supervised loss, w = 0; instead of `stages`."""
    stage_2_epochs: NonNegativeInt = 0
    """Epochs in which w rises from 0 to 1; instead of `stages`."""
    stage_3_epochs: NonNegativeInt = 0
    """Epochs on the physics loss, w = 1; instead of `stages`."""
    physics_weight_schedule: Literal["linear", "cosine", "exponential"] = "cosine"
    """Shape of the rise of w in `stage_2_epochs`."""
    stage_3_lr_factor: PositiveFloat = 0.1
    """Learning rate relative to `learning_rate` that `stage_2_epochs` end at and `stage_3_epochs` keep."""
    epochs_fine_tune: NonNegativeInt = 0
    """Epochs at the end on the physics loss with a frozen encoder; instead of `stages`."""
    fine_tune_gamma: PositiveFloat = 0.1
    """Learning rate of `epochs_fine_tune` relative to `learning_rate`."""

    @model_validator(mode="after")
    def _shapes_act(self) -> "Shorthand":
        shaped = {
            "physics_weight_schedule": self.stage_2_epochs,
            "stage_3_lr_factor": self.stage_2_epochs + self.stage_3_epochs,
            "fine_tune_gamma": self.epochs_fine_tune,
        }
        for name, epochs in shaped.items():
            if name in self.model_fields_set and not epochs:
                raise ValueError(f"{name} has no effect without epochs that it shapes: remove it")
        if not self.stages():
            raise ValueError("stage_1_epochs to stage_3_epochs and epochs_fine_tune sum to 0 epochs: raise one")
        return self

    def stages(self) -> list[Stage]:
        """Return the stages that these settings stand for."""
        stages: list[tuple[int, dict[str, Any]]] = [
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
        return [Stage(epochs=epochs, **settings) for epochs, settings in stages if epochs]


def _with_shorthand(schema: dict[str, Any]) -> None:
    """Add the settings that may replace `stages` to the JSON schema."""
    schema["properties"] |= Shorthand.model_json_schema()["properties"]


class Regularisation(Section):
    """Penalties on predicted objects during training: means over pixels, weighted by illumination."""

    amplitude: Literal["total_variation", "mean_deviation"] | None = None
    """Penalty on the amplitude: total variation, or mean deviation from the mean; None adds none."""
    amplitude_weight: PositiveFloat = 1.0
    """Weight of the amplitude penalty relative to the loss."""
    phase: Literal["total_variation", "mean_deviation"] | None = None
    """Penalty on the phase: total variation, or mean deviation from the mean, rad; None adds none."""
    phase_weight: PositiveFloat = 1.0
    """Weight of the phase penalty relative to the loss."""

    @model_validator(mode="after")
    def _weights_act(self) -> "Regularisation":
        for part, weight in {"amplitude": self.amplitude_weight, "phase": self.phase_weight}.items():
            if getattr(self, part) is None and weight != 1.0:
                raise ValueError(f"{part}_weight has no effect without {part}: set {part}, or remove the weight")
        return self


class Grouping(Section):
    """The choice of patterns that form a group around an anchor pattern."""

    method: Literal["nearest", "min_distance", "quadrant"] = "nearest"
    """Rule by which members are drawn: from the `k_nearest` neighbours of the anchor, from the nearest within a band of
    distances, or from each of the four quadrants around it in turn."""
    k_nearest: PositiveInt = 9
    """Nearest neighbours K to draw from. `quadrant` needs about 30, so that each quadrant contains a few."""
    min_distance_px: NonNegativeFloat = 0.0
    """Smallest distance of a member from the anchor, object px; for `min_distance` and `quadrant`."""
    max_distance_px: PositiveFloat | None = None
    """Largest distance of a member from the anchor, object px; for `min_distance` and `quadrant`. None sets no
    limit."""
    y_bounds: Interval = (0.0, 1.0)
    """Interval of the scan's height that training anchors come from, as fractions 0 to 1. Prediction covers every
    pattern."""
    x_bounds: Interval = (0.0, 1.0)
    """Interval of the scan's width that training anchors come from, as fractions 0 to 1."""

    @model_validator(mode="after")
    def _distances_act(self) -> "Grouping":
        if self.method == "nearest" and (self.min_distance_px, self.max_distance_px) != (0.0, None):
            raise ValueError(
                "min_distance_px and max_distance_px act on min_distance and quadrant, not on nearest: remove them"
            )
        if self.max_distance_px is not None and self.max_distance_px < self.min_distance_px:
            raise ValueError(
                f"min_distance_px {self.min_distance_px} exceeds max_distance_px {self.max_distance_px}: lower it"
            )
        return self


class Validation(Section):
    """The patterns that are held out of training for validation. A number alone is short for `fraction`."""

    split: Literal["block", "region", "scan"] = "block"
    """Rule of the split: one square block of each scan at a place chosen by the seed, the same region of each scan, or
    whole scans."""
    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Fraction of the patterns of each scan in its validation block; 0 validates nothing. For `split: block`."""
    y_bounds: Interval = (0.9, 1.0)
    """Interval of the scan's height that is validated on, as fractions 0 to 1. For `split: region`."""
    x_bounds: Interval = (0.0, 1.0)
    """Interval of the scan's width that is validated on, as fractions 0 to 1. For `split: region`."""
    scans: tuple[str, ...] = ()
    """Scans of `train_on` that are validated on and not trained on. For `split: scan`."""
    margin_px: NonNegativeFloat = 0.0
    """Smallest distance of a training pattern from a validation pattern, object px. Raise it to the probe's diameter so
    that the two see different parts of the object."""

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Validation":
        if (self.split == "scan") != bool(self.scans):
            raise ValueError("validation.scans needs `split: scan`, and `split: scan` needs validation.scans: set both")
        for split, names in {"block": ("fraction",), "region": ("y_bounds", "x_bounds")}.items():
            for name in names:
                if self.split != split and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} acts with `split: {split}`, not with {self.split}: remove it")
        return self


Beta = Annotated[float, Field(ge=0, lt=1)]


class Training(Section):
    """The training of a network (read by `train`)."""

    model_config = ConfigDict(json_schema_extra=_with_shorthand)

    stages: tuple[Stage, ...] = (Stage(epochs=2, physics_weight=0.0),)
    """Stages of the training, one after another; together they define its length and losses."""
    supervision: Literal["auto", "ground_truth", "amplitude"] = "auto"
    """Supervised loss, used where `physics_weight` is below 1. `ground_truth`: error against the true object, which
    every scan must have. `amplitude`: scale-free error of the diffraction amplitudes. `auto`: the first where a scan
    has a ground truth, the second elsewhere."""
    learning_rate: PositiveFloat = 2e-3
    """Peak learning rate. Lower it if the loss diverges."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimiser. `adamw` decays weights directly, `adam` and `sgd` through the gradient."""
    adam_betas: tuple[Beta, Beta] = (0.9, 0.99)
    """Decays of the running means of the gradient and of its square, 0 to below 1; for `adamw` and `adam`."""
    momentum: Beta = 0.9
    """Momentum of `sgd`, 0 to below 1."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Fraction of the training over which the learning rate rises linearly from 0, 0 to below 1."""
    final_lr_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Fraction of the learning rate that is left at the end of a cosine decay, 0 to 1; 1 keeps it constant."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of the optimiser."""
    gradient_clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; longer gradients are scaled down to it. None leaves them as they are."""
    batch_size: PositiveInt = 16
    """Groups per training step, over all devices together."""
    groups_per_epoch: PositiveInt | None = None
    """Groups per epoch; None takes one for each training pattern. It sets the length of an epoch."""
    physics_loss: Literal["poisson", "amplitude", "mae", "legacy_amplitude"] = "poisson"
    """Physics loss between expected and measured counts: Poisson likelihood, squared error of amplitudes, mean absolute
    error, or PtychoPINN's amplitude loss."""
    held_out_neighbours: Annotated[int, Field(ge=0, le=16)] = 0
    """Patterns held out beside each group, H, 0 to 16. The network does not get them as input, and the physics loss
    compares its prediction with their counts alone. Their noise is independent of the input's, so that copying noise
    does not lower the loss. 0 compares with the group's own counts, which overfits their noise; set 3 to train without
    ground truth. No effect on the supervised loss."""
    regularisation: Regularisation = Regularisation()
    """Penalties that are added to the loss."""
    grouping: Grouping = Grouping()
    """Choice of the patterns that form a group."""
    validation: Annotated[
        Validation,
        BeforeValidator(fraction, json_schema_input_type=Annotated[float, Field(ge=0, lt=1)] | Validation),
    ] = Validation()
    """Patterns held out of training for validation."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Number format of the network in training; physics stays in float32. `16-mixed` needs a GPU."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of an exponential moving average of the weights, between 0 and 1. The averaged weights are
    validated and kept; None averages nothing."""
    early_stopping_patience: PositiveInt | None = None
    """Validations without a lower error after which training stops; None trains all stages."""
    checkpoint: Literal["last", "best"] = "last"
    """Weights that are kept: those at the end, or those with the lowest validation error."""
    on_collapse: Literal["stop", "warn"] = "stop"
    """Reaction to a collapsed training, whose predicted objects have lost their contrast at two validations in a
    row."""
    seed: NonNegativeInt = 0
    """Seed of initial weights, groups and their order."""

    @model_validator(mode="after")
    def _optimizer_has_settings_of_its_own(self) -> "Training":
        refuse_idle(self, self.optimizer, {"adam_betas": ("adamw", "adam"), "momentum": ("sgd",)})
        return self

    @model_validator(mode="after")
    def _early_stopping_has_validation(self) -> "Training":
        none = self.validation.split == "block" and self.validation.fraction == 0
        if none and (self.early_stopping_patience is not None or self.checkpoint == "best"):
            raise ValueError(
                "early_stopping_patience and checkpoint: best need something to validate on: raise validation.fraction"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _from_shorthand(cls, data: Any) -> Any:
        short = {name: data[name] for name in Shorthand.model_fields if name in data} if isinstance(data, dict) else {}
        if not short:
            return data
        if "stages" in data:
            raise ValueError(f"give stages or {', '.join(short)}, not both")
        return {name: data[name] for name in data if name not in short} | {"stages": Shorthand(**short).stages()}
