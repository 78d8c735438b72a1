"""Cores and memory of a process in control groups: made up ones of either version, and real ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fcnseg.engine.machine import inspect_machine
from fcnseg.workers import limits
from tests.control_groups import real_group, run_inside

GIB = 2**30


class Groups:
    """Control groups in a folder, as the system would show them to this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own: list[str] = []
        self.mounts: list[str] = []

    def mount(self, controllers: str, at: str, root: str = "/") -> None:
        kind, options = ("cgroup", f"rw,{controllers}") if controllers else ("cgroup2", "rw,nsdelegate")
        (self.folder / at).mkdir(parents=True, exist_ok=True)
        self.mounts.append(f"30 24 0:27 {root} {self.folder / at} rw,nosuid shared:4 - {kind} {kind} {options}")

    def member(self, controllers: str, path: str) -> None:
        self.own.append(f"1:{controllers}:{path}")

    def write(self, **files: str) -> None:
        (self.folder / "own").write_text("\n".join(self.own))
        (self.folder / "mounts").write_text("\n".join(self.mounts))
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Groups:
    monkeypatch.setattr(limits, "CGROUP", tmp_path)
    monkeypatch.setattr(limits, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(limits, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    return Groups(tmp_path)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({}, 64),
    ],
)
def test_cores_of_a_container_that_shows_its_own_group_as_the_root(
    groups: Groups, files: dict[str, str], cores: int
) -> None:
    groups.write(**files)
    assert limits.usable_cores() == cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"v2/a/b/cpu.max": "300000 100000"}, 3),
        ({"v2/a/cpu.max": "300000 100000", "v2/a/b/cpu.max": "max 100000"}, 3),
        ({"v2/a/cpu.max": "150000 100000", "v2/a/b/cpu.max": "400000 100000"}, 2),
        ({"v2/other/cpu.max": "100000 100000"}, 64),
    ],
    ids=["own", "above", "smallest", "not ours"],
)
def test_cores_of_nested_groups(groups: Groups, files: dict[str, str], cores: int) -> None:
    groups.mount("", "v2")
    groups.member("", "/a/b")
    groups.write(**files)
    assert limits.usable_cores() == cores


def test_cores_of_nested_groups_of_version_1(groups: Groups) -> None:
    groups.mount("cpu,cpuacct", "cpu,cpuacct")
    groups.mount("memory", "memory")
    groups.member("cpu,cpuacct", "/slurm/job1")
    groups.member("memory", "/elsewhere")
    quota = {"cpu,cpuacct/slurm/cpu.cfs_quota_us": "250000", "cpu,cpuacct/slurm/cpu.cfs_period_us": "100000"}
    unlimited = {"cpu,cpuacct/slurm/job1/cpu.cfs_quota_us": "-1", "memory/elsewhere/memory.limit_in_bytes": f"{GIB}"}
    groups.write(**quota, **unlimited)
    assert (limits.usable_cores(), limits.memory_limit_bytes()) == (3, GIB)


def test_a_group_inside_a_container_that_is_not_the_root(groups: Groups) -> None:
    """Without a namespace of its own, a container sees its group's whole path, but the group's folder as the root."""
    groups.mount("cpu", "cpu", root="/docker/1234")
    groups.member("cpu", "/docker/1234/inner")
    groups.write(**{"cpu/inner/cpu.cfs_quota_us": "100000", "cpu/inner/cpu.cfs_period_us": "50000"})
    assert limits.usable_cores() == 2


def test_memory_is_that_of_the_smallest_group_around(groups: Groups) -> None:
    groups.mount("", "v2")
    groups.member("", "/a/b")
    groups.write(
        **{
            "v2/a/memory.max": f"{2 * GIB}",
            "v2/a/memory.current": f"{GIB}",
            "v2/a/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
            "v2/a/b/memory.max": "max",
            "v2/a/b/memory.current": "77",
        }
    )
    assert limits.memory_limit_bytes() == 2 * GIB
    assert limits.free_memory_bytes() == GIB + GIB // 4
    machine = inspect_machine()
    assert (machine.cores, machine.memory_bytes, machine.free_memory_bytes) == (64, 2 * GIB, GIB + GIB // 4)


def test_what_cannot_be_read_limits_nothing(groups: Groups) -> None:
    groups.own, groups.mounts = ["", "nonsense", "0::/../.."], ["", "1 2 3", "a b c d e f - cgroup2"]
    groups.write(**{"cpu.max": "nonsense", "memory.max": ""})
    assert limits.usable_cores() == 64
    assert limits.memory_limit_bytes() == limits.UNLIMITED


# ---------------------------------------------------------------------- real groups


def inside(group: Path, script: str) -> str:
    """The output of a script that runs in a group."""
    done = run_inside(group, [sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(limits.affine_cores() < 2, reason="a share of one core is no limit")
def test_cores_in_a_real_group() -> None:
    with real_group("cpu", cpu__cfs_period_us="100000", cpu__cfs_quota_us="90000") as group:
        nested = group / "nested"
        nested.mkdir()
        try:
            for place in (group, nested):
                assert inside(place, "from fcnseg.workers.limits import usable_cores; print(usable_cores())") == "1"
            script = "import torch\nfrom fcnseg.engine.runtimes import pytorch\npytorch.limit_threads()\n"
            assert inside(group, script + "print(torch.get_num_threads())") == "1"
        finally:
            nested.rmdir()


def test_memory_in_a_real_group() -> None:
    with real_group("memory", memory__limit_in_bytes=str(GIB)) as group:
        script = "from fcnseg.workers.limits import *; print(memory_limit_bytes(), free_memory_bytes())"
        limit, free = map(int, inside(group, script).split())
    assert limit == GIB
    assert 0 < free <= GIB


def test_threads_in_a_real_group() -> None:
    with real_group("pids", pids__max="5") as group:
        script = "from fcnseg.workers.limits import *; print(startable_threads(3), startable_threads(9), end=' ')\n"
        script += "print(numeric_threads(), startable_threads(9))"
        assert inside(group, script) == "3 4 1 4"
