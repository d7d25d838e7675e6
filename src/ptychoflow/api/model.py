"""The network as an object: built, loaded, saved, used for prediction."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.extras import names_extra
from .config import ConfigManager, trained_with
from .data import PtychoDataLoader, loader_of, one_scan

if TYPE_CHECKING:
    import numpy as np

    from ..io.patch_store import PatchSet
    from ..models.checkpoint import Model


def tracked_run(record: dict) -> tuple[str, str] | None:
    """Return the store and the run of a tracked training from its record; None for an untracked one."""
    tracking = record.get("tracking") or {}
    return (tracking["uri"], tracking["run"]) if tracking.get("run") else None


@dataclass(frozen=True)
class PtychoModel:
    """A network with its normalisation, settings and training record.

    Attributes:
        model: the network, the size of its patterns and its metadata.
        run: ``(tracking URI, run id)`` of the MLflow run it belongs to, if any.
        record: of the training: curves, timings, versions; empty if unknown.
    """

    model: "Model"
    run: tuple[str, str] | None = None
    record: dict = field(default_factory=dict)

    @classmethod
    @names_extra
    def new(cls, data: "PtychoDataLoader | Any", config: ConfigManager | None = None) -> "PtychoModel":
        """Build an untrained network with window and normalisation for some data.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            config: sections ``network``, ``training`` and ``runtime``; those of the loader without it.
        """
        from ..models.checkpoint import Model
        from ..training.network_setup import build_network

        loader = loader_of(data, config)
        settings, module = loader.config, loader.module()
        network = build_network(settings.network, settings.training, module)
        metadata = {"config": {name: settings.to_dict()[name] for name in ("network", "training")}}
        return cls(Model(network.eval(), loader.scans[0].size, metadata))

    @classmethod
    @names_extra
    def load(cls, path: Path | str) -> "PtychoModel":
        """Load the network of a checkpoint that ``train`` or :meth:`save` wrote; runs no code from it.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if it is damaged, of another version or another program's.
        """
        from ..io.json_file import read_json
        from ..io.provenance import sha256
        from ..models.checkpoint import read_model

        model, beside = read_model(Path(path)), Path(path).with_suffix(".json")
        record = read_json(beside) if beside.is_file() else {}
        if record.get("checkpoint_sha256") != sha256(Path(path)):
            record = {}  # of another training
        return cls(model, tracked_run(record), record)

    @classmethod
    def from_ptychopinn(cls, path: Path | str) -> "PtychoModel":
        """Load a network that PtychoPINN's torch backend has trained; runs no code from the file.

        Args:
            path: its Lightning checkpoint, or the folder of an MLflow run that holds one.

        Raises:
            FileNotFoundError: if no checkpoint is found.
            ValueError: if it is damaged, holds pickled objects, or a network that cannot be predicted with.
        """
        from ..interop.ptychopinn.checkpoint import read_reference_model

        return cls(read_reference_model(Path(path)))

    @classmethod
    def _load(
        cls,
        strategy: str = "mlflow",
        run_id: str | None = None,
        mlflow_tracking_uri: str | None = None,
        run_path: Path | str | None = None,
    ) -> "PtychoModel":
        """Load a network under PtychoPINN's name: of an MLflow run, or a checkpoint of ours or of PtychoPINN.

        Raises:
            FileNotFoundError: if it does not exist.
            ValueError: if the strategy is unknown, or what it needs is missing.
        """
        if strategy == "mlflow" and run_id is not None and mlflow_tracking_uri is not None:
            return cls.load_from_mlflow(run_id, mlflow_tracking_uri)
        if strategy in ("lightning", "pytorch") and run_path is not None:
            return cls.load_from_checkpoint(run_path)
        raise ValueError(
            f"strategy {strategy!r} needs run_id and mlflow_tracking_uri (mlflow), or run_path (lightning, pytorch)"
        )

    @classmethod
    def load_from_checkpoint(cls, path: Path | str) -> "PtychoModel":
        """Load the network of a checkpoint of ours or of PtychoPINN; runs no code from it.

        Raises:
            FileNotFoundError: if it does not exist.
            ValueError: if it is neither, or is damaged.
        """
        from ..interop.ptychopinn.checkpoint import is_reference_checkpoint

        return cls.from_ptychopinn(path) if is_reference_checkpoint(Path(path)) else cls.load(path)

    @classmethod
    @names_extra
    def load_from_mlflow(cls, run_id: str, tracking_uri: str) -> "PtychoModel":
        """Load the network of an MLflow run.

        Raises:
            FileNotFoundError: if the store or run does not exist, or the run has no network.
            ConnectionError: if the server does not answer.
            ValueError: if the network was altered, a newer version wrote it, or it is damaged.
        """
        from ..tracking.run_store import model_of_run

        return cls(model_of_run(tracking_uri, run_id), (tracking_uri, run_id))

    @classmethod
    @names_extra
    def load_from_registry(cls, name: str, version: str | int, tracking_uri: str) -> "PtychoModel":
        """Load the network that was registered under a name and version.

        Raises:
            FileNotFoundError: if the store, name or version does not exist.
        """
        from ..tracking.run_store import run_of_version

        return cls.load_from_mlflow(run_of_version(tracking_uri, name, version), tracking_uri)

    @property
    def config(self) -> ConfigManager:
        """Settings that the network was trained with.

        Raises:
            ValueError: if they are unknown.
        """
        return trained_with(self.model.metadata)

    def save(self, path: Path | str) -> None:
        """Write a checkpoint atomically: tensors and plain data only.

        Raises:
            ValueError: if the path does not end in ``.ckpt``, or something else than a checkpoint stands there.
        """
        from ..io.output_guard import check_outputs
        from ..io.product_kinds import CHECKPOINT
        from ..models.checkpoint import write_model

        check_outputs([(Path(path), CHECKPOINT)])
        write_model(Path(path), self.model)

    @names_extra
    def save_mlflow(
        self, destination: str, experiment: str | None = None, register: str | None = None
    ) -> "PtychoModel":
        """Save this network to an MLflow store.

        The run it belongs to is copied whole: parameters, the full history of every metric, tags, artifacts. A network
        without one (as ``dataclasses.replace(model, run=None)``) gets a fresh run. The artifact ``model/`` holds
        weights, plain-text config, signature, example.

        Args:
            destination: tracking URI of the store, ``sqlite:///FILE``, ``file:///FOLDER`` or ``http://SERVER``.
            experiment: its name there; that of the source, or ``ptychoflow``, without it.
            register: name in the registry of the store; not registered without it.

        Returns:
            The same network, belonging to the run in ``destination``.

        Raises:
            FileNotFoundError: if the run it belongs to is gone.
            ConnectionError: if a server does not answer.
        """
        from ..tracking import run_store as runs
        from ..tracking.logged_model import write_mlflow_model
        from ..tracking.logger import keep_folder

        if self.run is not None:
            run_id = runs.copy_run(*self.run, destination, experiment, but=runs.MODEL)
            client = runs.open_store(destination)
        else:
            client = runs.open_store(destination, make=True)
            metadata = self.model.metadata.get("config", {})
            run_id = runs.new_run(client, destination, experiment or "ptychoflow", "ptychoflow", metadata)
        keep_folder(client, run_id, runs.MODEL, lambda folder: write_mlflow_model(folder, self.model))
        if register is not None:
            runs.register(destination, run_id, register)
        return replace(self, run=(destination, run_id))

    @names_extra
    def forward_predict(self, x: "Any", input_scale_factor: "Any" = 1.0) -> "np.ndarray":
        """Return what a network that sees patterns alone makes of them: object patches, neither merged nor stitched.

        The name and the arguments are PtychoPINN's.

        Args:
            x: patterns in groups, ``(B, C, N, N)``, zero frequency in the middle: counts or amplitudes, as the network
                was trained on. A network for single patterns takes groups of any size.
            input_scale_factor: multiplies them, a number or ``(B, 1, 1, 1)``.

        Returns:
            Patches, complex64, ``(B, C, N, N)``.

        Raises:
            ValueError: if the network sees more than patterns, or they are of another shape.
        """
        import torch

        from ..networks.group_network import GroupReconstructor

        network = self.model.network
        if not isinstance(network, GroupReconstructor):
            raise ValueError("the network refines the object of a whole scan: use predict_and_stitch")
        patterns = torch.as_tensor(x, dtype=torch.float32) * torch.as_tensor(input_scale_factor, dtype=torch.float32)
        if patterns.ndim != 4:
            raise ValueError(f"expected patterns (B, C, N, N), got {tuple(patterns.shape)}")
        groups = patterns.flatten(0, 1)[:, None] if network.settings.group_size == 1 else patterns
        with torch.no_grad():
            return network.patches(groups).reshape(patterns.shape).numpy()

    @names_extra
    def predict(self, data: "PtychoDataLoader | Any", **arrays: Any) -> "PatchSet":
        """Predict the object patches of a scan; see :meth:`InferenceEngine.predict`."""
        return predict_patches(self.model, ConfigManager(), data, arrays)


def predict_patches(model: "Model", config: ConfigManager, data: Any, arrays: dict[str, Any]) -> "PatchSet":
    """Predict the object patches whose groups hold every pattern of one scan, in memory.

    Args:
        model: the network.
        config: sections ``inference`` and ``runtime``.
        data: as :class:`PtychoDataLoader` takes it.
        arrays: ``positions``, ``probe`` and so on, with an array of counts.

    Raises:
        ValueError: if the patterns are of another size than those the network was trained on, or several devices are
            asked for.
    """
    from ..inference.prediction import Prediction

    scan = one_scan(data, arrays)
    if config.runtime.devices > 1:
        raise ValueError(f"patches in memory need one device, got runtime.devices {config.runtime.devices}: use infer")
    return Prediction(model, scan, config.inference, config.runtime).run(None)[0].shard.in_memory()
