"""What a user sees while an engine is built (a line why, and a bar), and when work is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fcnseg.cli.console import err

if TYPE_CHECKING:
    from rich.progress import Progress

    from fcnseg.building import BuildHooks
    from fcnseg.types import EngineInfo


@contextmanager
def interruptible(line: str = "the same command starts again") -> Iterator[None]:
    """Says in one line that Ctrl-C ended the command."""
    try:
        yield
    except KeyboardInterrupt:
        err().print(f"fcnseg: interrupted: {line}")
        raise


@contextmanager
def build_display(quiet: bool) -> Iterator[BuildHooks]:
    """Hooks that draw a progress bar on standard error from the first step of a build until the block ends. An
    interruption is one line."""
    from fcnseg.building import BuildHooks

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
    except KeyboardInterrupt:
        what = "the engine is not built, and nothing of it is left" if begun else "the same command starts again"
        err().print(f"fcnseg: interrupted: {what}")
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
