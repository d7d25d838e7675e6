"""Training and reconstruction in the words of ptychodus."""

import time
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ptycho_torch import config_params
from ptycho_torch.model import PtychoPINN_Lightning
from ptychoflow.plugins.ptychodus import backend


class DataloaderFormats(StrEnum):
    """How data are handed over."""

    LIGHTNING_ONLY_MODULE = "lightning_only_module"


class ConfigManager:
    """The five configs together."""

    def __init__(
        self,
        data_config: Any,
        model_config: Any,
        training_config: Any,
        inference_config: Any,
        datagen_config: Any = None,
    ) -> None:
        self.data_config, self.model_config = data_config, model_config
        self.training_config, self.inference_config = training_config, inference_config
        self.datagen_config = datagen_config

    @classmethod
    def from_loaded_model(cls, model: "PtychoModel") -> "ConfigManager":
        """Those that a loaded network was made with."""
        return cls(model.data_config, model.model_config, model.training_config, model.inference_config)

    def validate_arch_compatibility(self, model: "PtychoModel") -> None:
        """Nothing to find: configs and network come from one checkpoint."""


class PtychoModel:
    """A network and its configs."""

    def __init__(self, model_config: Any, data_config: Any, training_config: Any, inference_config: Any) -> None:
        self.model_config, self.data_config = model_config, data_config
        self.training_config, self.inference_config = training_config, inference_config
        self.model = PtychoPINN_Lightning()

    @classmethod
    def _new_model(cls, model: type, config_manager: ConfigManager) -> "PtychoModel":
        manager = config_manager
        return cls(manager.model_config, manager.data_config, manager.training_config, manager.inference_config)

    @staticmethod
    def _extract_configs_from_checkpoint(path: str) -> tuple[Any, Any, Any, Any]:
        """Configs of data, model, training and inference that a checkpoint tells of, whoever trained it."""
        told = backend.configs_of(Path(path))
        kinds = (
            config_params.DataConfig,
            config_params.ModelConfig,
            config_params.TrainingConfig,
            config_params.InferenceConfig,
        )
        data, model, training, inference = (kind(**fields) for kind, fields in zip(kinds, told, strict=True))
        return data, model, training, inference


class PtychoDataLoader:
    """Scans to train on, in a folder, or one to reconstruct, in memory.

    Attributes:
        output_dir: a folder of its own for what is made from them.
    """

    def __init__(
        self, data_dir: Path, config_manager: ConfigManager, data_format: DataloaderFormats, output_dir: Path
    ) -> None:
        self.data_dir = Path(data_dir)
        self.output_dir = Path(output_dir) / time.strftime("run_%Y%m%d_%H%M%S")

    @classmethod
    def from_np(
        cls, diff_patterns: np.ndarray, probe: np.ndarray, positions: np.ndarray, config_manager: ConfigManager
    ) -> "PtychoDataLoader":
        """A scan in memory.

        Args:
            diff_patterns: counts, ``(n, N, N)``.
            probe: modes, ``(M, N, N)``.
            positions: ``(y, x)``, pixels of the object, a patch's centre at ``(N - 1) / 2``, ``(n, 2)``.
            config_manager: the configs.
        """
        loader = cls.__new__(cls)
        loader.arrays = (diff_patterns, probe, positions)
        return loader


class Trainer:
    """A training; ``_trainer.callbacks`` takes what else watches it."""

    def __init__(self, dataloader: PtychoDataLoader, config_manager: ConfigManager) -> None:
        self._loader, self._configs = dataloader, config_manager
        self._trainer = SimpleNamespace(callbacks=[])

    @classmethod
    def _from_lightning(
        cls, model: PtychoModel, dataloader: PtychoDataLoader, orchestration: str, config_manager: ConfigManager
    ) -> "Trainer":
        return cls(dataloader, config_manager)

    def train(self, orchestration: str, experiment_name: str) -> None:
        """Train; the checkpoint is then in the loader's ``output_dir``."""
        backend.train_on(self._loader.data_dir, self._loader.output_dir, self._configs, self._trainer.callbacks)


class InferenceEngine:
    """A reconstruction."""

    def __init__(self, config_manager: ConfigManager, ptycho_model: PtychoModel) -> None:
        self._configs, self._network = config_manager, ptycho_model.model.network

    def predict_and_stitch(self, loader: PtychoDataLoader) -> np.ndarray:
        """The object, complex, ``(H, W)``, on the grid that the positions count on."""
        return backend.reconstruct(self._network, *loader.arrays, self._configs)
