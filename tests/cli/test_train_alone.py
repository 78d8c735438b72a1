"""`fcnseg train` in a container overnight: little shared memory, processes that die or hang, and one Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.test_train import command, labelled, rows
from tests.conftest import TinyModel

SMALL_SHM = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    labelled(tmp_path / "data" / "train", 4)
    labelled(tmp_path / "data" / "val", 2, first=10)
    return tmp_path / "data"


def may_mount() -> bool:
    try:
        words = ["unshare", "--mount", "sh", "-c", SMALL_SHM, "sh", "true"]
        return subprocess.run(words, capture_output=True, timeout=20).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
def test_little_shared_memory_is_enough(tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    if not may_mount():
        pytest.skip("no tmpfs can be mounted here")
    more = ("--steps", 2, "-b", 8, "--crop", "512x512", "--workers", 4, "--lr", 1e-3, "--precision", "fp32")
    train = [sys.executable, "-m", "fcnseg", *command(tiny, data, tmp_path / "run", *more)]
    words = ["unshare", "--mount", "sh", "-c", SMALL_SHM, "sh", *train]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "UserWarning" not in done.stderr
    assert (tmp_path / "run" / "model.toml").exists()


@pytest.fixture
def training(tiny: TinyModel, data: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A training with two workers, in the midst of its steps."""
    words = command(tiny, data, tmp_path / "run", "--steps", 3000, "--log-every", 1, "--workers", 2)
    process = subprocess.Popen([sys.executable, "-m", "fcnseg", *words], stderr=subprocess.PIPE, text=True)
    while rows(tmp_path / "run") < 4 and process.poll() is None:
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
def test_it_goes_on_without_workers_that_are_killed(training: subprocess.Popen[str], tmp_path: Path) -> None:
    for worker in workers_of(training):
        worker.kill()
    before = rows(tmp_path / "run")
    while rows(tmp_path / "run") < before + 6 and training.poll() is None:
        time.sleep(0.05)
    training.send_signal(signal.SIGINT)
    _, said = training.communicate(timeout=60)
    assert training.returncode == 130, said
    assert "images are read without workers now" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_one_interrupt_ends_it_while_workers_hang(training: subprocess.Popen[str]) -> None:
    workers = workers_of(training)
    for worker in workers:
        worker.suspend()
    time.sleep(0.5)  # what had been read is used up
    training.send_signal(signal.SIGINT)
    _, said = training.communicate(timeout=60)
    assert training.returncode == 130, said
    assert "the same command goes on from there" in said
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.slow
def test_one_interrupt_ends_it_before_its_first_step(tiny: TinyModel, data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fcnseg", *command(tiny, data, tmp_path / "run", "--steps", 3)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "fcnseg: interrupted: the same command starts again"
