"""The consoles of the command line: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Errors:
    """The form of the line that a command dies with: `as_json` if its logs are JSON."""

    as_json = False


@cache
def out() -> Console:
    """Return the console of standard output, for results."""
    from rich.console import Console

    return Console(
        soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200
    )  # tables stay whole


@cache
def err() -> Console:
    """Return the console of standard error, for progress, notes and errors."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def shown(name: str) -> str:
    """Return a file name fit for a terminal: bytes that are no text, and control characters, are escaped."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
