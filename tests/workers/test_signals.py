"""Signals that stop: once, cleanly, and not where they are to be ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcnseg.workers import signals
from fcnseg.workers.process import WorkerProcess
from fcnseg.workers.signals import SYSTEM_STOPS, stops_interrupt


@pytest.mark.parametrize("number", SYSTEM_STOPS)
def test_they_interrupt_once_and_leave_the_handlers_as_they_were(number: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in SYSTEM_STOPS]
    with stops_interrupt():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        for again in SYSTEM_STOPS:
            signal.raise_signal(again)
    assert [signal.getsignal(number) for number in SYSTEM_STOPS] == before


def test_a_later_one_is_another_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 0.0)
    with stops_interrupt():
        for number in SYSTEM_STOPS:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)


def test_nohup_is_respected() -> None:
    script = """
import signal
from fcnseg.workers.signals import stops_interrupt
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with stops_interrupt():
    signal.raise_signal(signal.SIGHUP)
print("goes on")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_subprocesses_leave_them_to_their_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    script = "import sys\ndef main():\n    print(sys.stdin.readline(), end='')\n"
    (tmp_path / "patient.py").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)
    with WorkerProcess("patient") as process:
        deadline = time.monotonic() + 30
        while not _ignores(process.pid, number) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _ignores(process.pid, number)
        os.kill(process.pid, number)
        process.requests.write(b"still here\n")
        process.requests.flush()
        assert process.answers.readline() == b"still here\n"


def _ignores(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)
