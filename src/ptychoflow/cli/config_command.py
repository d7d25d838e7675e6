"""Questions about a config, answered as text: what holds, is it right, what does it mean, what was it elsewhere."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from ..config import READS, Config, ConfigError, load_config
from ..config.sweep_expansion import plan
from ..interop.ptychopinn.glossary import page
from ..interop.ptychopinn.migrate_config import migrate
from .settings_reference import explain

QUESTIONS = ("show", "check", "explain", "migrate", "names")
STEPS_OF_A_SCAN = ("simulate", "convert", "pack")


def answer(
    question: str,
    subject: str | None = None,
    scan: str | None = None,
    method: str | None = None,
    leave_out: Iterable[str] = (),
) -> str:
    """The answer to one of :data:`QUESTIONS`.

    Args:
        question: ``show`` a config with every default filled in, ``check`` it, ``explain`` a setting of ours or of
            PtychoPINN, ``migrate`` a file of PtychoPINN, list what became of all its ``names``.
        subject: the config or file; for ``explain`` a setting.
        scan: for ``show``, with what this scan overrides.
        method: for ``show``, with what this method overrides.
        leave_out: for ``migrate``, fields to drop on purpose.

    Raises:
        FileNotFoundError: if there is no such file.
        ConfigError: for what is wrong, with the remedy.
    """
    if question == "names":
        return page().rstrip("\n")
    if subject is None:
        raise ConfigError(f"{question} needs a {'setting' if question == 'explain' else 'file'} to be asked about")
    if question == "explain":
        return explain(subject)
    if question == "migrate":
        return migrate(Path(subject), leave_out).rstrip("\n")
    config = load_config(subject)
    return check(config, subject) if question == "check" else show(config, scan, method)


def show(config: Config, scan: str | None = None, method: str | None = None) -> str:
    """A config as YAML with every default filled in; of a scan or a method, what its steps are handed."""
    for name, known in ((scan, config.scans), (method, config.methods)):
        if name is not None and name not in known:
            raise ConfigError(f"there is no {name} in it, only {', '.join(known)}")
    if scan is None and method is None:
        # what a scan or a method does not name it takes from the top level, so nothing may be filled in there, nor here
        # what hangs on a setting that a method may override
        entries = config.model_dump(mode="json", exclude_unset=True)
        return _text(
            config.model_dump(mode="json", exclude={"network": config.network.hanging()})
            | {name: entries[name] for name in ("scans", "methods", "sweeps") if name in entries}
        )
    handed = {}
    for step, names in READS.items():
        owner = {"scan": scan} if step in STEPS_OF_A_SCAN else {"method": method}
        if None not in owner.values():
            handed |= {name: config.section(name, **owner) for name in names}
    return _text({name: section.model_dump(mode="json") for name, section in handed.items() if section is not None})


def check(config: Config, subject: str) -> str:
    """What a right config will make."""
    planned = plan(config)
    return (
        f"{subject} is right: {len(planned.scans)} scans, {len(planned.trainings())} networks to train, "
        f"{len(planned.reconstructions())} reconstructions"
    )


def _text(settings: dict) -> str:
    return yaml.safe_dump(settings, sort_keys=False).rstrip("\n")
