"""The commands as objects, for notebooks and other programs: settings, scans, networks and reconstructions in memory.

Importing this is quick; torch and the rest come with the first object that needs them. Nothing is tracked or written
unless asked for: commands work in a temporary folder that is gone when they are done.

    model = PtychoModel.load("pinn.ckpt")
    result = InferenceEngine(model).predict_and_stitch(counts, positions=positions, probe=probe)
    result.image
"""

from .config import ConfigManager
from .data import Datagen, PtychoDataLoader
from .inference import InferenceEngine, ReconstructionResult
from .model import PtychoModel
from .training import Trainer

__all__ = [
    "ConfigManager",
    "Datagen",
    "InferenceEngine",
    "PtychoDataLoader",
    "PtychoModel",
    "ReconstructionResult",
    "Trainer",
]
