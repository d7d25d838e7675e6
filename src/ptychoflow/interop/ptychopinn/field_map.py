"""Map between PtychoPINN's settings and ours: a row for every field of its torch, TensorFlow and legacy configs.

:mod:`.config_translation` applies it. A row names either a setting of ours and the codec of its values, or the reason
for the lack of one and the values that describe fixed behaviour. No choice is ignored silently.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from .value_codecs import (
    ACTIVATION,
    ARCHITECTURE,
    CONTRACT,
    DEVICE,
    DOMAIN,
    GRID,
    GRIDSIZE,
    HEAD,
    LOSS_FUNCTION,
    LOSS_MODE,
    MAE_WEIGHT,
    MASK,
    METHOD,
    MODE,
    MODEL_TYPE,
    NLL,
    NLL_WEIGHT,
    OBJECT_CLASS,
    OPTIMIZER,
    PATCH_WEIGHTING,
    POWER_OF_TWO,
    SAME,
    SIDE,
    SIZES,
    STATED,
    TENSORFLOW_ACTIVATION,
    WEIGHTING,
    WHOLE,
    Codec,
)


class Name(NamedTuple):
    """A field of another config: its place, its default there, its values."""

    path: str
    default: Any
    codec: Codec = SAME

    @property
    def place(self) -> str:
        """Section of the field: ``model``, ``training`` and the like."""
        return self.path.partition(".")[0]

    @property
    def field(self) -> str:
        """Name of the field in its section."""
        return self.path.partition(".")[2]


@dataclass(frozen=True)
class Row:
    """One setting under its several names.

    Attributes:
        ours: dotted key in our config; None without a counterpart. ``stages.*``, ``schedule.*``, ``groups.*``,
            ``grouping.*``, ``layers.*``, ``optimizer.*``, ``mask.*`` and ``scan.*`` are parts that
            :mod:`.stage_shorthand` combines, ``arguments.*`` arguments of commands.
        torch: field of the torch dataclasses, as ``section.field``.
        tensorflow: field of the TensorFlow dataclasses; ``both`` is TrainingConfig and InferenceConfig.
        legacy: key of ``params.cfg``, where it is not the TensorFlow field's name, or its default is another.
        agrees: without ``ours``, the values that say what happens here anyway.
        because: without ``ours``, why no other value is taken and what to do instead.
    """

    ours: str | None
    torch: Name | None = None
    tensorflow: Name | None = None
    legacy: Name | None = None
    agrees: tuple = ()
    because: str = ""

    def name(self, side: str) -> Name | None:
        """Return its name on a side: ``torch``, ``tensorflow`` or ``legacy``; None if the side lacks it."""
        if side == "legacy" and self.legacy is None and self.tensorflow is not None:
            return self.tensorflow._replace(path=self.tensorflow.field)
        return getattr(self, side)


def _both(path: str, default: Any, codec: Codec = SAME) -> dict[str, Any]:
    """Return the same field for the torch and the TensorFlow dataclasses."""
    return {"torch": Name(path, default, codec), "tensorflow": Name(path, default, codec)}


FNO = "acts only with Fourier-operator architectures, whose settings here are those of `network`"
UNET = "a feature of the reference's own network; `network` sets ours"
SHIFTED = "positions are exact here: the probe is moved by Fourier shift and the canvas follows from the positions"
SCALED = "counts are absolute here and the probe carries the photons, so no scale is chosen or learned"
MASKED = "the mask of the probe here is a disc with an edge of 1 px, `packing.probe_mask_px` its diameter"
RATE = "the rate here warms up and falls along a cosine (`training.warmup_fraction`, `training.final_lr_fraction`)"
OUTPUT = "`network.head` says what the network here puts out"
REGULARISED = "it is a sum there, which grows with batch and pattern; `training.regularisation` is a mean here"
EVERY_GROUP = "groups here are drawn anew each epoch; `training.groups_per_epoch` says how many"

ROWS: tuple[Row, ...] = (
    # --- data ---------------------------------------------------------------------------------------------------------
    Row("simulation.photons_per_pattern", Name("data.nphotons", 1e5), Name("training.nphotons", 1e9)),
    Row("network.input", Name("data.scale_contract_version", "ci_intensity_v2", CONTRACT)),
    Row("network.input", Name("data.measurement_domain", "count_intensity", DOMAIN)),
    Row("simulation.size", Name("data.N", 64), Name("model.N", 64, SIZES), Name("N", 128, SIZES)),
    Row(
        "network.group_size",
        Name("data.grid_size", (2, 2), GRID),
        Name("model.gridsize", 1, GRIDSIZE),
        Name("gridsize", 2, GRIDSIZE),
    ),
    Row("network.group_size", Name("data.C", 4)),
    Row("network.group_size", Name("model.C_model", 4)),
    Row("network.group_size", Name("model.C_forward", 4)),
    Row("groups.object_big", **_both("model.object_big", True), legacy=Name("object.big", True)),
    Row("grouping.K", Name("data.K", 6), Name("both.neighbor_count", 4)),
    Row("grouping.K_quadrant", Name("data.K_quadrant", 30)),
    Row("grouping.neighbor_function", Name("data.neighbor_function", "Nearest", METHOD)),
    Row("grouping.min_neighbor_distance", Name("data.min_neighbor_distance", 0.0)),
    Row("grouping.max_neighbor_distance", Name("data.max_neighbor_distance", 3.0)),
    Row(None, Name("data.n_subsample", 7), agrees=(1,), because=EVERY_GROUP),
    Row(None, tensorflow=Name("both.n_subsample", None), because=EVERY_GROUP),
    Row("training.seed", Name("data.subsample_seed", None), Name("both.subsample_seed", None)),
    Row("training.seed", legacy=Name("npseed", 42)),
    Row(
        None,
        Name("data.scan_pattern", "Isotropic"),
        agrees=("Isotropic",),
        because="groups here do not depend on the kind of path",
    ),
    Row(
        None,
        Name("data.normalize", "Batch"),
        agrees=("Batch",),
        because="one scale per input channel is stored with the network here, the same for every group",
    ),
    Row(
        None,
        Name("data.probe_scale", 4.0),
        Name("model.probe_scale", 4.0),
        Name("probe_scale", 10.0),
        agrees=(1.0,),
        because="a probe is in sqrt(photons) here and enters the forward model as it is; scaling it would change the "
        "counts. `simulation.photons_per_pattern` sets the photons of a simulation",
    ),
    Row(
        None,
        Name("data.probe_normalize", True),
        agrees=(True,),
        because="a probe always carries the photons of its scan here",
    ),
    Row(
        None,
        Name("data.data_scaling", "Parseval"),
        agrees=("Parseval",),
        because="input channels are scaled to a mean square of 1 here",
    ),
    Row(
        None,
        Name("data.phase_subtraction", True),
        agrees=(True,),
        because="the phase offset of labels is always free here",
    ),
    *(Row(f"training.grouping.{axis}_bounds", Name(f"data.{axis}_bounds", (0.1, 0.9))) for axis in "xy"),
    # --- model --------------------------------------------------------------------------------------------------------
    Row("stages.mode", Name("model.mode", "Unsupervised", MODE), Name("model.model_type", "pinn", MODEL_TYPE)),
    Row("network.architecture", **_both("model.architecture", "cnn", ARCHITECTURE)),
    Row("layers.fno_modes", **_both("model.fno_modes", 12)),
    Row("layers.fno_width", **_both("model.fno_width", 32)),
    Row("layers.fno_blocks", **_both("model.fno_blocks", 4)),
    Row(None, **_both("model.fno_cnn_blocks", 2), agrees=(2,), because=FNO),
    Row(None, **_both("model.learned_input_channels", 1), agrees=(1,), because=FNO),
    Row(None, **_both("model.fno_input_transform", "none"), agrees=("none",), because=FNO),
    Row(None, **_both("model.max_hidden_channels", None), because=FNO),
    Row(None, **_both("model.resnet_width", None), because=FNO),
    *(
        Row(None, Name(f"model.spectral_bottleneck_{word}", value), agrees=(value,), because=FNO)
        for word, value in {
            "blocks": 6,
            "modes": 12,
            "share_weights": True,
            "gate_init": 0.1,
            "gate_mode": "shared",
        }.items()
    ),
    Row(None, **_both("model.generator_output_mode", "real_imag"), agrees=("real_imag",), because=OUTPUT),
    Row("layers.cnn_output_mode", Name("model.cnn_output_mode", "amp_phase", HEAD)),
    Row(None, Name("model.use_shared_decoder", False), agrees=(False,), because=UNET),
    Row(
        None,
        Name("model.intensity_scale_trainable", False),
        Name("training.intensity_scale_trainable", True),
        Name("intensity_scale.trainable", False),
        agrees=(False,),
        because=SCALED,
    ),
    Row(None, Name("model.intensity_scale", 1e4), agrees=(1e4,), because=SCALED),
    Row(
        None,
        Name("model.max_position_jitter", 10),
        legacy=Name("max_position_jitter", 10),
        agrees=(10,),
        because=SHIFTED,
    ),
    Row(None, Name("model.num_datasets", 1), agrees=(1,), because=SCALED),
    Row("layers.n_filters_scale", **_both("model.n_filters_scale", 2, WHOLE)),
    Row(
        "layers.amp_activation",
        Name("model.amp_activation", "silu", ACTIVATION),
        Name("model.amp_activation", "sigmoid", TENSORFLOW_ACTIVATION),
    ),
    Row(None, Name("model.batch_norm", False), agrees=(False,), because=UNET),
    Row(
        "mask.probe_mask",
        Name("model.probe_mask", False, MASK),
        Name("model.probe_mask", False),
        Name("probe.mask", True),
    ),
    Row(None, Name("model.probe_mask_tensor", None), because=MASKED),
    Row(None, **_both("model.probe_mask_sigma", 1.0), agrees=(1.0,), because=MASKED),
    Row("mask.probe_mask_diameter", **_both("model.probe_mask_diameter", None)),
    Row(None, Name("model.edge_pad", 10), agrees=(10,), because=SHIFTED),
    Row(None, Name("model.decoder_last_c_outer_fraction", 0.125), agrees=(0.125,), because=UNET),
    Row("groups.amplitudes", Name("model.decoder_last_amp_channels", 1)),
    Row(None, Name("model.use_legacy_decoder_channel_override", False), agrees=(False,), because=UNET),
    Row("network.attention", Name("model.cbam_encoder", True)),
    *(
        Row(None, Name(f"model.{word}", False), agrees=(False,), because=UNET)
        for word in ("eca_encoder", "cbam_bottleneck", "cbam_decoder", "eca_decoder", "spatial_decoder")
    ),
    Row(None, Name("model.decoder_spatial_kernel", 7), agrees=(7,), because=UNET),
    Row(
        None,
        **_both("model.probe_big", True),
        legacy=Name("probe.big", False),
        agrees=(True,),
        because="the network here corrects the object wherever it is illuminated",
    ),
    Row(None, Name("model.offset", 6), agrees=(6,), because=SHIFTED),
    Row("merging.patch_weighting", Name("model.training_patch_weighting", "central_mask", PATCH_WEIGHTING)),
    Row(
        None,
        Name("model.physics_forward_mode", "amplitude"),
        agrees=("amplitude",),
        because="the forward model here has no free scales for real and imaginary part",
    ),
    Row(None, Name("model.rect_s1s2_trainable", True), agrees=(True,), because=SCALED),
    Row(None, Name("model.rect_s1s2_init", "ones"), agrees=("ones",), because=SCALED),
    Row(None, Name("model.amplitude_physics_gain", 1.0), agrees=(1.0,), because=SCALED),
    Row(
        None,
        **_both("model.pad_object", True),
        agrees=(True,),
        because="the object beyond the illumination is not predicted here, it stays 1",
    ),
    Row(
        None,
        **_both("model.gaussian_smoothing_sigma", 0.0),
        agrees=(0.0,),
        because="the exit wave is not smoothed here: it would no longer be probe times object",
    ),
    Row("training.physics_loss", Name("model.loss_function", "Poisson", LOSS_FUNCTION)),
    *(Row(None, Name(f"model.{part}_loss", None), because=REGULARISED) for part in ("amp", "phase")),
    *(
        Row(None, Name(f"model.{part}_loss_coeff", 1.0), agrees=(1.0,), because=f"acts only with {part}_loss")
        for part in ("amp", "phase")
    ),
    # --- training -----------------------------------------------------------------------------------------------------
    Row(
        None,
        Name("training.training_directories", ()),
        agrees=((),),
        because="name each file under `scans` and the scans to train on under `methods`",
    ),
    Row("training.physics_loss", Name("training.nll", True, NLL), Name("training.nll_weight", 1.0, NLL_WEIGHT)),
    Row("training.physics_loss", tensorflow=Name("training.mae_weight", 0.0, MAE_WEIGHT)),
    Row("training.physics_loss", **_both("training.torch_loss_mode", "poisson", LOSS_MODE)),
    Row(
        None,
        **_both("training.torch_mae_pred_l2_match_target", False),
        agrees=(False,),
        because=SCALED,
    ),
    *(
        Row(
            None,
            tensorflow=Name(f"training.{word}", 0.0),
            agrees=(0.0,),
            because="errors are weighed against the truth by `training.supervision` and `training.stages` here",
        )
        for word in ("realspace_mae_weight", "realspace_weight")
    ),
    Row("runtime.accelerator", Name("training.device", "cuda", DEVICE)),
    Row(
        None,
        Name("training.strategy", "ddp"),
        agrees=("ddp", "auto"),
        because="several devices work as distributed data parallel here",
    ),
    Row("runtime.devices", Name("training.n_devices", 1)),
    Row(None, Name("training.framework", "Lightning"), agrees=("Lightning",), because="Lightning trains here"),
    Row(
        None,
        Name("training.orchestrator", "Mlflow"),
        agrees=("Mlflow",),
        because="MLflow keeps runs here; `tracking.uri: null` keeps none",
    ),
    Row("training.learning_rate", Name("training.learning_rate", 1e-3)),
    Row("stages.epochs", Name("training.epochs", 50), Name("training.nepochs", 50), Name("nepochs", 60)),
    Row(
        "training.batch_size",
        Name("training.batch_size", 16),
        Name("training.batch_size", 16, POWER_OF_TWO),
    ),
    Row("stages.epochs_fine_tune", Name("training.epochs_fine_tune", 0)),
    Row("stages.fine_tune_gamma", Name("training.fine_tune_gamma", 0.1)),
    Row("schedule.scheduler", **_both("training.scheduler", "Default")),
    Row("schedule.lr_warmup_epochs", **_both("training.lr_warmup_epochs", 0)),
    Row("schedule.lr_min_ratio", **_both("training.lr_min_ratio", 0.1)),
    Row("training.optimizer", **_both("training.optimizer", "adam", OPTIMIZER)),
    *(
        Row(None, **_both(f"training.plateau_{word}", value), agrees=(value,), because=RATE)
        for word, value in {"factor": 0.5, "patience": 2, "min_lr": 5e-5, "threshold": 0.0}.items()
    ),
    Row("runtime.workers", Name("training.num_workers", 4)),
    Row(
        None,
        Name("training.accum_steps", 1),
        agrees=(1,),
        because="`training.batch_size` is a whole step here, `runtime.gradient_accumulation_steps` its parts",
    ),
    Row("training.gradient_clip", **_both("training.gradient_clip_val", None)),
    Row(
        None,
        **_both("training.gradient_clip_algorithm", "norm"),
        agrees=("norm",),
        because="`training.gradient_clip` is the greatest norm here",
    ),
    Row("optimizer.momentum", **_both("training.momentum", 0.9)),
    Row("training.weight_decay", **_both("training.weight_decay", 0.0)),
    Row("optimizer.adam_beta1", **_both("training.adam_beta1", 0.9)),
    Row("optimizer.adam_beta2", **_both("training.adam_beta2", 0.999)),
    Row(None, Name("training.log_grad_norm", False), agrees=(True,), because="gradient norms are always logged here"),
    Row(None, Name("training.grad_norm_log_freq", 1), agrees=(1,), because="acts only with log_grad_norm"),
    *(Row(f"stages.stage_{n}_epochs", Name(f"training.stage_{n}_epochs", 0)) for n in (1, 2, 3)),
    Row("stages.physics_weight_schedule", Name("training.physics_weight_schedule", "cosine")),
    Row("stages.stage_3_lr_factor", Name("training.stage_3_lr_factor", 0.1)),
    Row("tracking.experiment", Name("training.experiment_name", "Synthetic_Runs")),
    Row("arguments.notes", Name("training.notes", "")),
    Row("arguments.model_name", Name("training.model_name", "PtychoPINNv2")),
    Row("arguments.output", **_both("training.output_dir", "training_outputs"), legacy=Name("output_prefix", None)),
    Row(
        "arguments.output",
        tensorflow=Name("inference.output_dir", "inference_outputs"),
        legacy=Name("output_prefix", None),
    ),
    Row("arguments.train_data", **_both("training.train_data_file", None), legacy=Name("train_data_file_path", None)),
    Row(
        "arguments.test_data",
        Name("training.test_data_file", None),
        Name("both.test_data_file", None),
        Name("test_data_file_path", None),
    ),
    Row("arguments.model", tensorflow=Name("inference.model_path", None)),
    Row("training.groups_per_epoch", Name("training.n_groups", None), Name("training.n_groups", None)),
    Row(None, tensorflow=Name("inference.n_groups", None), because="every pattern is predicted here"),
    Row(None, tensorflow=Name("both.n_images", None), because="given up by the reference itself: say n_groups"),
    Row(
        None,
        tensorflow=Name("both.enable_oversampling", False),
        agrees=(False,),
        because=EVERY_GROUP,
    ),
    Row(None, tensorflow=Name("both.neighbor_pool_size", None), because="neighbor_count is the pool here"),
    Row(
        None,
        tensorflow=Name("training.positions_provided", True),
        legacy=Name("positions.provided", False),
        agrees=(True,),
        because="positions are needed here",
    ),
    Row(
        None,
        tensorflow=Name("training.probe_trainable", False),
        legacy=Name("probe.trainable", False),
        agrees=(False,),
        because="`refine` improves the probe here, not training",
    ),
    Row(
        None,
        tensorflow=Name("training.sequential_sampling", False),
        agrees=(False,),
        because="groups are always drawn at random here",
    ),
    Row(
        None,
        tensorflow=Name("both.backend", "tensorflow"),
        agrees=("pytorch",),
        because="torch trains here",
    ),
    Row(
        None,
        tensorflow=Name("inference.debug", False),
        legacy=Name("debug", True),
        agrees=(False,),
        because="logs say what happens here",
    ),
    # --- inference and datagen ----------------------------------------------------------------------------------------
    Row("inference.patch_crop_px", Name("inference.middle_trim", 32, STATED)),
    Row("runtime.inference_batch_size", Name("inference.batch_size", 1000)),
    Row(None, Name("inference.experiment_number", 0), agrees=(0,), because="each scan is its own dataset here"),
    Row(None, Name("inference.pad_eval", True), agrees=(True,), because="the canvas here follows from the positions"),
    Row(
        None,
        Name("inference.window", 20),
        because="no border is cut here: coverage says where the object is known",
    ),
    Row("stitching.weighting", Name("inference.patch_weighting", "probe", WEIGHTING)),
    Row(
        None,
        Name("inference.varpro_scaling", True),
        agrees=(False,),
        because="the object is not rescaled here: counts are absolute",
    ),
    Row(None, Name("inference.log_patch_stats", False), agrees=(False,), because="`evaluate` computes metrics here"),
    Row(None, Name("inference.patch_stats_limit", None), because="acts only with log_patch_stats"),
    Row("arguments.objects", Name("datagen.objects_per_probe", 4)),
    Row("scan.diff_per_object", Name("datagen.diff_per_object", 7000)),
    Row("simulation.object.name", Name("datagen.object_class", "dead_leaves", OBJECT_CLASS)),
    Row("simulation.object.size", Name("datagen.image_size", (250, 250)), legacy=Name("size", 392, SIDE)),
    Row(
        None,
        Name("datagen.probe_paths", ()),
        agrees=((),),
        because="each scan names its own probe here: `simulation.probe.file`",
    ),
    Row("simulation.detector.beamstop_px", Name("datagen.beamstop_diameter", 4)),
    # --- legacy dictionary alone --------------------------------------------------------------------------------------
    Row(None, legacy=Name("offset", 4), agrees=(4,), because=SHIFTED),
    Row(None, legacy=Name("outer_offset_train", None), because="`simulation.trajectory.step_px` is the step here"),
    Row(None, legacy=Name("outer_offset_test", None), because="`simulation.trajectory.step_px` is the step here"),
    Row(None, legacy=Name("big_gridsize", 10), agrees=(10,), because=SHIFTED),
    Row(
        None,
        legacy=Name("sim_jitter_scale", 0.0),
        agrees=(0.0,),
        because="`simulation.trajectory.jitter_px` is the jitter here",
    ),
    Row(
        None, legacy=Name("default_probe_scale", 0.7), agrees=(0.7,), because="`simulation.probe` makes the probe here"
    ),
    Row(None, legacy=Name("tv_weight", 0.0), agrees=(0.0,), because=REGULARISED),
    Row(None, legacy=Name("nimgs_train", 9), agrees=(9,), because="`scans` says how many objects there are here"),
    Row(None, legacy=Name("nimgs_test", 3), agrees=(3,), because="`scans` says how many objects there are here"),
    Row(None, legacy=Name("data_source", "generic"), agrees=("generic",), because="`scans` says what is read here"),
    Row(
        None,
        legacy=Name("set_phi", False),
        agrees=(False,),
        because="`simulation.object.phase_rad` sets the phase here",
    ),
    Row("arguments.notes", legacy=Name("label", "")),
    Row(None, legacy=Name("intensity_scale", None), because=SCALED),
    Row(None, legacy=Name("probe", None), because="the probe is part of the scan here"),
    Row(None, legacy=Name("h5_path", "wts.h5"), agrees=("wts.h5",), because="a model is its checkpoint here"),
    Row(None, legacy=Name("use_xla_translate", True), agrees=(True,), because=SHIFTED),
)
"""Every field of the reference, once or more often where several name one setting of ours."""
