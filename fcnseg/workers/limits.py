"""The cores, memory and threads that this process may use: its affinity, and the limits of its control groups.

A control group's limit holds for the groups inside it too, so a process is bound by all groups from its own up to the
root. Containers, Kubernetes, Slurm and systemd all limit by control groups.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fcnseg.errors import is_out_of_threads

CGROUP = Path("/sys/fs/cgroup")
"""Where control groups lie if the system does not tell."""

OWN_GROUPS = Path("/proc/self/cgroup")
MOUNTS = Path("/proc/self/mountinfo")

UNLIMITED = 2**63

OTHER_THREADS = 20
"""As many threads as a run has for everything but the engine."""

MEMORY_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The files of a control group's memory limit and usage, by the version of control groups."""


def usable_cores() -> int:
    """Count the cores this process may use: its affinity, and its control groups' share rounded up."""
    share = min(_cpu_shares(), default=math.inf)
    return max(1, min(affine_cores(), math.ceil(share) if share < UNLIMITED else UNLIMITED))


def affine_cores() -> int:
    """Count the cores this process may run on, whatever share of their time it gets."""
    known = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def memory_limit_bytes() -> int:
    """Return the smallest memory limit of this process's control groups, or more than any machine has."""
    limits = [UNLIMITED]
    for folder in _groups("memory"):
        for name, _ in MEMORY_FILES:
            with suppress(OSError, ValueError):  # "max" is no number
                limits.append(int((folder / name).read_text()))
    return min(limits)


def free_memory_bytes() -> int:
    """Return the memory that can still be taken: of this machine, and within the control groups' limits. What these
    keep of files that are not in use counts as free."""
    import psutil  # not for every command

    free: list[int] = [psutil.virtual_memory().available]
    for folder in _groups("memory"):
        for limit_name, usage_name in MEMORY_FILES:
            with suppress(OSError, ValueError):  # "max" is no number
                limit = int((folder / limit_name).read_text())
                free.append(limit - int((folder / usage_name).read_text()) + _file_cache_bytes(folder))
    return max(0, min(free))


def _file_cache_bytes(group: Path) -> int:
    with suppress(OSError, ValueError):
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)
    return 0


def startable_threads(count: int) -> int:
    """Return how many of so many threads the system would let this process start now, by starting them."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(count)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError as error:
        if not is_out_of_threads(error):
            raise
    finally:
        end.set()
        for thread in threads[:started]:
            thread.join()
    return started


def has_threads(count: int) -> bool:
    """Tell whether the system would let this process start so many threads now."""
    return startable_threads(count) == count


def numeric_threads() -> int:
    """Return how many threads a library that computes should use: one a core, or a single one where threads are few.

    OpenMP ends the process if it cannot start one, and other libraries do no better.
    """
    cores = usable_cores()
    return cores if cores == 1 or has_threads(cores + OTHER_THREADS) else 1


def spare_threads() -> None:
    """Have numeric libraries that are loaded later start no threads of their own if the system allows too few."""
    cores = affine_cores()
    # OpenBLAS, of which numpy and scipy have one each, interrupts the process if it cannot start its threads
    if cores > 1 and not has_threads(2 * cores + OTHER_THREADS):
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")


def _cpu_shares() -> Iterator[float]:
    """Yield the limits in cores of all groups around this process: cgroup v2 and v1."""
    for folder in _groups("cpu"):
        with suppress(OSError, ValueError):  # "max" is no number
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            quota_us = int((folder / "cpu.cfs_quota_us").read_text())
            if quota_us > 0:
                yield quota_us / int((folder / "cpu.cfs_period_us").read_text())


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups that may limit by a controller, the innermost first."""
    try:
        memberships = [line.split(":", 2) for line in OWN_GROUPS.read_text().splitlines()]
    except OSError:
        memberships = []
    seen = set()
    for _, controllers, path in (line for line in memberships if len(line) == 3):
        version_2 = not controllers
        if not version_2 and controller not in controllers.split(","):
            continue
        for root, mount in _mounts("" if version_2 else controller):
            inner = path.removeprefix("/" if root == "/" else root).strip("/") if _is_below(path, root) else ""
            parts = [part for part in inner.split("/") if part not in ("", "..")]
            for depth in range(len(parts), -1, -1):
                folder = mount.joinpath(*parts[:depth])
                if folder not in seen:
                    seen.add(folder)
                    yield folder
    for folder in (CGROUP, CGROUP / controller):  # where /proc does not tell; those in a container are the roots
        if folder not in seen:
            yield folder


def _is_below(path: str, root: str) -> bool:
    return root == "/" or path == root or path.startswith(f"{root}/")


def _mounts(controller: str) -> Iterator[tuple[str, Path]]:
    """Yield where the groups of a controller of cgroup v1 (v2 if empty) are mounted: the group that is there, and the
    folder."""
    with suppress(OSError):
        for line in MOUNTS.read_text().splitlines():
            before, _, behind = line.partition(" - ")
            fields, (kind, _, options) = before.split(), [*behind.split(), "", "", ""][:3]
            is_that = controller in options.split(",") if kind == "cgroup" else kind == "cgroup2" and not controller
            if is_that and len(fields) > 4:
                yield fields[3], Path(fields[4].replace("\\040", " "))
