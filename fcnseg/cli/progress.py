"""Progress on standard error: bars in a terminal, elsewhere a line now and then, or events of `--json-logs`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fcnseg.cli.console import Errors, err, say
from fcnseg.cli.standard_streams import log_event
from fcnseg.cli.wording import duration
from fcnseg.engine.options import BuildHooks
from fcnseg.workers.limits import startable_threads

if TYPE_CHECKING:
    from rich.progress import Progress

FIRST_LINE_SECONDS = 1.0
"""The time after which a command without a terminal prints its first line of progress."""

PLAIN_SECONDS = 10.0
"""The time between two lines of progress where there is no terminal."""

EVENT_SECONDS = 1.0
"""The least time between two events about one step."""


def say_interrupted(error: KeyboardInterrupt, line: str) -> None:
    """Print one line for an interruption, unless an inner caller, which knows more, has done so."""
    if error.args:
        return
    error.args = (line,)
    if Errors.as_json:
        log_event("end", exit_code=130, interrupted=True)
    else:
        err().print(f"fcnseg: interrupted: {line}")


@contextmanager
def interruptible(line: str = "the same command starts again") -> Iterator[None]:
    """Print one line if Ctrl-C ends the block."""
    try:
        yield
    except KeyboardInterrupt as error:
        say_interrupted(error, line)
        raise


@contextmanager
def build_display(quiet: bool, verbose: int = 0) -> Iterator[BuildHooks]:
    """Yield callbacks that show a build from its first step until the block ends.

    An interruption is one line.
    """
    columns = "{task.description}", "bar", "percent", "elapsed", "ETA", "remaining"
    display: ProgressDisplay | None = None

    def on_progress(phase: str, fraction: float) -> None:
        nonlocal display
        if display is None:
            display = ProgressDisplay(phase, columns, quiet, verbose, event="building")
            display.__enter__()
        display.update(fraction, 1.0, phase)

    def on_note(line: str) -> None:
        if not quiet:
            say(line)

    try:
        yield BuildHooks(on_note, on_progress)
    except KeyboardInterrupt as error:
        what = "the engine is not built, and nothing of it is left" if display else "the same command starts again"
        say_interrupted(error, what)
        raise
    finally:
        if display is not None:
            display.__exit__(None, None, None)


@contextmanager
def counted_progress(description: str, quiet: bool, verbose: int = 0) -> Iterator[Callable[..., None]]:
    """Show progress over items until the block ends. Yields `update(done, total, description=None)`."""
    columns = "{task.description}", "bar", "count", "elapsed", "ETA", "remaining"
    with ProgressDisplay(description, columns, quiet, verbose) as display:
        yield display.update


@contextmanager
def bytes_progress(description: str, quiet: bool = False, verbose: int = 0) -> Iterator[Callable[..., None]]:
    """Show a transfer with its rate until the block ends. Yields `update(done, total)` in bytes."""
    columns = "{task.description}", "bar", "bytes", "rate", "remaining"
    with ProgressDisplay(description, columns, quiet, verbose, unit=1 << 20, unit_name=" MiB") as display:
        yield display.update


@contextmanager
def busy(description: str, quiet: bool = False, verbose: int = 0) -> Iterator[None]:
    """Show that a step goes on whose length is not known, until the block ends."""
    with ProgressDisplay(description, ("spinner", "{task.description}", "elapsed"), quiet, verbose):
        yield


class ProgressDisplay:
    """The progress of one command, whose steps have a description, and an amount done of a total if that is known.

    With `verbose` every new step is a line with the seconds since the start. `event` names the events of
    `--json-logs`; `unit` and `unit_name` are those of amounts in lines.
    """

    def __init__(
        self,
        description: str,
        columns: tuple[str, ...],
        quiet: bool,
        verbose: int = 0,
        *,
        event: str = "progress",
        unit: int = 1,
        unit_name: str = "",
    ) -> None:
        self._description, self._done = description, 0.0
        self._total: float | None = None
        self._event, self._unit, self._unit_name = event, unit, unit_name
        self._verbose = bool(verbose) and not quiet
        self._has_bar = not quiet and not Errors.as_json and err().is_terminal
        self._has_lines = not quiet and not self._has_bar
        self._bar: Progress | None = progress_bar(*columns, transient=True) if self._has_bar else None
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None
        self._started = time.monotonic()
        self._said_at, self._step_said = self._started + FIRST_LINE_SECONDS - PLAIN_SECONDS, ""

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._bar.add_task(self._description, total=None)
        elif self._has_lines and not Errors.as_json and startable_threads(1):
            self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._ticker.start()
        self._say_step()
        return self

    def update(self, done: float, total: float | None, description: str | None = None) -> None:
        """Take what is done. Any thread may call this."""
        self._done, self._total = done, total
        if description is not None:
            self._description = description
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=self._description)
        self._say_step()
        if self._has_lines:
            self._say_amount()

    def _say_step(self) -> None:
        if not self._verbose or Errors.as_json or self._description == self._step_said:
            return
        self._step_said = self._description
        say(f"{time.monotonic() - self._started:7.1f} s  {self._description}")

    def _say_amount(self) -> None:
        now = time.monotonic()
        if Errors.as_json:
            if now >= self._said_at + EVENT_SECONDS or self._description != self._step_said:
                self._said_at, self._step_said = now, self._description
                self._log()
        elif now >= self._said_at + PLAIN_SECONDS:
            self._said_at = now
            say(self.line())

    def _log(self) -> None:
        if self._event == "building":
            log_event(self._event, phase=self._description, fraction=round(self._done, 3))
        else:
            log_event(self._event, phase=self._description, done=self._done, total=self._total)

    def line(self) -> str:
        """Return the progress as one line."""
        seconds = time.monotonic() - self._started
        if not self._total:
            return f"{self._description}: {duration(seconds)}"
        left = f", {duration(seconds / self._done * (self._total - self._done))} left" if self._done else ""
        if self._event == "building":
            return f"{self._description}: {self._done:.0%}{left}"
        done, total = (f"{round(amount / self._unit):,}" for amount in (self._done, self._total))
        return f"{self._description}: {done} of {total}{self._unit_name}{left}"

    def _tick(self) -> None:
        """Print a line now and then, also while nothing is heard of the work."""
        while not self._ended.wait(FIRST_LINE_SECONDS):
            self._say_amount()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._ticker:
            self._ticker.join()
        if self._bar:
            self._bar.stop()


def progress_bar(*columns: str, transient: bool = False, disable: bool = False) -> Progress:
    """Return a progress display: a context manager to add tasks to.

    A column is one of the names below, or a text with fields of the task such as "{task.description}".
    """
    from rich import progress as rich

    named: dict[str, Callable[[], rich.ProgressColumn]] = {
        "bar": rich.BarColumn,
        "spinner": rich.SpinnerColumn,
        "percent": rich.TaskProgressColumn,
        "count": rich.MofNCompleteColumn,
        "bytes": lambda: rich.DownloadColumn(binary_units=True),
        "rate": rich.TransferSpeedColumn,
        "elapsed": rich.TimeElapsedColumn,
        "remaining": rich.TimeRemainingColumn,
    }
    made = [named[column]() if column in named else rich.TextColumn(column) for column in columns]
    refresh = bool(startable_threads(1))  # by a thread
    return rich.Progress(*made, console=err(), transient=transient, disable=disable, auto_refresh=refresh)
