"""The progress of `fcnseg train` on standard error, and its end on Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from fcnseg.cli.console import Errors, err, say, shown
from fcnseg.cli.progress import EVENT_SECONDS, PLAIN_SECONDS, progress_bar
from fcnseg.cli.standard_streams import log_event
from fcnseg.cli.wording import duration
from fcnseg.training.plan import Figures, StageStart, TrainHooks
from fcnseg.training.trainer import StepResult
from fcnseg.workers.signals import SYSTEM_STOPS, handling

SAME_INTERRUPT_SECONDS = 1.0
"""Signals within this time are one: both the terminal and torchrun pass Ctrl-C on."""


@dataclass
class StopRequest:
    """The user's request to stop, and the callback that acknowledges it.

    While the training is not `resumable`, before its first stage, there is nothing to end properly.
    """

    requested: bool = False
    resumable: bool = False
    acknowledge: Callable[[], None] = lambda: None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or its like into a request to stop after the current step, a second into an interrupt.

    The first one interrupts too before the training is resumable.
    """
    stop, requested_at = StopRequest(), 0.0
    is_shared = int(os.environ.get("WORLD_SIZE", "1")) > 1  # by processes that must end the same step

    def on_signal(*_: object) -> None:
        nonlocal requested_at
        if not stop.resumable and not is_shared:
            raise KeyboardInterrupt
        if not stop.requested:
            stop.requested, requested_at = True, time.monotonic()
            stop.acknowledge()
        elif time.monotonic() > requested_at + SAME_INTERRUPT_SECONDS:
            raise KeyboardInterrupt

    with handling((signal.SIGINT, *SYSTEM_STOPS), on_signal):
        yield stop


@contextmanager
def train_progress(quiet: bool, stop: StopRequest, verbose: int = 0) -> Iterator[TrainHooks]:
    """Draw a bar of the stage's steps, and print a line for each stage and validation, until the block ends.

    Where standard error is no terminal a line is printed now and then instead of the bar; `--json-logs` has events.
    """
    display = _JsonTrainProgress(stop) if Errors.as_json else _TrainProgress(quiet, stop, verbose)
    stop.acknowledge = display.on_stop
    with display.bar:
        yield TrainHooks(
            on_stage=display.on_stage,
            on_step=display.on_step,
            on_pass=display.on_pass,
            on_warning=display.on_warning,
            on_note=display.on_note,
            on_figures=display.on_figures,
            stop=lambda: stop.requested,
        )


WORST_CLASSES = 5
"""Classes of lowest IoU that a validation names, unless -v asks for all."""


def _class_line(values: Figures, count: int) -> str:
    """Return the classes and their IoU in percent, the worst first: so many, or all if 0."""
    known = sorted((value, name.removeprefix("iu/")) for name, value in values.items() if name.startswith("iu/"))
    known = [(value, name) for value, name in known if value == value]
    more = f" (the lowest of {len(known)})" if 0 < count < len(known) else ""
    return ", ".join(f"{shown(name)} {100 * value:.1f}" for value, name in known[: count or None]) + more


class _TrainProgress:
    """One bar for the steps of a stage, one for passes over images between them."""

    def __init__(self, quiet: bool, stop: StopRequest, verbose: int = 0) -> None:
        self.console, self.quiet, self.stop, self.verbose = err(), quiet, stop, verbose
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
        self.started_at, self.step, self.in_pass, self.loss = 0.0, 0, False, 0.0
        self.printed_at = time.monotonic()

    def on_stop(self) -> None:
        self.bar.update(self.steps, description="stopping after this step (Ctrl-C again: at once)")

    def on_stage(self, stage: StageStart) -> None:
        self.stop.resumable = True
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
        if self.verbose and stage.transfer:
            layers = [name for name in stage.transfer.copied if name.endswith(".weight")]
            self.console.print(f"  copied: {', '.join(layers) or 'nothing'}", markup=False)

    def on_step(self, result: StepResult) -> None:
        assert self.stage is not None
        self.step = result.step
        seconds = max(time.monotonic() - self.started_at, 1e-9)
        speed = (self.step - self.stage.step) * self.stage.batch_size / seconds
        self.bar.update(self.steps, completed=self.step, speed=f"{speed:.1f} images/s  loss {result.loss:.4g}")
        left = duration((result.steps - self.step) * self.stage.batch_size / speed) if speed else "?"
        self.loss = result.loss
        if result.step == result.steps:
            self.printed_at = float("-inf")  # the last one is said however short the stage is
        self.say_now_and_then(
            f"{self.stage.stride}s step {self.step:,} of {result.steps:,}, loss {result.loss:.4g}, lr {result.lr:.3g}, "
            f"{speed:.1f} images/s, {left} left"
        )

    def say_now_and_then(self, line: str) -> None:
        """Print a line where no bar is drawn, and with -v, at most every ten seconds."""
        shown = self.verbose or not self.console.is_terminal
        if not self.quiet and shown and time.monotonic() > self.printed_at + PLAIN_SECONDS:
            self.printed_at = time.monotonic()
            self.console.print(line, markup=False)

    def on_pass(self, what: str, done: int, total: int) -> None:
        if self.stage is None and self.stop.requested:
            raise KeyboardInterrupt  # before the first stage there is nothing to save
        if not self.in_pass:
            self.bar.reset(self.images, total=total, description=what, unit="images", speed="")
            if self.stage is None and not self.quiet:
                self.console.print(f"{what}: {total}")
        elif done < total:
            self.say_now_and_then(f"{what}: {done:,} of {total:,}")
        self.in_pass = done < total
        self.bar.update(self.images, completed=done, visible=self.in_pass)

    def on_warning(self, warning: str) -> None:
        if not self.quiet:
            self.console.print(f"fcnseg: warning: {shown(warning)}", markup=False)

    def on_note(self, note: str) -> None:
        if not self.quiet:
            self.console.print(shown(note), markup=False)

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
                f"mean IoU {100 * values['mean_iu']:5.2f} %, pixel accuracy {100 * values['pixel_accuracy']:5.2f} %, "
                f"loss {values['loss']:.4g} (of the last step {self.loss:.4g}){'  (best)' if best else ''}{eta}"
            )
            self.console.print(f"  IoU, %: {_class_line(values, 0 if self.verbose else WORST_CLASSES)}", markup=False)


class _JsonTrainProgress(_TrainProgress):
    """Logs the events stage, step and progress (at most one a second), and validation."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__(True, stop)
        self.pass_name = ""

    def on_stop(self) -> None:
        say("stopping after this step (Ctrl-C again: at once)")

    def on_stage(self, stage: StageStart) -> None:
        super().on_stage(stage)
        log_event("stage", stride=stage.stride, step=stage.step, steps=stage.steps, source=stage.source)

    def on_step(self, result: StepResult) -> None:
        super().on_step(result)
        if time.monotonic() > self.printed_at + EVENT_SECONDS or result.step == result.steps:
            self.printed_at = time.monotonic()
            log_event("step", **asdict(result))

    def on_pass(self, what: str, done: int, total: int) -> None:
        super().on_pass(what, done, total)
        if time.monotonic() > self.printed_at + EVENT_SECONDS or what != self.pass_name:
            self.printed_at, self.pass_name = time.monotonic(), what
            log_event("progress", phase=what, done=done, total=total)

    def on_note(self, note: str) -> None:
        log_event("note", text=note)

    def on_figures(self, figures: Mapping[str, Figures], best: bool) -> None:
        known = {head: {k: v for k, v in values.items() if v == v} for head, values in figures.items()}
        log_event("validation", step=self.step, figures=known, best=best)
