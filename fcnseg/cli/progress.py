"""Progress bars, all drawn on standard error, and the line that an interrupted command ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fcnseg.cli.console import Errors, err
from fcnseg.cli.standard_streams import log_event
from fcnseg.engine.options import BuildHooks
from fcnseg.workers.limits import startable_threads

if TYPE_CHECKING:
    from rich.progress import Progress

    from fcnseg.types import EngineInfo


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
def build_display(quiet: bool) -> Iterator[BuildHooks]:
    """Yield callbacks that draw a bar from the first step of a build until the block ends.

    An interruption is one line.
    """
    bar: Progress | None = None
    begun = False

    def on_progress(phase: str, fraction: float) -> None:
        nonlocal bar, begun
        begun = True
        if quiet:
            return
        if bar is None:
            bar = progress_bar("{task.description}", "bar", "percent", "elapsed", "ETA", "remaining", transient=True)
            bar.start()
            bar.add_task(phase, total=1.0)
        bar.update(bar.task_ids[0], description=phase, completed=fraction)

    def on_note(line: str) -> None:
        if not quiet:
            err().print(line, markup=False)

    try:
        yield BuildHooks(on_note, on_progress)
    except KeyboardInterrupt as error:
        what = "the engine is not built, and nothing of it is left" if begun else "the same command starts again"
        say_interrupted(error, what)
        raise
    finally:
        if bar is not None:
            bar.stop()


@contextmanager
def counted_progress(description: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Draw a bar over items until the block ends. Yields `update(done, total, description=None)`.

    Nothing is drawn where standard error is no terminal.
    """
    with progress_bar(
        "{task.description}", "bar", "count", "ETA", "remaining", transient=True, disable=quiet or not err().is_terminal
    ) as bar:
        task = bar.add_task(description, total=None)

        def update(done: int, total: int | None, description: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=description)

        yield update


def bytes_progress() -> Progress:
    """Return a bar over bytes, with their rate and the remaining time."""
    return progress_bar("{task.description}", "bar", "bytes", "rate", "remaining")


def progress_bar(*columns: str, transient: bool = False, disable: bool = False) -> Progress:
    """Return a progress display: a context manager to add tasks to.

    A column is one of the names below, or a text with fields of the task such as "{task.description}".
    """
    from rich import progress as rich

    named: dict[str, Callable[[], rich.ProgressColumn]] = {
        "bar": rich.BarColumn,
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


def described(info: EngineInfo) -> str:
    """Return one line about an engine: what runs, why, and how far it agrees with the fp32 network."""
    where = info.backend if info.device in info.backend else f"{info.backend}, {info.device}"
    line = f"{info.model} on {where}, {info.precision} ({info.choice})"
    found = info.verification
    if found is None:
        return line if info.backend == "torch" else f"{line}: not verified"
    return f"{line}: {found.agreement:.2%} of pixels labelled as by the fp32 network"
