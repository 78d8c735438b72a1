"""Processes that compare label maps: results, deaths, interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from fcnseg.errors import FcnsegError
from fcnseg.scoring.counting import PairCounts, compare
from fcnseg.scoring.options import ScoreOptions
from fcnseg.scoring.score import plan
from fcnseg.workers.pool import map_in_processes
from tests.scoring.maps import data_set


def test_a_worker_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    (task,) = plan(str(predictions), str(truth), ScoreOptions(classes="3"))
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(FcnsegError, match="a process that compared a and the next died"):
        list(map_in_processes(partial(compare, how=task.comparison), task.pairing.pairs, 2))


def test_a_worker_imports_nothing_from_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    (task,) = plan(str(predictions), str(truth), ScoreOptions(classes="3"))
    (tmp_path / "pickle.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    found = list(map_in_processes(partial(compare, how=task.comparison), task.pairing.pairs, 2))
    assert [type(one) for one in found] == [PairCounts] * 3


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_an_interrupted_score_leaves_no_file_and_no_process(tmp_path: Path, sent: signal.Signals) -> None:
    predictions, truth = data_set(tmp_path, 1, 3, tuple(f"{i:05}" for i in range(400)))
    command = [sys.executable, "-m", "fcnseg", "score", str(predictions), str(truth), "--classes", "3", "-j", "2"]
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        [*command, "--json-file", str(out / "s.json"), "--report", str(out / "r.html")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (started := _workers(process.pid)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    assert started
    os.killpg(process.pid, sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == b"fcnseg: interrupted: the same command starts again"
    assert list(out.iterdir()) == []
    while any(map(_is_alive, started)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(_is_alive, started))


def _workers(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            found += [int(word) for word in task.read_text().split()]
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
