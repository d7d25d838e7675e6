"""Codecs of values: pairs of functions that translate a setting's value between PtychoPINN and our config."""

from collections.abc import Callable
from typing import Any, NamedTuple


class UntranslatableError(ValueError):
    """Raised for a value that PtychoPINN does not support."""


class Codec(NamedTuple):
    """A pair of functions: ``inward`` from PtychoPINN's value to ours, ``outward`` back; ValueError if impossible."""

    inward: Callable[[Any], Any]
    outward: Callable[[Any], Any]


def words(table: dict[Any, Any]) -> Codec:
    """Return a codec of a few values, theirs to ours; of several with one meaning the first is written."""
    back = {meaning: word for word, meaning in reversed(table.items())}

    def inward(word: Any) -> Any:
        if not isinstance(word, str | int | float) or word not in table:
            raise ValueError(f"expected one of {', '.join(map(repr, table))}")
        return table[word]

    def outward(meaning: Any) -> Any:
        if meaning not in back:
            raise UntranslatableError(f"PtychoPINN supports only {', '.join(map(repr, back))}")
        return back[meaning]

    return Codec(inward, outward)


def one_of(*values: Any) -> Codec:
    """Return a codec of values that are the same on both sides."""
    return words({value: value for value in values})


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


def _square(pair: Any) -> int:
    if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] != pair[1]:
        raise ValueError("expected a square, (n, n)")
    return _whole(pair[0])


def _side(pair: tuple[int, int]) -> int:
    if pair[0] != pair[1]:
        raise UntranslatableError("PtychoPINN supports only squares")
    return pair[0]


def _side_of_group(group_size: int) -> int:
    side = round(group_size**0.5)
    if side * side != group_size:
        raise UntranslatableError(f"PtychoPINN supports only square grids of patterns, got {group_size}")
    return side


def tuples(value: Any) -> Any:
    """Return a value with lists, such as those of JSON, as tuples."""
    return tuple(tuples(entry) for entry in value) if isinstance(value, list | tuple) else value


def _stated(value: Any) -> Any:
    if value is None:
        raise UntranslatableError("PtychoPINN does not support None")
    return value


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise UntranslatableError("expected a power of two")
    return value


SAME = Codec(lambda value: value, lambda value: value)
STATED = Codec(lambda value: value, _stated)
GRID = Codec(lambda pair: _square(pair) ** 2, lambda size: (_side_of_group(size),) * 2)
GRIDSIZE = Codec(lambda side: _whole(side) ** 2, _side_of_group)
SIDE = Codec(lambda side: (_whole(side),) * 2, _side)
WHOLE = Codec(_whole, _whole)
MODE = words({"Unsupervised": "pinn", "Supervised": "supervised"})
MODEL_TYPE = words({"pinn": "pinn", "supervised": "supervised"})
ARCHITECTURE = words({"cnn": "cnn", "fno": "fno"})
HEAD = words({"amp_phase": "polar", "real_imag": "complex"})
ACTIVATIONS = {word: word for word in ("sigmoid", "softplus", "relu")}
ACTIVATION = words({"silu": "silu", "SiLU": "silu", "swish": "silu"} | ACTIVATIONS)
TENSORFLOW_ACTIVATION = words({"swish": "silu"} | ACTIVATIONS)
DOMAIN = words({"count_intensity": "counts", "normalized_amplitude": "amplitude"})
CONTRACT = words({"ci_intensity_v2": "counts", "legacy_v1": "amplitude"})
PATCH_WEIGHTING = words({"central_mask": "central", "probe": "illumination", "uniform": "uniform"})
OPTIMIZER = words({"adam": "adam", "adamw": "adamw", "sgd": "sgd"})
LOSS_FUNCTION = words({"Poisson": "poisson", "MAE": "mae"})
LOSS_MODE = words({"poisson": "poisson", "mae": "mae"})
NLL = words({True: "poisson", False: "mae"})
NLL_WEIGHT = words({1.0: "poisson", 0.0: "mae"})
MAE_WEIGHT = words({0.0: "poisson", 1.0: "mae"})
METHOD = words({"Nearest": "nearest", "Min_dist": "min_distance", "4_quadrant": "quadrant"})
WEIGHTING = words({"probe": "illumination", "uniform": "uniform"})
OBJECT_CLASS = words(
    {word: word for word in ("dead_leaves", "procedural", "polyhedra", "white_noise")}
    | {"simplex_noise": "perlin_noise", "blurred_white_noise": "blurred_noise"}
)
DEVICE = words({"cuda": "auto", "cpu": "cpu"})
MASK = Codec(lambda mask: mask if isinstance(mask, bool) else mask is not None, lambda mask: mask)
SIZES = Codec(lambda size: size, one_of(64, 128, 256).outward)
POWER_OF_TWO = Codec(lambda value: value, _power_of_two)
