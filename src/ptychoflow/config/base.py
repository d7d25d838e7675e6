"""Building blocks of sections: frozen models that refuse unknown keys, types of values, and their validators."""

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""Names of scans, methods and sweeps, which files are named after."""

HALVES = ("even", "odd")
"""Names of the two halves of a scan's patterns."""


class ConfigError(ValueError):
    """A config that cannot be run: the message names each culprit and the remedy."""


class Section(BaseModel):
    """Settings that are read together: frozen, unknown keys and numbers that are not finite refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def named(value: Any) -> Any:
    """Expand ``dead_leaves`` to ``{name: dead_leaves}``."""
    return {"name": value} if isinstance(value, str) else value


def listed(value: Any) -> Any:
    """Expand ``pinn`` to ``[pinn]``."""
    return (value,) if isinstance(value, str) else value


def _square(side: Any) -> Any:
    """Expand ``400`` to ``[400, 400]``."""
    return (side, side) if isinstance(side, int) else side


def _increasing(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [low, high], got {list(pair)}")
    return pair


def not_negative(pair: tuple[float, float]) -> tuple[float, float]:
    """Return a pair of which both are 0 or more; raise ValueError otherwise."""
    if pair[0] < 0:
        raise ValueError(f"expected 0 or more, got {list(pair)}")
    return pair


def positive(pair: tuple[float, float]) -> tuple[float, float]:
    """Return a pair of which both are above 0; raise ValueError otherwise."""
    if pair[0] <= 0:
        raise ValueError(f"expected more than 0, got {list(pair)}")
    return pair


def occupancies(fractions: tuple[float, ...]) -> tuple[float, ...]:
    """Return fractions that sum to 1; raise ValueError otherwise."""
    if abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"expected fractions that sum to 1, got {list(fractions)}, which sum to {sum(fractions):.6g}")
    return fractions


def fraction(value: Any) -> Any:
    """Expand ``0.1`` to ``{fraction: 0.1}``."""
    return {"fraction": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Range = Annotated[tuple[float, float], AfterValidator(_increasing)]

Interval = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], AfterValidator(_increasing)
]

Shape = Annotated[
    tuple[PositiveInt, PositiveInt],
    BeforeValidator(_square, json_schema_input_type=PositiveInt | tuple[PositiveInt, PositiveInt]),
]

Alpha = Annotated[float, Field(gt=0, le=1)]

Patterns = tuple[NonNegativeInt | Annotated[str, Field(pattern=r"^\d+:\d*$")], ...]
"""Numbers of patterns from 0, and ranges ``"first:stop"``."""

PatternSize = Annotated[int, Field(ge=16, le=1024, multiple_of=2)]


def refuse_idle(section: Section, choice: str, acts_on: dict[str, tuple[str, ...]]) -> None:
    """Refuse settings that were changed but have no effect on what was chosen.

    Args:
        section: the section that holds the settings.
        choice: the chosen value, such as ``unet``.
        acts_on: for each setting, the choices that it has an effect on.

    Raises:
        ValueError: for the first such setting.
    """
    for setting, names in acts_on.items():
        if choice not in names and getattr(section, setting) != type(section).model_fields[setting].default:
            raise ValueError(f"{setting} acts on {', '.join(names)}, not on {choice}: remove it")


class Recipe(Section):
    """A choice by name with settings of its own; a setting without effect on the choice is refused, never ignored."""

    if TYPE_CHECKING:
        name: Any

    acts_on: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Settings that have an effect on some names only, and those names."""

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Recipe":
        refuse_idle(self, self.name, self.acts_on)
        return self


def whole_scan(name: str) -> str:
    """Return the scan that a name stands for: ``star`` for ``star`` and its halves ``star.even`` and ``star.odd``."""
    whole, _, half = name.partition(".")
    return whole if half in HALVES else name


def merge(base: dict, override: dict) -> dict:
    """Lay ``override`` over ``base``: nested dictionaries are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in override.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged
