"""Settings as an object: by section, checked, from and to files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..config import Config, ConfigError, Section, Tracking, load_config, merge, validate
from ..core.suggestions import did_you_mean

SECTIONS: dict[str, type[Section]] = {
    name: known.annotation
    for name, known in Config.model_fields.items()
    if isinstance(known.annotation, type) and issubclass(known.annotation, Section)
}
UNTRACKED = Tracking(uri=None)


class ConfigManager:
    """Settings by section, ``config.training.learning_rate`` and the like; the schema is that of the workflow.

    Args:
        **sections: what differs from the defaults, as dictionaries or sections: ``training={"batch_size": 8}``.
            Tracking is off where nothing is said of it.

    Raises:
        ConfigError: for unknown sections or keys, with the nearest known one, and for values out of range.
    """

    def __init__(self, **sections: Mapping[str, Any] | Section) -> None:
        self._sections: dict[str, Section] = {name: schema() for name, schema in SECTIONS.items()}
        self._sections["tracking"] = UNTRACKED
        self.update(**sections)

    @classmethod
    def from_yaml(cls, path: Path | str) -> "ConfigManager":
        """The sections of a config of the workflow, or of a file with sections only, in YAML or JSON.

        Raises:
            FileNotFoundError: if there is none.
            ConfigError: for what is wrong in it.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no config {path}")
        try:
            data = yaml.safe_load(Path(path).read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from None
        if isinstance(data, dict) and "scans" in data:
            config = load_config(data)
            return cls(**{name: getattr(config, name) for name in SECTIONS if name in config.model_fields_set})
        if not isinstance(data, dict):
            raise ConfigError(f"{path} holds {type(data).__name__}, expected sections such as training")
        return cls(**data)

    from_json = from_yaml

    @classmethod
    def from_reference_json(cls, path: Path | str, ignore: Iterable[str] = ()) -> "ConfigManager":
        """The settings of a JSON profile of PtychoPINN.

        Args:
            path: the profile.
            ignore: fields to drop on purpose.

        Raises:
            FileNotFoundError: if there is none.
            ConfigError: naming every field that has no counterpart, with the reason.
        """
        from ..interop.ptychopinn.config_translation import from_reference_json

        said = from_reference_json(Path(path), ignore)
        return cls(**{name: section for name, section in said.items() if name in SECTIONS})

    @classmethod
    def from_checkpoint(cls, path: Path | str) -> "ConfigManager":
        """The settings that a network was trained with.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is no model of ours, or does not say how it was trained.
        """
        from ..models.checkpoint import read_model

        return trained_with(read_model(Path(path)).metadata)

    @classmethod
    def from_mlflow(cls, run_id: str, tracking_uri: str) -> "ConfigManager":
        """The settings of a training that MLflow keeps.

        Raises:
            FileNotFoundError: if there is no such store or run, or the run does not hold a training of ours.
            ConnectionError: if the server does not answer.
        """
        from ..tracking.run_store import recorded_config

        return cls(**recorded_config(tracking_uri, run_id))

    def update(self, **sections: Mapping[str, Any] | Section) -> None:
        """Change settings in place, all of them or, where one is wrong, none.

        Raises:
            ConfigError: for unknown sections or keys, with the nearest known one, and for values out of range.
        """
        self._sections |= {name: self._changed(name, said) for name, said in sections.items()}

    def _changed(self, name: str, said: Mapping[str, Any] | Section) -> Section:
        """A section with what was said laid over it; a section that was said whole replaces it."""
        if name not in SECTIONS:
            if name in Config.model_fields:
                raise ConfigError(f"config: {name} belongs to a workflow; here are only {', '.join(SECTIONS)}")
            raise ConfigError(f"config: {name}: unknown section{did_you_mean(name, SECTIONS)}")
        if isinstance(said, SECTIONS[name]):
            return said
        part = validate(SECTIONS[name], said, f"{name}.").model_dump(exclude_unset=True)
        return validate(SECTIONS[name], merge(self._sections[name].model_dump(exclude_unset=True), part), f"{name}.")

    def to_yaml(self, path: Path | str | None = None) -> str:
        """All settings as YAML text, also written to ``path`` where one is given."""
        from ..io.atomic import atomic_file

        text = yaml.safe_dump(self.to_dict(), sort_keys=False)
        if path is not None:
            with atomic_file(Path(path)) as partial:
                partial.write_text(text)
        return text

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """All settings as plain data."""
        return {name: section.model_dump(mode="json") for name, section in self._sections.items()}

    def __getattr__(self, name: str) -> Section:
        if name in SECTIONS:
            return self.__dict__["_sections"][name]
        raise AttributeError(f"there is no section {name}, only {', '.join(SECTIONS)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SECTIONS:
            raise AttributeError(f"settings are changed by update: config.update({name}=...)")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigManager) and self._sections == other._sections

    __hash__ = None

    def __repr__(self) -> str:
        said = {name: section.model_dump(exclude_defaults=True) for name, section in self._sections.items()}
        return f"ConfigManager({', '.join(f'{name}={what}' for name, what in said.items() if what)})"


def trained_with(metadata: Mapping[str, Any]) -> ConfigManager:
    """Return the settings that a network was trained with.

    Args:
        metadata: what its checkpoint says of the training.

    Raises:
        ValueError: if they do not hold the settings of a training.
    """
    sections = metadata.get("config")
    if not isinstance(sections, dict):
        raise ValueError("this model does not say how it was trained")
    return ConfigManager(**sections)
