import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcnseg.io import locks
from fcnseg.io.locks import LockHolder, held, is_held, lock_holder

HOLD = """
import sys, time
from pathlib import Path
from fcnseg.io.locks import held
with held(Path(sys.argv[1]), "", print):
    print("held", flush=True)
    time.sleep(600)
"""


def test_who_waits_is_told_for_whom_and_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SAY_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(locks, "SAY_EVERY_SECONDS", 0.1)
    lock, said = tmp_path / "a.lock", []

    def on_wait(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            os.kill(other.pid, 19)
        if len(said) == 3:
            other.kill()

    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        assert is_held(lock)
        with held(lock, "it does something", on_wait):
            assert lock_holder(lock).pid == os.getpid()
    assert f"waiting for process {other.pid} on this host since 20" in said[0]
    assert f"it does something; `kill {other.pid}` ends it" in said[0]
    assert ", stopped: it does something" in said[2]
    assert f"`kill -CONT {other.pid}` lets it go on, `kill -KILL {other.pid}` ends it" in said[2]
    assert not is_held(lock)


@pytest.mark.parametrize(
    ("content", "pid", "said"),
    [
        ("123\nold-pod\n", 123, "process 123 on old-pod since"),
        ("123\nold-pod\n456\n", 123, "process 123 on old-pod since"),
        ("", 0, "an unknown process since"),
        ("nonsense", 0, "an unknown process since"),
        ("12\n\x1b[2Jpod\n", 12, "process 12 on [2Jpod since"),
    ],
)
def test_the_holder_of_a_lock_that_outlived_its_host(tmp_path: Path, content: str, pid: int, said: str) -> None:
    file = tmp_path / "a.lock"
    file.write_text(content)
    holder = lock_holder(file)
    assert (holder.pid, holder.is_here) == (pid, False)
    assert said in str(holder)
    assert holder.remedy == f"if it is gone with its host, remove {file}"
    assert str(lock_holder(tmp_path / "absent")) == "an unknown process"


def test_a_wait_is_spoken_of_late_and_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    notice, due = locks.WaitNotice(), []
    for second in range(700):
        now[0] = float(second)
        if notice.is_due():
            due.append(second)
    assert due == [10, 310, 610]
    assert locks.SAY_AFTER_SECONDS < 30
    assert LockHolder(Path("x")).remedy
