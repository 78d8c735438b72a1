"""One stage in the folder of its training: rows of the log, validations, checkpoints."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fcnseg.errors import TrainingError
from fcnseg.scoring import measures
from fcnseg.scoring.confusion import Counts
from fcnseg.scoring.measures import Tally
from fcnseg.training.export import write_model
from fcnseg.training.plan import MEASURES, Figures, TrainHooks, TrainPlan
from fcnseg.training.records import RunFolder
from fcnseg.training.trainer import StepResult, Trainer


@dataclass
class StageRun:
    """A stage with its log, validations and checkpoints.

    `checkpoint` is what it saves beside the trainer's state: the stage, the network it began with, the best mean IoU,
    the class weights, and the losses that are not in the log yet.
    """

    plan: TrainPlan
    folder: RunFolder
    hooks: TrainHooks
    trainer: Trainer
    number: int
    checkpoint: dict[str, Any]
    figures: dict[str, Figures] = field(default_factory=dict)
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def validate_steps(self) -> int:
        """Steps between validations."""
        per_epoch = len(self.plan.train) / self.plan.preset.batch_size
        return max(1, round((self.plan.validate_every or max(1.0, self.trainer.steps / per_epoch / 20)) * per_epoch))

    def run(self) -> bool:
        """Train to the end of the stage; return False if it was stopped before."""
        trainer, ranks, losses = self.trainer, self.trainer.ranks, self.checkpoint["losses"]
        if ranks.is_first:
            self.folder.open_log(self.number, trainer.step)
        for result in self._steps():
            done = result.step == result.steps
            losses.append(result.loss)
            if result.step % self.plan.log_every == 0 or done:
                self._log(result.step, {"epoch": result.epoch, "lr": result.lr, "loss": float(np.mean(losses))})
                losses.clear()
            self.hooks.on_step(result)
            validate = result.step % self.validate_steps == 0
            if validate or done:
                self._validate(result)
            stop = ranks.any_rank(self.hooks.stop())
            due = validate or time.monotonic() - self.saved_at >= self.plan.save_every
            if stop or ranks.any_rank(due and not done):
                self._save()
            if stop:
                return False
        if not self.figures:  # it had been stopped right before the end
            self._validate(None)
        return True

    def _steps(self) -> Iterator[StepResult]:
        """Yield the remaining steps; errors also name the checkpoint."""
        try:
            yield from self.trainer.run()
        except TrainingError as error:
            saved = f"; {self.folder.checkpoint} is of before; the same command goes on from there"
            raise TrainingError(f"{error}{saved if self.folder.checkpoint.exists() else ''}") from error

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        if self.trainer.ranks.is_first:
            self.folder.write(self.number, step, values)

    def _validate(self, result: StepResult | None) -> None:
        images = len(self.plan.validation)
        counts = self.trainer.validate(
            self.plan.validation, lambda done: self.hooks.on_pass("validating", done, images)
        )
        self.figures = {head: figures_of(table) for head, table in counts.items()}
        first = next(iter(self.figures.values()))
        best = first["mean_iu"] > self.checkpoint["best"]
        if result is not None:
            self._log(result.step, {"epoch": result.epoch, **first})
        if best:
            self.checkpoint["best"] = first["mean_iu"]
            if self.trainer.ranks.is_first:
                write_model(self.plan, self.trainer, "best", self.figures)
        self.hooks.on_figures(self.figures, best)

    def _save(self) -> None:
        """Write a checkpoint, unless its weights are not finite."""
        trainer = self.trainer
        if not all(bool(torch.isfinite(p).all()) for p in trainer.network.parameters()):
            raise TrainingError(f"the weights are not finite after step {trainer.step}; try a lower --lr")
        if trainer.ranks.is_first:
            self.folder.save({**self.checkpoint, "stage": self.number, "trainer": trainer.state()})
        self.saved_at = time.monotonic()


def figures_of(counts: Counts) -> dict[str, float]:
    """Return the paper's MEASURES of a confusion matrix K x K, shares of 1."""
    tally = Tally.of(counts)
    return {name: float(getattr(measures, name)(tally)) for name in MEASURES}
