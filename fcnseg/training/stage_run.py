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
from fcnseg.training.readers import ReadingStoppedError
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
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def figures(self) -> dict[str, Figures]:
        """Figures of the last validation by head."""
        figures: dict[str, Figures] = self.checkpoint["figures"]
        return figures

    @property
    def validate_steps(self) -> int:
        """Steps between validations."""
        per_epoch = len(self.plan.train) / self.plan.preset.batch_size
        return max(1, round((self.plan.validate_every or max(1.0, self.trainer.steps / per_epoch / 20)) * per_epoch))

    def run(self) -> bool:
        """Train to the end of the stage; return False if it was stopped before."""
        trainer = self.trainer
        if trainer.ranks.is_first:
            self.folder.open_log(self.number, trainer.step)
        try:
            if self.checkpoint.pop("validation_due", False):
                self._validate()
            stopped = any(self._after(result) for result in self._steps())
        except ReadingStoppedError:
            if trainer.ranks.world_size > 1:
                raise
            self._save(validation_due=True)
            return False
        if not stopped and trainer.step < trainer.steps:  # while images were read
            self._save()
            return False
        return not stopped

    def _after(self, result: StepResult) -> bool:
        """Log, validate and save after a step as they are due; return True if the training is to stop."""
        losses, ranks = self.checkpoint["losses"], self.trainer.ranks
        losses.append(result.loss)
        done = result.step == result.steps
        if result.step % self.plan.log_every == 0 or done:
            self._log({"epoch": result.epoch, "lr": result.lr, "loss": float(np.mean(losses))})
            losses.clear()
        self.hooks.on_step(result)
        validate = result.step % self.validate_steps == 0
        if validate or done:
            self._validate()
        stop = ranks.any_rank(self.hooks.stop())
        due = validate or time.monotonic() - self.saved_at >= self.plan.save_every
        if stop or ranks.any_rank(due and not done):
            self._save()
        return stop

    def _steps(self) -> Iterator[StepResult]:
        """Yield the remaining steps; errors also name the checkpoint."""
        try:
            yield from self.trainer.run()
        except TrainingError as error:
            saved = f"; {self.folder.checkpoint} is of before; the same command goes on from there"
            raise TrainingError(f"{error}{saved if self.folder.checkpoint.exists() else ''}") from error

    def _log(self, values: Mapping[str, float]) -> None:
        if self.trainer.ranks.is_first:
            self.folder.write(self.number, self.trainer.step, values)

    def _validate(self) -> None:
        counts = self.trainer.validate(self.plan.validation, self._on_validated)
        self.checkpoint["figures"] = {head: figures_of(table) for head, table in counts.items()}
        first = next(iter(self.figures.values()))
        best = first["mean_iu"] > self.checkpoint["best"]
        self._log({"epoch": self.trainer.epoch, **first})
        if best:
            self.checkpoint["best"] = first["mean_iu"]
            if self.trainer.ranks.is_first:
                write_model(self.plan, self.trainer, "best", self.figures)
        self.hooks.on_figures(self.figures, best)

    def _on_validated(self, done: int) -> None:
        """Report the images done. Raises ReadingStoppedError on a request to stop: the validation is made up later."""
        images = len(self.plan.validation)
        self.hooks.on_pass("validating", done, images)
        if self.trainer.ranks.world_size == 1 and done < images and self.hooks.stop():
            raise ReadingStoppedError

    def _save(self, **more: bool) -> None:
        """Write a checkpoint, unless its weights are not finite."""
        trainer = self.trainer
        if not all(bool(torch.isfinite(p).all()) for p in trainer.network.parameters()):
            raise TrainingError(f"the weights are not finite after step {trainer.step}; try a lower --lr")
        if trainer.ranks.is_first:
            self.folder.save({**self.checkpoint, "stage": self.number, "trainer": trainer.state(), **more})
        self.saved_at = time.monotonic()


def figures_of(counts: Counts) -> dict[str, float]:
    """Return the paper's MEASURES of a confusion matrix K x K, shares of 1."""
    tally = Tally.of(counts)
    return {name: float(getattr(measures, name)(tally)) for name in MEASURES}
