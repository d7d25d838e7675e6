"""Training of the learned prior: rounds of making states and of learning to correct them."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.object_prior import ObjectPrior, low_order_phasor
from ..runtime.progress import track
from .prior_states import States, make_states

logger = logging.getLogger(__name__)

WINDOW = 64
"""Side of the squares that the network is trained on, px."""
LEAST_KNOWN = 200
"""Known pixels of a square that counts."""
ERROR_FLOOR = 1e-4
"""Relative square error that is added in the loss to that of the input, so that nearly perfect states do not rule."""
WARM_UP = 100
"""Steps over which the learning rate rises."""
LOGGED_EVERY = 250
"""Steps between lines of the log, and of whose losses the mean is reported."""


@dataclass(frozen=True)
class PriorTraining:
    """Settings of the training of the learned prior; the defaults take hours on two cores.

    Attributes:
        scans: random scans in each round.
        steps: optimiser steps in each round.
        rounds: the states of all but the first are of refinements that the prior itself has corrected.
        batch_size: squares in a step.
        learning_rate: of the first steps; it falls by a cosine in each round.
        base_channels: channels of the first level of the U-Net.
        depth: number of its levels.
        seed: of everything that is drawn.
    """

    scans: int = 2000
    steps: int = 8000
    rounds: int = 3
    batch_size: int = 16
    learning_rate: float = 1e-3
    base_channels: int = 32
    depth: int = 3
    seed: int = 0


def train_prior(
    settings: PriorTraining, after_round: Callable[[ObjectPrior, list[dict[str, float]]], None] | None = None
) -> tuple[ObjectPrior, list[dict[str, float]]]:
    """Train the learned prior from nothing.

    Args:
        settings: how much, and the seed.
        after_round: called with the prior and the history so far after each round, to keep them.

    Returns:
        The prior with averaged weights, and a row for each round: ``round``, ``states``, ``loss`` and ``error_ratio``,
        the median ratio of the square errors after and before a correction on states that were held out.
    """
    torch.manual_seed(settings.seed)
    prior = ObjectPrior(settings.base_channels, settings.depth)
    history, states = [], None
    for number in range(settings.rounds):
        made = make_states(settings.scans, settings.seed + number, prior.eval() if number else None)
        states = made if states is None else States(*map(torch.cat, zip(states, made, strict=True)))
        row = _train_round(prior, states, settings, number)
        history.append({"round": number + 1.0, "states": float(len(states))} | row)
        logger.info("round %(round)d: %(states)d states, loss %(loss).3f, error ratio %(error_ratio).3f", history[-1])
        if after_round is not None:
            after_round(prior.eval(), history)
    return prior.eval(), history


def _train_round(prior: ObjectPrior, states: States, settings: PriorTraining, number: int) -> dict[str, float]:
    """Train on some states; the prior ends with the running average of its weights."""
    rng, began = np.random.default_rng([settings.seed, number]), time.perf_counter()
    held_out = np.arange(0, len(states), 25)
    chosen = np.setdiff1d(np.arange(len(states)), held_out)
    optimizer = torch.optim.AdamW(prior.train().parameters(), settings.learning_rate, weight_decay=1e-4)
    average = {name: value.clone() for name, value in prior.state_dict().items()}
    losses = []
    for step in track(range(settings.steps), "training the prior"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings.steps)
        features, truth, known = random_squares(states, rng.choice(chosen, settings.batch_size), rng)
        loss = correction_loss(prior(features), features[:, 0], truth, known)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
        if (step + 1) % LOGGED_EVERY == 0:
            mean = float(torch.stack(losses[-LOGGED_EVERY:]).mean())
            seconds = time.perf_counter() - began
            logger.info("step %d of %d: loss %.3f, %.0f s", step + 1, settings.steps, mean, seconds)
        decay = min(0.999, (step + 1) / (step + 21))
        for name, value in prior.state_dict().items():
            average[name].lerp_(value, 1 - decay)
    prior.load_state_dict(average)
    logger.info("trained on %d states, %.0f s", len(states), time.perf_counter() - began)
    recent = torch.stack(losses[-LOGGED_EVERY:]).mean()
    return {"loss": float(recent), "error_ratio": _error_ratio(prior.eval(), states, held_out, settings)}


def _rate(step: int, steps: int) -> float:
    """Return the learning rate of a step, relative to the greatest."""
    return min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


@torch.no_grad()
def _error_ratio(prior: ObjectPrior, states: States, indices: np.ndarray, settings: PriorTraining) -> float:
    """Return the median ratio of square errors after and before the correction, in states that were held out."""
    rng, ratios = np.random.default_rng(settings.seed), []
    for first in range(0, len(indices), settings.batch_size):
        features, truth, known = random_squares(states, indices[first : first + settings.batch_size], rng)
        before = relative_square_error(features[:, 0], truth, known)
        ratios.append(relative_square_error(prior(features), truth, known) / before.clamp_min(1e-6))
    return float(torch.cat(ratios).median())


def random_squares(states: States, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Cut random squares of states, turned, mirrored, with a random gauge, and with the state's own low-order phase.

    An object has no up. Its amplitude scale, phase offset and phase ramp are arbitrary, and its low-order phase is for
    the measurement to say: so features and truth are multiplied by one random phase factor, and then the truth by the
    low-order phase in which the two differ.

    Args:
        states: what to cut from.
        indices: of the states.
        rng: what to draw from.

    Returns:
        Features ``(B, 4, W, W)``, ground truth and where it is known ``(B, W, W)``.
    """
    squares = [_random_square(states, int(index), rng) for index in indices]
    features, truth, known = (torch.stack(field) for field in zip(*squares, strict=True))
    pixels = known.sum((1, 2)).clamp_min(1)
    scale = ((features[:, 0].abs() * known).sum((1, 2)) / pixels).clamp_min(0.05)
    gauge = _random_phasors(len(squares), rng) / scale[:, None, None]
    offset = (features[:, 0] * gauge * known).sum((1, 2)).sgn().conj()
    gauge = gauge * offset[:, None, None]
    features = torch.cat([features[:, :3] * gauge[:, None], features[:, 3:]], dim=1)
    truth = truth * gauge
    return features, truth * low_order_phasor(features[:, 0] * truth.conj() * known), known


