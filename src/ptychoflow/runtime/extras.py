"""Packages that only some commands need, and the extra of ``pip install`` that brings them."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

EXTRAS = {"lightning": "train", "mlflow": "train", "snakemake": "workflow", "rosettasciio": "em", "zarr": "em"}
"""Extra of pyproject.toml by the package that it brings."""
CALLED = {"rsciio": "rosettasciio"}
"""Modules whose package has another name."""


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return how to install the package that an import did not find; None if no extra brings it."""
    module = (error.name or "").partition(".")[0]
    package = CALLED.get(module, module)
    if package not in EXTRAS:
        return None
    return f"{package} is not installed, which this needs: pip install 'ptychoflow[{EXTRAS[package]}]'"


def names_extra(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that a package it does not find is reported with the extra that brings it.

    Raises:
        ModuleNotFoundError: naming the package and how to install it.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ModuleNotFoundError as error:
            remedy = missing_extra(error)
            if remedy is None:
                raise
            raise ModuleNotFoundError(remedy, name=error.name) from error

    return wrapped
