"""What a user sees while an engine is built (a line why, and a bar), and when work is interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fcnseg.cli.console import Errors, err

if TYPE_CHECKING:
    from rich.progress import Progress

    from fcnseg.engine.building import BuildHooks
    from fcnseg.types import EngineInfo


def say_interrupted(error: KeyboardInterrupt, line: str) -> None:
    """One line for an interruption: the innermost that knows what it means says it."""
    if error.args:
        return
    error.args = (line,)
    if Errors.as_json:
        event = {"time": round(time.time(), 3), "event": "end", "exit_code": 130, "interrupted": True}
        err().print(json.dumps(event), markup=False)
    else:
        err().print(f"fcnseg: interrupted: {line}")


@contextmanager
def interruptible(line: str = "the same command starts again") -> Iterator[None]:
    """Says in one line that Ctrl-C ended the command."""
    try:
        yield
    except KeyboardInterrupt as error:
        say_interrupted(error, line)
        raise


@contextmanager
def build_display(quiet: bool) -> Iterator[BuildHooks]:
    """Hooks that draw a progress bar on standard error from the first step of a build until the block ends. An
    interruption is one line."""
    from fcnseg.engine.building import BuildHooks

    bar: Progress | None = None
    begun = False

    def on_progress(phase: str, fraction: float) -> None:
        nonlocal bar, begun
        begun = True
        if quiet:
            return
        if bar is None:
            bar = _bar()
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


def _bar() -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    )


def described(info: EngineInfo) -> str:
    """One line: what runs, why, and how far it agrees with the fp32 network."""
    where = info.backend if info.device in info.backend else f"{info.backend}, {info.device}"
    line = f"{info.model} on {where}, {info.precision} ({info.choice})"
    found = info.verification
    if found is None:
        return line if info.backend == "torch" else f"{line}: not verified"
    return f"{line}: {found.agreement:.2%} of pixels labelled as by the fp32 network"
