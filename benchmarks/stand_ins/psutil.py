"""The memory of a Linux machine and of a process, in bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """The machine's memory."""

    total: int
    available: int


class ProcessMemory(NamedTuple):
    """A process's resident memory."""

    rss: int


class Process:
    """The process that asks."""

    def memory_info(self) -> ProcessMemory:
        """Return what it holds now."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return ProcessMemory(pages * os.sysconf("SC_PAGE_SIZE"))


def virtual_memory() -> Memory:
    """Return the machine's memory."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kibibytes = {line[0]: int(line[1]) for line in lines}
    return Memory(1024 * kibibytes["MemTotal:"], 1024 * kibibytes["MemAvailable:"])
