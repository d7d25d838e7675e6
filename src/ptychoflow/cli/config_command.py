"""``ptychoflow config``: show, validate, explain and translate a configuration; each answer is text to print."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from ..config import READS, Config, ConfigError, Section, load_config
from ..config.sweep_expansion import plan
from ..core.suggestions import did_you_mean
from ..interop.ptychopinn import glossary, migrate_config
from . import settings_reference

STEPS_OF_A_SCAN = ("simulate", "convert", "pack")


def show(config: Path, scan: str | None = None, method: str | None = None) -> str:
    """Show a configuration with every default filled in.

    Reads a configuration. Makes text, YAML: with ``scan`` or ``method`` the sections that their steps are given.

    Args:
        config: the configuration.
        scan: with the settings that this scan overrides.
        method: with the settings that this method overrides.

    Raises:
        FileNotFoundError: if the file does not exist.
        ConfigError: if the configuration is wrong, or has no such scan or method.

    Example:
        ptychoflow config show config/config.yaml --scan star
    """
    loaded = load_config(config)
    for kind, name, known in (("scan", scan, loaded.scans), ("method", method, loaded.methods)):
        if name is not None and name not in known:
            raise ConfigError(f"{config} has no {kind} {name}{did_you_mean(name, known)}")
    if scan is None and method is None:
        return _as_yaml(_filled_in(loaded))
    sections: dict[str, Section | None] = {}
    for step, names in READS.items():
        owner = {"scan": scan} if step in STEPS_OF_A_SCAN else {"method": method}
        if None not in owner.values():
            sections |= {name: loaded.section(name, **owner) for name in names}
    return _as_yaml(
        {name: section.model_dump(mode="json") for name, section in sections.items() if section is not None}
    )


def validate(config: Path) -> str:
    """Validate a configuration.

    Reads a configuration. Makes one line of text: what a run of it will make, or each wrong setting with the remedy.

    Args:
        config: the configuration.

    Raises:
        FileNotFoundError: if the file does not exist.
        ConfigError: naming each wrong setting.

    Example:
        ptychoflow config validate config/config.yaml
    """
    planned = plan(load_config(config))
    return (
        f"{config} is valid: {len(planned.scans)} scans, {len(planned.trainings())} networks to train, "
        f"{len(planned.reconstructions())} reconstructions"
    )


def explain(setting: str) -> str:
    """Explain a setting, or what became of a setting of PtychoPINN.

    Reads nothing. Makes text: meaning, unit, values, default, the steps that read it, its names in PtychoPINN; for a
    section, its settings.

    Args:
        setting: a section, a setting such as ``training.learning_rate``, or a setting of PtychoPINN.

    Raises:
        ConfigError: for an unknown name, with the nearest known one.

    Example:
        ptychoflow config explain training.learning_rate
    """
    return settings_reference.explain(setting)


def migrate(file: Path, ignore: Sequence[str] = ()) -> str:
    """Translate a configuration of PtychoPINN to one that runs here.

    Reads a JSON profile, TensorFlow configuration or legacy dictionary of PtychoPINN. Makes text, YAML with a comment
    where a choice was made.

    Args:
        file: the configuration of PtychoPINN.
        ignore: fields to drop on purpose, such as ``model_config.cbam_encoder``, or whole sections.

    Raises:
        FileNotFoundError: if the file does not exist.
        ConfigError: naming each field that has no counterpart here, with the reason.

    Example:
        ptychoflow config migrate profile.json --ignore model_config.cbam_encoder
    """
    return migrate_config.migrate(file, ignore).rstrip("\n")


def mapping() -> str:
    """List what became of every setting of PtychoPINN.

    Reads nothing. Makes text, the Markdown page ``docs/reference/ptychopinn-settings.md``.

    Example:
        ptychoflow config mapping > docs/reference/ptychopinn-settings.md
    """
    return glossary.page().rstrip("\n")


def _filled_in(config: Config) -> dict:
    """Return a configuration with its defaults, but for those that depend on what a scan or a method may override."""
    entries = config.model_dump(mode="json", exclude_unset=True)
    return config.model_dump(mode="json", exclude={"network": config.network.input_dependent_defaults()}) | {
        name: entries[name] for name in ("scans", "methods", "sweeps") if name in entries
    }


def _as_yaml(settings: dict) -> str:
    return yaml.safe_dump(settings, sort_keys=False).rstrip("\n")
