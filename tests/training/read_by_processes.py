"""Functions that processes call in tests: an ordinary one, and those that end their process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fcnseg.errors import SourceError


def doubled(item: int) -> int:
    if item < 0:
        raise SourceError(f"{item}.png is damaged; replace it")
    return 2 * item


def dies_once(folder: Path, number: int, by: signal.Signals, item: int) -> int:
    """Ends its process at the items of that number and beyond, each item in one process only."""
    if item >= number:
        try:
            (folder / str(item)).touch(exist_ok=False)
        except FileExistsError:
            return item
        os.kill(os.getpid(), by)
    return item


def segfaults(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return item
