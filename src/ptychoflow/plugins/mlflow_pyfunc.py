"""Pyfunc model of a network for MLflow, arrays in and arrays out; MLflow stores name this module as the loader."""

from pathlib import Path
from typing import Any

import numpy as np

from ..api import InferenceEngine, PtychoModel
from ..models.checkpoint import Model
from ..models.model_folder import read_model_folder

Arrays = dict[str, np.ndarray]


class PyfuncModel:
    """The model that ``mlflow.pyfunc.load_model`` returns for one of our networks."""

    def __init__(self, model: Model) -> None:
        self._engine = InferenceEngine(PtychoModel(model))

    def predict(
        self, model_input: dict[str, np.ndarray], params: dict[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Reconstruct one scan.

        Args:
            model_input: ``counts`` float32 ``(J, N, N)``, zero frequency in the middle; ``positions`` float64
                ``(J, 2)``, centres ``(y, x)`` in object pixels; ``probe`` float32 ``(M, N, N, 2)``, real and imaginary
                part of the modes in sqrt(photons).
            params: ignored.

        Returns:
            ``object`` float32 ``(H, W, 2)``, real and imaginary part; ``coverage`` ``(H, W)``, True where illuminated;
            ``origin`` ``(2,)``, the position of pixel ``[0, 0]``.
        """
        pairs = np.ascontiguousarray(model_input["probe"], np.float32)
        found = self._engine.predict_and_stitch(
            np.asarray(model_input["counts"]),
            positions=model_input["positions"],
            probe=pairs.view(np.complex64)[..., 0],
        )
        image = np.ascontiguousarray(found.image).view(np.float32).reshape(*found.image.shape, 2)
        return {"object": image, "coverage": found.coverage, "origin": np.asarray(found.origin)}


def _load_pyfunc(path: str) -> PyfuncModel:
    """Load the network in a folder; MLflow calls this function by its name."""
    return PyfuncModel(read_model_folder(Path(path)))
