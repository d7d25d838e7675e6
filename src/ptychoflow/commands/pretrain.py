"""Train the learned prior that refinement may use, from simulated scans of every kind."""

import dataclasses
import logging
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..io.atomic import atomic_file, write_json
from ..io.provenance import code_version, sha256
from ..networks.object_prior import ObjectPrior
from ..training.prior_training import PriorTraining, train_prior

logger = logging.getLogger(__name__)


def pretrain(
    output: Path,
    *,
    scans: int = 2000,
    steps: int = 8000,
    rounds: int = 3,
    base_channels: int = 32,
    seed: int = 0,
) -> None:
    """Train the learned prior of refinement, for any beam and sample, from nothing.

    Reads nothing. Makes the weights and, beside them, a model card with their checksum. Both are written after each
    round, so that an interruption loses one round only; the history in the card says how many there were. The defaults
    take hours on two cores.

    Args:
        output: the weights, ``.safetensors``.
        scans: random scans to simulate and refine in each round.
        steps: optimiser steps in each round.
        rounds: rounds; from the second on, the prior learns from refinements that it has corrected itself.
        base_channels: channels of the first level of the U-Net.
        seed: of everything that is drawn.

    Raises:
        ValueError: if no random scan can be refined.

    Example:
        ptychoflow pretrain prior.safetensors --scans 200 --steps 500
    """
    settings = PriorTraining(scans=scans, steps=steps, rounds=rounds, base_channels=base_channels, seed=seed)

    def write(prior: ObjectPrior, history: list[dict[str, float]]) -> None:
        weights = {name: value.contiguous() for name, value in prior.state_dict().items()}
        with atomic_file(output) as partial:
            save_file(weights, partial, {"format": "ptychoflow object prior"})
        write_json(output.with_suffix(".json"), model_card(output, prior, settings, history))
        logger.info("wrote %s after round %d of %d", output, len(history), rounds)

    train_prior(settings, write)


def model_card(output: Path, prior: ObjectPrior, settings: PriorTraining, history: list[dict[str, float]]) -> dict:
    """Return what a user must know of the weights: network, checksum, data, how they were made, licence, limits."""
    return {
        "description": "Learned prior of complex objects for ptychographic refinement, for any beam",
        "network": {"base_channels": settings.base_channels, "depth": settings.depth},
        "parameters": sum(value.numel() for value in prior.state_dict().values()),
        "sha256": sha256(output),
        "data": "simulated scans: ptychoflow.training.prior_curriculum; photographs of scikit-image among the objects",
        "made_with": {"ptychoflow": code_version(), "torch": torch.__version__} | dataclasses.asdict(settings),
        "history": history,
        "license": "BSD-3-Clause",
        "limits": "far-field scans of one thin object; trained on patterns of 32 and 64 px, spots of 8 to 34 px; phase "
        "that varies over more than 8 px is left to the measurement",
    }
