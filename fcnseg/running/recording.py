"""Recording: inputs that ended, in groups, so that the ledger commits seldom."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

from fcnseg.types import Settled

COMMIT_SECONDS = 0.1
"""The longest time that a finished image waits for others to be recorded with."""

COMMIT_IMAGES = 64


def groups(ended: queue.SimpleQueue[Settled | None]) -> Iterator[list[Settled]]:
    """Yield inputs in groups until a None comes, each group soon after its first input."""
    last = False
    while not last:
        group: list[Settled] = []
        deadline = time.monotonic() + COMMIT_SECONDS
        while len(group) < COMMIT_IMAGES and not last:
            try:
                settled = ended.get(timeout=max(0.0, deadline - time.monotonic()) if group else None)
            except queue.Empty:
                break
            if settled is None:
                last = True
            else:
                group.append(settled)
        if group:
            yield group