def _random_square(states: States, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    side = states.truth.shape[-1] - WINDOW + 1
    top, left = (int(first) for first in rng.integers(0, side, 2))
    turns, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)

    def oriented(field: Tensor) -> Tensor:
        square = field[index, ..., top : top + WINDOW, left : left + WINDOW]
        return (square.mT if mirrored else square).rot90(turns, (-2, -1))

    return oriented(states.features), oriented(states.truth), oriented(states.known)


def _random_phasors(count: int, rng: np.random.Generator) -> Tensor:
    """Return slowly varying phase factors, ``(count, W, W)``: a ramp and a wave in six of ten, 1 in the others."""
    y, x = torch.meshgrid(*[torch.arange(WINDOW) - WINDOW / 2] * 2, indexing="ij")
    drawn = torch.from_numpy(rng.standard_normal((5, count, 1, 1)).astype(np.float32))
    present = torch.from_numpy((rng.random((count, 1, 1)) < 0.6).astype(np.float32))
    ramp = 0.04 * (drawn[0] * y + drawn[1] * x)
    wave = 0.5 * drawn[4] * torch.sin(4 * y / WINDOW + 3 * drawn[2]) * torch.cos(4 * x / WINDOW + 3 * drawn[3])
    phase = present * (ramp + wave)
    return torch.polar(torch.ones_like(phase), phase)


def correction_loss(corrected: Tensor, image: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Compute the mean ratio of rms errors after and before a correction.

    Args:
        corrected: output of the prior, ``(B, W, W)``.
        image: the object before, ``(B, W, W)``.
        truth: ground truth, ``(B, W, W)``.
        known: 1 where the truth counts, ``(B, W, W)``; squares with few such pixels do not count.
    """
    after, before = (relative_square_error(field, truth, known) for field in (corrected, image))
    counts = (known.sum((1, 2)) > LEAST_KNOWN).to(after.dtype)
    return (((after + 1e-6) / (before + ERROR_FLOOR)).sqrt() * counts).sum() / counts.sum().clamp_min(1)


def relative_square_error(image: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Compute the square error relative to the truth's, phase offset apart, ``(B,)``."""
    offset = (known * image.conj() * truth).sum((1, 2)).sgn()
    error = (image * offset[:, None, None] - truth).abs().square()
    return (known * error).sum((1, 2)) / (known * truth.abs().square()).sum((1, 2)).clamp_min(1e-6)
