"""The settings as an object: by section, validated, read from and written to files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..config import (
    Config,
    ConfigError,
    Evaluation,
    Inference,
    Network,
    Packing,
    Refinement,
    Runtime,
    Section,
    Simulation,
    Stitching,
    Tracking,
    Training,
    load_config,
    merge,
    read_yaml,
    validate,
)
from ..core.suggestions import did_you_mean

SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
UNTRACKED = Tracking(uri=None)


class ConfigManager:
    """Hold settings by section, such as ``config.training.learning_rate``; the schema is that of the workflow.

    Args:
        **sections: settings that differ from the defaults, as dictionaries or sections: ``training={"batch_size": 8}``.
            Tracking is off by default.

    Raises:
        ConfigError: for unknown sections or keys, with the nearest known one, and for values out of range.
    """

    simulation: Simulation
    packing: Packing
    network: Network
    training: Training
    inference: Inference
    stitching: Stitching
    refinement: Refinement
    evaluation: Evaluation
    runtime: Runtime
    tracking: Tracking

    def __init__(self, **sections: Mapping[str, Any] | Section) -> None:
        self._sections: dict[str, Section] = {name: schema() for name, schema in SECTIONS.items()}
        self._sections["tracking"] = UNTRACKED
        self.update(**sections)

    @classmethod
    def from_yaml(cls, path: Path | str) -> "ConfigManager":
        """Read the sections of a config of the workflow, or of a file with sections only, in YAML or JSON.

        Raises:
            FileNotFoundError: if the file does not exist.
            ConfigError: for wrong settings in it.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"config not found: {path}")
        data = read_yaml(Path(path))
        if isinstance(data, dict) and "scans" in data:
            config = load_config(data)
            return cls(**{name: getattr(config, name) for name in SECTIONS if name in config.model_fields_set})
        if not isinstance(data, dict):
            raise ConfigError(f"{path} holds {type(data).__name__}, expected sections such as training")
        return cls(**data)

    from_json = from_yaml

    @classmethod
    def from_reference_json(cls, path: Path | str, ignore: Iterable[str] = ()) -> "ConfigManager":
        """Read the settings of a JSON profile of PtychoPINN.

        Args:
            path: the profile.
            ignore: fields to drop.

        Raises:
            FileNotFoundError: if the file does not exist.
            ConfigError: naming every field that has no counterpart, with the reason.
        """
        from ..interop.ptychopinn.config_translation import from_reference_json

        sections = from_reference_json(Path(path), ignore)
        return cls(**{name: section for name, section in sections.items() if name in SECTIONS})

    @classmethod
    def _from_json(cls, json_path: Path | str) -> tuple["ConfigManager", dict[str, Any]]:
        """Read a profile of PtychoPINN as its own class of this name does: return the settings and the plain data."""
        from ..interop.ptychopinn.flat_config import read_reference_file

        return cls.from_reference_json(json_path), read_reference_file(Path(json_path))

    @classmethod
    def _from_mlflow(cls, run_id: str, mlflow_tracking_uri: str) -> "ConfigManager":
        """Read the settings of a training from an MLflow store, under PtychoPINN's name; see :meth:`from_mlflow`."""
        return cls.from_mlflow(run_id, mlflow_tracking_uri)

    @classmethod
    def from_checkpoint(cls, path: Path | str) -> "ConfigManager":
        """Read the settings that a network was trained with.

        Raises:
            FileNotFoundError: if the checkpoint does not exist.
            ValueError: if it is not a ptychoflow checkpoint, or does not hold the settings of a training.
        """
        from ..models.checkpoint import read_model

        return trained_with(read_model(Path(path)).metadata)

    @classmethod
    def from_mlflow(cls, run_id: str, tracking_uri: str) -> "ConfigManager":
        """Read the settings of a training from an MLflow store.

        Raises:
            FileNotFoundError: if the store or run does not exist, or the run is not a training of ptychoflow.
            ConnectionError: if the server does not answer.
        """
        from ..tracking.run_store import recorded_config

        return cls(**recorded_config(tracking_uri, run_id))

    def update(self, **sections: Mapping[str, Any] | Section) -> None:
        """Change settings in place; if one of them is wrong, none is changed.

        Raises:
            ConfigError: for unknown sections or keys, with the nearest known one, and for values out of range.
        """
        self._sections |= {name: self._updated(name, changes) for name, changes in sections.items()}

    def _updated(self, name: str, changes: Mapping[str, Any] | Section) -> Section:
        """Return a section with changes merged into it; a whole section replaces it."""
        if name not in SECTIONS:
            if name in Config.model_fields:
                raise ConfigError(f"config: {name} belongs to a workflow, expected one of {', '.join(SECTIONS)}")
            raise ConfigError(f"config: {name}: unknown section{did_you_mean(name, SECTIONS)}")
        if isinstance(changes, SECTIONS[name]):
            return changes
        part = validate(SECTIONS[name], changes, f"{name}.").model_dump(exclude_unset=True)
        return validate(SECTIONS[name], merge(self._sections[name].model_dump(exclude_unset=True), part), f"{name}.")

    def to_yaml(self, path: Path | str | None = None) -> str:
        """Return all settings as YAML text; write it to ``path`` too where it is given."""
        from ..io.atomic import atomic_file

        text = yaml.safe_dump(self.to_dict(), sort_keys=False)
        if path is not None:
            with atomic_file(Path(path)) as partial:
                partial.write_text(text)
        return text

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return all settings as plain data."""
        return {name: section.model_dump(mode="json") for name, section in self._sections.items()}

    def __getattr__(self, name: str) -> Section:
        if name in SECTIONS:
            return self.__dict__["_sections"][name]
        raise AttributeError(f"no such section: {name}{did_you_mean(name, SECTIONS)} (sections: {', '.join(SECTIONS)})")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SECTIONS:
            raise AttributeError(f"settings cannot be assigned: use config.update({name}=...)")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigManager) and self._sections == other._sections

    __hash__ = None  # type: ignore[assignment]  # as for every mutable type

    def __repr__(self) -> str:
        changed = {name: section.model_dump(exclude_defaults=True) for name, section in self._sections.items()}
        return f"ConfigManager({', '.join(f'{name}={values}' for name, values in changed.items() if values)})"


def trained_with(metadata: Mapping[str, Any]) -> ConfigManager:
    """Return the settings that a network was trained with.

    Args:
        metadata: of its checkpoint.

    Raises:
        ValueError: if they do not hold the settings of a training.
    """
    sections = metadata.get("config")
    if not isinstance(sections, dict):
        raise ValueError("no settings of a training in the checkpoint: train the network with ptychoflow")
    return ConfigManager(**sections)
