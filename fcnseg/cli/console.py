"""The consoles of the command line: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from fcnseg.cli.shown import shown

__all__ = ["Errors", "err", "out", "shown"]

if TYPE_CHECKING:
    from rich.console import Console


class Errors:
    """The form of the line that a command dies with: `as_json` if its logs are JSON."""

    as_json = False


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
