"""Real control groups for tests, where this machine lets them be made."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fcnseg.workers import limits


@contextmanager
def real_group(controller: str, **values: str) -> Iterator[Path]:
    """A group of version 1 with limits (`__` for a dot in a file's name); skips where none can be made."""
    for _, mount in limits._mounts(controller):
        group = mount / f"fcnseg-test-{os.getpid()}"
        break
    else:
        pytest.skip(f"no control groups of version 1 for {controller}")
    try:
        group.mkdir()
        for name, value in values.items():
            (group / name.replace("__", ".")).write_text(value)
    except OSError:
        pytest.skip("control groups cannot be made here")
    try:
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Remove a group when its last process has ended."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def run_inside(group: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a group."""
    enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    words = ["sh", "-c", enter, "sh", *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
