"""States of refinements with their ground truth, from which the learned prior is trained."""

import dataclasses
import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import Refinement
from ..core.scan import Scan
from ..networks.object_network import object_features
from ..networks.object_prior import ObjectPrior
from ..refinement.engine import RefinedVariables, RefinementEngine
from .prior_curriculum import random_scan

logger = logging.getLogger(__name__)

CROP = 96
"""Side of the square that is kept of a state, px."""
COVERED = 0.03
"""Least illumination of a pixel that counts in training, relative to the median."""
LARGEST = 50.0
"""Amplitude above which a refinement has diverged; its states are left out."""


class States(NamedTuple):
    """States of refinements.

    Attributes:
        features: object, object before the last epoch, preconditioned gradient, noise level, ``(S, 4, H, W)`` complex.
        truth: ground truth on the same pixels, ``(S, H, W)`` complex.
        known: 1 where the scan says something about the object, 0 elsewhere, ``(S, H, W)``.
    """

    features: Tensor
    truth: Tensor
    known: Tensor

    def __len__(self) -> int:
        """Return the number of states S."""
        return len(self.truth)


def make_states(scans: int, seed: int, prior: ObjectPrior | None = None) -> States:
    """Refine random scans and keep what their refinements look like on the way.

    Args:
        scans: number of scans to draw; those whose beam does not fit are left out.
        seed: of the scans and of everything in their refinements.
        prior: corrects the object after the states that are kept, in two of three scans: so the prior learns from the
            states that it will meet (DAgger: Ross, Gordon and Bagnell 2011, AISTATS 15, 627).
    """
    kept: list[States] = []
    for number in range(scans):
        rng = np.random.default_rng([seed, number])
        try:
            scan = random_scan(rng)
            kept += _states_of(scan, rng, prior if number % 3 else None)
        except (ValueError, RuntimeError) as error:  # the beam does not fit, or the refinement diverges
            logger.debug("scan %d is left out: %s", number, error)
    if not kept:
        raise ValueError(f"none of {scans} random scans can be refined: draw more scans")
    logger.info("made %d states of refinements of %d scans", len(kept), scans)
    return States(*(torch.stack(field) for field in zip(*kept, strict=True)))


def _states_of(scan: Scan, rng: np.random.Generator, prior: ObjectPrior | None) -> list[States]:
    """Return single states, without their first axis, of one refinement with random settings."""
    engine, refined = _random_engine(scan, rng)
    epochs = engine.settings.epochs
    kept_after = {1, 3, epochs} if prior is None else {*range(2, epochs + 1, max(epochs // 4, 1)), epochs}
    states = []
    for epoch in range(1, epochs + 1):
        before = engine.object.clone()
        variables = RefinedVariables(probe=refined and epoch > 1)
        engine.epoch(variables, (epoch - 1) / (epochs - 1), epoch <= max(epochs // 2, 3))
        if epoch in kept_after:
            features = object_features(engine.object, before, engine.preconditioned_gradient(), engine.illumination())
            states.append(features)
            if prior is not None:
                engine.object = prior.correct(features)
    truth, known = _truth_on(engine, scan)
    cut = [_cropped(features, truth, known) for features in states]
    return [state for state in cut if state is not None]


def _random_engine(scan: Scan, rng: np.random.Generator) -> tuple[RefinementEngine, bool]:
    """Return an engine whose pixels are those of the ground truth, and whether its probe is to be refined."""
    truth = scan.truth
    assert truth is not None
    epochs = int(rng.choice([4, 8, 20]))
    refined = bool(rng.random() < 0.5)
    modes = max(int(rng.choice([1, 1, 2, 3])), len(scan.probe))
    settings = Refinement.model_validate(
        {
            "epochs": epochs,
            "step_size": (1.5, 0.1) if rng.random() < 0.7 else (1.0, 0.3),
            "seed": int(rng.integers(1 << 30)),
        }
        | ({"probe_start_epoch": 2, "probe_modes": modes} if refined else {})
    )
    aligned = scan.positions - np.mod(truth.origin, 1.0)
    return RefinementEngine(dataclasses.replace(scan, positions=aligned), settings), refined


def _truth_on(engine: RefinementEngine, scan: Scan) -> tuple[Tensor, Tensor]:
    """Return the ground truth on the pixels of an engine, and where it is there and illuminated."""
    truth = scan.truth
    assert truth is not None
    first = np.rint(np.add(engine.origin, np.mod(truth.origin, 1.0)) - np.asarray(truth.origin)).astype(int)
    height, width = engine.object.shape
    rows, columns = np.arange(height) + first[0], np.arange(width) + first[1]
    source = np.asarray(truth.object)
    inside = np.ix_((rows >= 0) & (rows < source.shape[0]), (columns >= 0) & (columns < source.shape[1]))
    image, known = np.zeros((height, width), np.complex64), np.zeros((height, width), bool)
    image[inside] = source[np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])]
    known[inside] = True
    illumination = engine.illumination().numpy()
    median = np.median(illumination[illumination > 0.05 * illumination.max()])
    return torch.from_numpy(image), torch.from_numpy(known & (illumination > COVERED * median)).float()


def _cropped(features: Tensor, truth: Tensor, known: Tensor) -> States | None:
    """Return the square in the middle of what is known; None if the object is too small or the refinement diverged."""
    rows, columns = torch.nonzero(known, as_tuple=True)
    if not len(rows) or min(known.shape) < CROP or not features[0].abs().max() < LARGEST:
        return None
    middle = (int(axis.min() + axis.max()) // 2 - CROP // 2 for axis in (rows, columns))
    top, left = (min(max(first, 0), side - CROP) for first, side in zip(middle, known.shape, strict=True))
    window = (..., slice(top, top + CROP), slice(left, left + CROP))
    return States(features[window].to(torch.complex64), truth[window], known[window])
