"""What sections are made of: frozen models that refuse unknown keys, kinds of values, words for what is wrong."""

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

HALVES = ("even", "odd")


class ConfigError(ValueError):
    """A config that cannot be run: the message names each culprit and the remedy."""


class Section(BaseModel):
    """Settings that are read together: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def named(value: Any) -> Any:
    """``dead_leaves`` is short for ``{name: dead_leaves}``."""
    return {"name": value} if isinstance(value, str) else value


def listed(value: Any) -> Any:
    """``pinn`` is short for ``[pinn]``."""
    return (value,) if isinstance(value, str) else value


def _square(side: Any) -> Any:
    """``400`` is short for ``[400, 400]``."""
    return (side, side) if isinstance(side, int) else side


def _increasing(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [low, high], got {list(pair)}")
    return pair


def not_negative(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] < 0:
        raise ValueError(f"expected 0 or more, got {list(pair)}")
    return pair


def positive(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError(f"expected more than 0, got {list(pair)}")
    return pair


def occupancies(shares: tuple[float, ...]) -> tuple[float, ...]:
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"expected shares that sum to 1, got {list(shares)}, which sum to {sum(shares):.6g}")
    return shares


def fraction(value: Any) -> Any:
    """``0.1`` is short for ``{fraction: 0.1}``."""
    return {"fraction": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Range = Annotated[tuple[float, float], AfterValidator(_increasing)]

Share = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], AfterValidator(_increasing)
]

Shape = Annotated[
    tuple[PositiveInt, PositiveInt],
    BeforeValidator(_square, json_schema_input_type=PositiveInt | tuple[PositiveInt, PositiveInt]),
]

Alpha = Annotated[float, Field(gt=0, le=1)]

PatternSize = Annotated[int, Field(ge=16, le=1024, multiple_of=2)]


def refuse_idle(section: Section, choice: str, acts_on: dict[str, tuple[str, ...]]) -> None:
    """Refuse settings that were changed but do not act on what was chosen."""
    for setting, names in acts_on.items():
        if choice not in names and getattr(section, setting) != type(section).model_fields[setting].default:
            raise ValueError(f"{setting} acts on {', '.join(names)}, not on {choice}: remove it")


class Recipe(Section):
    """A named way to make something. A setting that does not act on what is named is refused, never ignored."""

    acts_on: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Settings that act on some names only, and those names."""

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "Recipe":
        refuse_idle(self, self.name, self.acts_on)
        return self


def whole_scan(name: str) -> str:
    """The scan that a name means: ``star`` for ``star`` and for its halves ``star.even`` and ``star.odd``."""
    whole, _, half = name.partition(".")
    return whole if half in HALVES else name


def merge(base: dict, override: dict) -> dict:
    """``base`` with ``override`` laid over it, nested dictionaries merged, everything else replaced."""
    merged = dict(base)
    for key, value in override.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged
