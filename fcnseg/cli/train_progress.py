"""The progress of `fcnseg train` on standard error, and its end on Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fcnseg.cli.console import err, shown
from fcnseg.cli.progress import progress_bar
from fcnseg.training.plan import Figures, StageStart, TrainHooks
from fcnseg.training.trainer import StepResult
from fcnseg.workers.signals import SYSTEM_STOPS, handling

SAME_INTERRUPT_SECONDS = 1.0
"""Signals within this time are one: both the terminal and torchrun pass Ctrl-C on."""


@dataclass
class StopRequest:
    """The user's request to stop, and the callback that acknowledges it."""

    requested: bool = False
    acknowledge: Callable[[], None] = lambda: None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or its like into a request to stop after the current step, a second into an interrupt."""
    stop, requested_at = StopRequest(), 0.0

    def on_signal(*_: object) -> None:
        nonlocal requested_at
        if not stop.requested:
            stop.requested, requested_at = True, time.monotonic()
            stop.acknowledge()
        elif time.monotonic() > requested_at + SAME_INTERRUPT_SECONDS:
            raise KeyboardInterrupt

    with handling((signal.SIGINT, *SYSTEM_STOPS), on_signal):
        yield stop


@contextmanager
def train_progress(quiet: bool, stop: StopRequest) -> Iterator[TrainHooks]:
    """Draw a bar of the stage's steps, and print a line for each stage and validation, until the block ends.

    Only the lines are printed where standard error is no terminal.
    """
    display = _TrainProgress(quiet, stop)
    stop.acknowledge = display.on_stop
    with display.bar:
        yield TrainHooks(
            display.on_stage,
            display.on_step,
            display.on_pass,
            display.on_warning,
            display.on_figures,
            lambda: stop.requested,
        )


class _TrainProgress:
    """One bar for the steps of a stage, one for passes over images between them."""

    def __init__(self, quiet: bool, stop: StopRequest) -> None:
        self.console, self.quiet, self.stop = err(), quiet, stop
        self.bar = progress_bar(
            "{task.description}",
            "bar",
            "{task.completed}/{task.total} {task.fields[unit]}",
            "{task.fields[speed]}",
            "elapsed",
            "remaining",
            disable=quiet or not self.console.is_terminal,
        )
        self.steps = self.bar.add_task("", total=None, speed="", unit="steps", visible=False)
        self.images = self.bar.add_task("", total=None, speed="", unit="images", visible=False)
        self.stage: StageStart | None = None
        self.started_at, self.step, self.in_pass = 0.0, 0, False

    def on_stop(self) -> None:
        self.bar.update(self.steps, description="stopping after this step (Ctrl-C again: at once)")

    def on_stage(self, stage: StageStart) -> None:
        self.stage, self.started_at = stage, time.monotonic()
        name = f"{stage.stride}s"
        self.bar.reset(
            self.steps, total=stage.steps, completed=stage.step, description=name, visible=True, unit="steps", speed=""
        )
        if self.quiet:
            return
        origin = f"goes on after step {stage.step}" if stage.step else f"begins with {stage.source}"
        self.console.print(f"stage {name} {origin}: {stage.steps} steps over {stage.images} images", markup=False)
        if stage.transfer and stage.transfer.initialised:
            layers = [name for name in stage.transfer.initialised if name.endswith(".weight")]
            self.console.print(f"  initialised anew: {', '.join(layers)}")

    def on_step(self, result: StepResult) -> None:
        assert self.stage is not None
        self.step = result.step
        seconds = max(time.monotonic() - self.started_at, 1e-9)
        speed = (self.step - self.stage.step) * self.stage.batch_size / seconds
        self.bar.update(self.steps, completed=self.step, speed=f"{speed:.1f} images/s  loss {result.loss:.4g}")

    def on_pass(self, what: str, done: int, total: int) -> None:
        if self.stage is None and self.stop.requested:
            raise KeyboardInterrupt  # before the first stage there is nothing to save
        if not self.in_pass:
            self.bar.reset(self.images, total=total, description=what, unit="images", speed="")
            if self.stage is None and not self.quiet:
                self.console.print(f"{what}: {total}")
        self.in_pass = done < total
        self.bar.update(self.images, completed=done, visible=self.in_pass)

    def on_warning(self, warning: str) -> None:
        if not self.quiet:
            self.console.print(f"fcnseg: warning: {shown(warning)}", markup=False)

    def on_figures(self, figures: Mapping[str, Figures], best: bool) -> None:
        stage = self.stage
        if self.quiet or stage is None:
            return
        seconds_per_step = (time.monotonic() - self.started_at) / max(self.step - stage.step, 1)
        minutes = seconds_per_step * (stage.steps - self.step) / 60
        eta = "" if self.console.is_terminal else f"  step {self.step} of {stage.steps}, {minutes:.1f} min left"
        for head, values in figures.items():
            of_head = f" of {head}" if len(figures) > 1 else ""
            self.console.print(
                f"{stage.stride}s epoch {self.step * stage.batch_size / stage.images:6.1f}{of_head}: "
                f"mean IoU {100 * values['mean_iu']:5.2f} %, pixel accuracy {100 * values['pixel_accuracy']:5.2f} %"
                f"{'  (best)' if best else ''}{eta}"
            )
