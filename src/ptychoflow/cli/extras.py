"""Packages that only some commands need, and the extra of ``pip install`` that brings them."""

EXTRAS = {"lightning": "train", "mlflow": "train", "snakemake": "workflow"}
"""Extra of pyproject.toml by the package that it brings."""


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return how to install the package that an import did not find; None if no extra brings it."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return f"{package} is not installed, which this needs: pip install 'ptychoflow[{EXTRAS[package]}]'"
