"""One stage in the folder of its training: rows of the log, validations, checkpoints."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcnseg.errors import DivergedError, TrainingError
from fcnseg.scoring import measures
from fcnseg.scoring.confusion import Counts
from fcnseg.scoring.measures import Tally
from fcnseg.training.export import at_step, write_model
from fcnseg.training.plan import MEASURES, Figures, TrainHooks, TrainPlan
from fcnseg.training.readers import ReadingStoppedError
from fcnseg.training.records import RunFolder
from fcnseg.training.report import ReportContent, read_log, write_training_report
from fcnseg.training.trainer import StepResult, Trainer
from fcnseg.training.validation import Validation

REPORT_SECONDS = 120.0
"""Time between two reports while the training is at work."""

FAR_FROM_CHANCE = 100.0
"""A checkpoint whose cross-entropy is so many times that of guessing is not gone on from after a training diverged."""


@dataclass
class StageRun:
    """A stage with its log, validations and checkpoints.

    `checkpoint` is what it saves beside the trainer's state: the stage, the network it began with, the best validations
    of the training and of the stage, the class weights, the losses that are not in the log yet, and the cross-entropy
    when it was saved.
    """

    plan: TrainPlan
    folder: RunFolder
    hooks: TrainHooks
    trainer: Trainer
    number: int
    checkpoint: dict[str, Any]
    settings: Sequence[str] = ()
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.validations: dict[str, Validation] = {}
        self.reported_at = time.monotonic()
        self.saved_step = self.trainer.step if self.checkpoint["trainer"] is not None else None

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
        """Train to the end of the stage; return False if it was stopped before.

        Raises DivergedError with what helps, after a state to go on from has been saved.
        """
        trainer = self.trainer
        if trainer.ranks.is_first:
            self.folder.open_log(self.number, trainer.step)
        finished = self._run()
        if not finished or self.number == len(self.plan.strides) - 1:
            self.report("finished" if finished else "stopped")
        return finished

    def _run(self) -> bool:
        trainer = self.trainer
        try:
            if self.checkpoint.pop("validation_due", False):
                self._validate()
            stopped = any(map(self._after, self._steps()))
        except ReadingStoppedError:
            if trainer.ranks.world_size > 1:
                raise
            self._save(validation_due=True)
            return False
        except DivergedError as error:
            self.report(f"ended: {error}")
            raise DivergedError(f"{error}; {self._way_out()}") from error
        if not stopped and trainer.step < trainer.steps and not self._is_exhausted:  # while images were read
            self._save()
            return False
        return not stopped

    def report(self, state: str) -> None:
        """Write the report of the training so far."""
        self.reported_at = time.monotonic()
        if self.trainer.ranks.is_first:
            best = f"; the best validation is after {self.checkpoint['best_at']}" if self.checkpoint["best_at"] else ""
            summary = f"{state[0].upper()}{state[1:]}, at {at_step(self.trainer)}{best}"
            content = ReportContent(read_log(self.folder.log), self.validations, self.settings, summary)
            write_training_report(self.plan, content)

    def _way_out(self) -> str:
        """Return what helps after the training diverged; put the checkpoint back to where it can go on."""
        trainer = self.trainer
        chance = sum(math.log(max(2, space.classes)) for space in trainer.spaces.values())
        again = self.saved_step == trainer.step and self.folder.divergence.get("step") == trainer.step
        loss = self.checkpoint.get("saved_loss")
        usable = self.saved_step is not None and loss is not None and loss <= FAR_FROM_CHANCE * chance and not again
        if self.trainer.ranks.is_first:
            if not usable and self.folder.checkpoint.exists():
                self.folder.save({**self.checkpoint, "stage": self.number, "trainer": None, "losses": []})
            self.folder.note_divergence({"stage": self.number, "step": self.trainer.step, "lr": self.plan.preset.lr})
        then = f"goes on from step {self.saved_step}" if usable else "begins the stage anew"
        precision = " or --precision fp32" if self.trainer.gradient.bf16 else ""
        return f"give a lower --lr than {self.plan.preset.lr:g}{precision}: with it the same command {then}"

    @property
    def _is_exhausted(self) -> bool:
        """True if so many validations as the plan allows were not better than the best of the stage."""
        return bool(0 < self.plan.patience <= self.checkpoint["validations_since_best"])

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
        elif done:
            self.trainer.check()
        return stop

    def _steps(self) -> Iterator[StepResult]:
        """Yield the remaining steps, as far as patience reaches; errors also name the checkpoint."""
        steps = self.trainer.run()
        try:
            while not self._is_exhausted and (result := next(steps, None)):
                yield result
        except DivergedError:
            raise
        except TrainingError as error:
            saved = f"; {self.folder.checkpoint} is of before; the same command goes on from there"
            raise TrainingError(f"{error}{saved if self.folder.checkpoint.exists() else ''}") from error
        if self._is_exhausted:
            self.hooks.on_note(
                f"{self.plan.patience} validations without a better one: the stage ends after step {self.trainer.step}"
            )

    def _log(self, values: Mapping[str, float]) -> None:
        if self.trainer.ranks.is_first:
            self.folder.write(self.number, self.trainer.step, values)

    def _validate(self) -> None:
        self.validations = by_head = self.trainer.validate(self.plan.validation, self._on_validated)
        self.checkpoint["figures"] = {
            head: {**figures_of(of.counts), "loss": of.loss, **class_ius(of.counts, self.trainer.spaces[head].names)}
            for head, of in by_head.items()
        }
        first = next(iter(self.figures.values()))
        classes = class_columns(self.figures)
        measures = {name: first[name] for name in MEASURES}
        self._log({"epoch": self.trainer.epoch, **measures, "validation_loss": first["loss"], **classes})
        value = first[self.plan.best_by] * (-1 if self.plan.best_by == "loss" else 1)
        if value > self.checkpoint["stage_best"]:
            self.checkpoint |= {"stage_best": value, "validations_since_best": 0}
        else:
            self.checkpoint["validations_since_best"] += 1
        best = value > self.checkpoint["best"]
        if best:
            self.checkpoint |= {"best": value, "best_at": at_step(self.trainer)}
            if self.trainer.ranks.is_first:
                write_model(self.plan, self.trainer, "best", self.figures)
        self.hooks.on_figures(self.figures, best)
        if time.monotonic() - self.reported_at > REPORT_SECONDS:
            self.report("at work")

    def _on_validated(self, done: int) -> None:
        """Report the images done. Raises ReadingStoppedError on a request to stop: the validation is made up later."""
        images = len(self.plan.validation)
        self.hooks.on_pass("validating", done, images)
        if self.trainer.ranks.world_size == 1 and done < images and self.hooks.stop():
            raise ReadingStoppedError

    def _save(self, **more: bool) -> None:
        """Write a checkpoint. Raises DivergedError if its numbers are not finite."""
        trainer = self.trainer
        self.checkpoint["saved_loss"] = trainer.check()
        if trainer.ranks.is_first:
            self.folder.save({**self.checkpoint, "stage": self.number, "trainer": trainer.state(), **more})
        self.saved_at, self.saved_step = time.monotonic(), trainer.step


def figures_of(counts: Counts) -> dict[str, float]:
    """Return the paper's MEASURES of a confusion matrix K x K, shares of 1."""
    tally = Tally.of(counts)
    return {name: float(getattr(measures, name)(tally)) for name in MEASURES}


def class_ius(counts: Counts, names: Sequence[str]) -> dict[str, float]:
    """Return the IoU of each class, a share of 1, by `iu/NAME`; NaN for a class that does not occur."""
    return {f"iu/{name}": float(iu) for name, iu in zip(names, measures.class_iu(Tally.of(counts)), strict=True)}


def class_columns(figures: Mapping[str, Figures]) -> dict[str, float]:
    """Return the IoU of the classes of all heads, by the names of their columns in `log.csv`."""
    return {
        f"iu/{head}/{name.removeprefix('iu/')}" if len(figures) > 1 else name: value
        for head, values in figures.items()
        for name, value in values.items()
        if name.startswith("iu/")
    }
