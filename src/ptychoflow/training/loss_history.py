"""The history of a training: losses step by step, metrics epoch by epoch."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from .lightning_module import GroupTask
from .schedule import physics_weight, stage_at


class LossHistory(Callback):
    """Record the losses of every step and the metrics of every validation, as plain columns.

    Attributes:
        steps: ``epoch``, ``loss``, ``supervised``, ``physics``, ``physics_weight``, ``learning_rate``, ``stage``; NaN
            where a step did not compute a loss.
        validations: ``epoch`` and the metrics.
    """

    PARTS = ("loss", "supervised", "physics")

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}
        self.validations: dict[str, list[float]] = {}
        self._pending: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """Record the losses on the device, which are fetched once an epoch; of accumulated batches, the last."""
        task = cast(GroupTask, task)
        if (index + 1) % task.parts:
            return
        missing = torch.full_like(outputs["loss"], torch.nan)
        recorded = outputs | {"loss": outputs.get("recorded_loss", outputs["loss"])}
        self._pending.append(torch.stack([recorded.get(part, missing).detach() for part in self.PARTS]))
        stages, epoch = task.training_settings.stages, task.epoch_after(index)
        _append(
            self.steps,
            epoch=task.epoch_after(index + 1),
            physics_weight=physics_weight(stages, epoch),
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            stage=stage_at(stages, epoch)[0],
        )

    def on_validation_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Record the metrics of this validation."""
        metrics = {k.partition("/")[2]: float(v) for k, v in trainer.callback_metrics.items() if "validation/" in k}
        metrics.pop("error")  # it is a copy of another one
        _append(self.validations, epoch=trainer.current_epoch + 1, **metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return the columns for the checkpoint."""
        self._fetch()
        return {"steps": self.steps, "validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the columns from a checkpoint.

        Raises:
            ValueError: if they are not columns of numbers.
        """
        for table in (state["steps"], state["validations"]):
            if not all(isinstance(value, int | float) for column in table.values() for value in column):
                raise ValueError("the history of the losses is not one of numbers")
        self.steps, self.validations = state["steps"], state["validations"]

    def columns(self) -> dict[str, list[float]]:
        """Return the columns of every step so far."""
        self._fetch()
        return self.steps

    def _fetch(self) -> None:
        if self._pending:
            rows = torch.stack(self._pending).tolist()
            self._pending = []
            for row in rows:
                _append(self.steps, **dict(zip(self.PARTS, row, strict=True)))


def thin(columns: dict[str, list[float]], most: int = 400) -> dict[str, list[float | None]]:
    """Average columns over runs of steps, down to at most ``most`` rows; None where a loss was not computed.

    Args:
        columns: of :meth:`LossHistory.columns`, among them ``epoch``.
        most: rows of the result.
    """
    length = len(columns.get("epoch", []))
    run = max(1, -(-length // most))
    return {
        name: [_mean_of_finite(column[first : first + run]) for first in range(0, length, run)]
        for name, column in columns.items()
    }


def by_stage(columns: dict[str, list[float]]) -> list[dict[str, float | None]]:
    """Return the mean losses of each stage over its first and its last tenth.

    Args:
        columns: of :meth:`LossHistory.columns`, among them ``stage``.
    """
    stages = np.asarray(columns.get("stage", []), int)
    summary = []
    for stage in np.unique(stages):
        steps = np.flatnonzero(stages == stage)
        tenth = max(1, len(steps) // 10)
        row: dict[str, float | None] = {"stage": int(stage), "steps": len(steps)}
        for part in LossHistory.PARTS:
            row[f"{part}_first"] = _mean_of_finite([columns[part][i] for i in steps[:tenth]])
            row[f"{part}_last"] = _mean_of_finite([columns[part][i] for i in steps[-tenth:]])
        summary.append(row)
    return summary


def _mean_of_finite(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _append(columns: dict[str, list[float]], **row: float) -> None:
    for name, value in row.items():
        columns.setdefault(name, []).append(value)
