"""Jobs of a subprocess: the same package, one line when it dies, and no longer life than its parent's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

import fcnseg
from fcnseg.workers.json_job import run_job

ROOT = Path(__file__).parents[2]


def run(habit: str, work: Path) -> tuple[str, list[Mapping[str, Any]]]:
    told: list[Mapping[str, Any]] = []
    died = run_job("tests.workers.odd_job", {"habit": habit, "work": work}, told.append)
    return died, told


def test_it_is_the_same_package_whatever_lies_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "numpy.py", "fcnseg.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    died, told = run("tells", tmp_path)
    assert (died, [t["package"] for t in told]) == ("", [fcnseg.__file__])
    assert str(tmp_path) not in told[0]["path"]


def test_the_last_words_of_one_that_dies_are_kept(tmp_path: Path) -> None:
    assert run("dies", tmp_path) == ("exit code 3: terminate called: \ufffd", [])


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_and_cleans_up_when_the_other_side_is_gone(tmp_path: Path, ending: signal.Signals) -> None:
    work = tmp_path / "work"
    command = [sys.executable, "-m", "tests.workers.odd_job", str(work)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout
        stuck = psutil.Process(json.loads(asking.stdout.readline())["pid"])
        os.kill(asking.pid, ending)
    assert not psutil.wait_procs([stuck], timeout=20)[1]
    assert not work.exists()


def test_an_interruption_here_ends_it(tmp_path: Path) -> None:
    def interrupt(message: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt(message["pid"])

    with pytest.raises(KeyboardInterrupt) as caught:
        run_job("tests.workers.odd_job", {"habit": "is stuck", "work": tmp_path / "work"}, interrupt)
    assert not psutil.pid_exists(caught.value.args[0])
