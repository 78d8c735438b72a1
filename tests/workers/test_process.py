"""Subprocesses: their environment, and their end."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from fcnseg.workers.json_job import run_job
from fcnseg.workers.process import WorkerDiedError, WorkerProcess


def test_one_that_does_not_end_by_itself_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deaf.py").write_text("import time\ndef main():\n    print(flush=True)\n    time.sleep(600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    process = WorkerProcess("deaf")
    process.answers.readline()
    process.stop(grace_seconds=0.1)
    process.stop()
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize("python", ["/dev/null", "/nowhere/python", ""])
def test_one_that_the_system_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(WorkerDiedError, match="does not start: "):
        WorkerProcess("json")
    assert "does not start" in run_job("json", {}, lambda message: None)


def test_an_environment_gives_defaults_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text("import os\ndef main():\n    print(os.environ['A'], os.environ['B'])\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("A", "ours")
    with WorkerProcess("telling", {"A": "default", "B": "default"}) as process:
        assert process.answers.read() == b"ours default\n"
        assert process.wait() == 0
