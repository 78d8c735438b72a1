"""The consoles of the command line: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from fcnseg.cli.shown import shown
from fcnseg.cli.standard_streams import Errors, log_event

__all__ = ["Errors", "err", "out", "say", "say_failed", "shown"]

if TYPE_CHECKING:
    from rich.console import Console

    from fcnseg.types import Failure


@cache
def out() -> Console:
    """Return the console of standard output, for results."""
    from fcnseg.cli.printable_console import PrintableConsole

    return PrintableConsole(
        soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200
    )  # tables stay whole


@cache
def err() -> Console:
    """Return the console of standard error, for progress, notes and errors."""
    from fcnseg.cli.printable_console import PrintableConsole

    return PrintableConsole(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def say(line: str) -> None:
    """Print a remark on standard error, or log it as the event `note`."""
    if Errors.as_json:
        log_event("note", text=line)
    else:
        err().print(line, markup=False)


def say_failed(failure: Failure) -> None:
    """Print an input that failed on standard error, or log it as the event `failed`."""
    if Errors.as_json:
        log_event("failed", key=failure.key, stage=failure.stage, reason=failure.reason)
    else:
        err().print(f"fcnseg: failed: {shown(failure.key)}: {shown(failure.reason)}", markup=False)
