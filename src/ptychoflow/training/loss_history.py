"""How a training went: its losses step by step, its measures epoch by epoch."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning import Callback, Trainer

from .lightning_module import GroupTask
from .schedule import physics_weight, stage_at


class LossHistory(Callback):
    """The losses of every step and the measures of every validation, as plain columns.

    Attributes:
        steps: ``epoch``, ``loss``, ``supervised``, ``physics``, ``physics_weight``, ``learning_rate``, ``stage``; NaN where
            a step did not compute a loss.
        validations: ``epoch`` and the measures.
    """

    PARTS = ("loss", "supervised", "physics")

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}
        self.validations: dict[str, list[float]] = {}
        self._pending: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, task: GroupTask, outputs: dict, batch, index: int) -> None:
        """Note the losses on the device; they are fetched once an epoch. Of a step in parts, the last one tells."""
        if (index + 1) % task.parts:
            return
        missing = torch.full_like(outputs["loss"], torch.nan)
        self._pending.append(torch.stack([outputs.get(part, missing).detach() for part in self.PARTS]))
        stages, epoch = task.training_settings.stages, task.epoch_after(index)
        _append(
            self.steps,
            epoch=task.epoch_after(index + 1),
            physics_weight=physics_weight(stages, epoch),
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            stage=stage_at(stages, epoch)[0],
        )

    def on_validation_end(self, trainer: Trainer, task: GroupTask) -> None:
        """Note the measures of this validation."""
        measures = {k.partition("/")[2]: float(v) for k, v in trainer.callback_metrics.items() if "validation/" in k}
        measures.pop("error")  # it is one of the others
        _append(self.validations, epoch=trainer.current_epoch + 1, **measures)

    def state_dict(self) -> dict:
        self._fetch()
        return {"steps": self.steps, "validations": self.validations}

    def load_state_dict(self, state: dict) -> None:
        self.steps, self.validations = state["steps"], state["validations"]

    def columns(self) -> dict[str, list[float]]:
        """Every step so far."""
        self._fetch()
        return self.steps

    def _fetch(self) -> None:
        if self._pending:
            rows = torch.stack(self._pending).tolist()
            self._pending = []
            for row in rows:
                _append(self.steps, **dict(zip(self.PARTS, row, strict=True)))


def thin(columns: dict[str, list[float]], most: int = 400) -> dict[str, list[float | None]]:
    """Columns averaged over runs of steps, at most ``most`` rows; None where a loss was not computed."""
    length = len(columns.get("epoch", []))
    run = max(1, -(-length // most))
    return {
        name: [_mean(column[first : first + run]) for first in range(0, length, run)]
        for name, column in columns.items()
    }


def by_stage(columns: dict[str, list[float]]) -> list[dict[str, float | None]]:
    """Each stage's mean losses over its first and its last tenth."""
    stages = np.asarray(columns.get("stage", []), int)
    summary = []
    for stage in np.unique(stages):
        steps = np.flatnonzero(stages == stage)
        tenth = max(1, len(steps) // 10)
        row = {"stage": int(stage), "steps": len(steps)}
        for part in LossHistory.PARTS:
            row[f"{part}_first"] = _mean([columns[part][i] for i in steps[:tenth]])
            row[f"{part}_last"] = _mean([columns[part][i] for i in steps[-tenth:]])
        summary.append(row)
    return summary


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _append(columns: dict[str, list[float]], **row: float) -> None:
    for name, value in row.items():
        columns.setdefault(name, []).append(value)
