"""MLflow model folder of a network: plain files, signature and input example, without pickle."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..models.checkpoint import Model
from ..models.model_folder import write_model_folder

LOADER = "ptychoflow.plugins.mlflow_pyfunc"
"""Module that MLflow loads such a folder with."""
EXAMPLE_SIDE = 3
"""Rows and columns of the scan in the input example."""


def write_mlflow_model(folder: Path, model: Model) -> None:
    """Write a network as a folder that ``mlflow.pyfunc.load_model`` and ``mlflow models`` open."""
    import mlflow.pyfunc
    import torch

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        network = Path(scratch) / "network"
        write_model_folder(network, model)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(network),
            signature=_signature(model.size),
            input_example=example(model.size),
            pip_requirements=[f"ptychoflow[train]=={__version__}", f"torch=={torch.__version__.partition('+')[0]}"],
        )


def example(size: int) -> dict[str, np.ndarray]:
    """Return an input example for :meth:`PyfuncModel.predict`: a uniform object under a Gaussian probe on a small grid.

    Args:
        size: side of the patterns, px.

    Returns:
        ``counts`` ``(J, N, N)``, ``positions`` ``(J, 2)`` px and ``probe`` ``(1, N, N, 2)``, sqrt(photons).
    """
    y, x = np.indices((size, size)) - size // 2
    probe = 100 * np.exp(-(y**2 + x**2) / (size / 4) ** 2)
    wave = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe), norm="ortho"))
    counts = np.rint(np.abs(wave) ** 2).astype(np.float32)
    steps = np.arange(EXAMPLE_SIDE) * (size // 8)
    positions = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2).astype(np.float64)
    pairs = np.stack([probe, np.zeros_like(probe)], -1)[None].astype(np.float32)
    return {"counts": np.repeat(counts[None], len(positions), 0), "positions": positions, "probe": pairs}


def _signature(size: int) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    def spec(name: str, dtype: type, *shape: int) -> ColSpec | TensorSpec:
        return TensorSpec(np.dtype(dtype), shape, name)

    inputs = [
        spec("counts", np.float32, -1, size, size),
        spec("positions", np.float64, -1, 2),
        spec("probe", np.float32, -1, size, size, 2),
    ]
    outputs = [
        spec("object", np.float32, -1, -1, 2),
        spec("coverage", np.bool_, -1, -1),
        spec("origin", np.float64, 2),
    ]
    return ModelSignature(Schema(inputs), Schema(outputs))
