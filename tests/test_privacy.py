"""fcnseg makes no connection that its user did not ask for, and writes nothing but what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TinyModel, photograph

ROOT = Path(__file__).parent.parent

SITE = """
import os, sys

def watch(event, args):
    unix = event == "socket.connect" and isinstance(args[1], (str, bytes))  # between our own processes
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto") and not unix:
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {args[1:]}\\n")

sys.addaudithook(watch)
"""
"""Notes connections of every Python process that begins with it on its path."""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Processes that note their connections, with a home and a temporary folder of their own."""
    for name in ("site", "home", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    with tempfile.TemporaryDirectory() as folder:  # of a short name: training's workers have sockets in it
        yield {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'site'}",
            "WATCHED": str(tmp_path / "watched"),
            "HOME": str(tmp_path / "home"),
            "TMPDIR": folder,
            "FCNSEG_HOME": str(tmp_path / "kept"),
        }


def command(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fcnseg", *map(str, words)], env=environment, capture_output=True, text=True
    )


def test_the_watch_sees_connections(tmp_path: Path, environment: dict[str, str]) -> None:
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "127.0.0.1" in (tmp_path / "watched").read_text()


@pytest.mark.slow
def test_nothing_is_told_to_anybody(tiny: TinyModel, tmp_path: Path, environment: dict[str, str]) -> None:
    """A build with calibration, a run, a report, a training, a look at the machine: no connection, nothing at home."""
    for i in range(2):
        photograph(tmp_path / "photos" / f"{i}.png", 60, 50, seed=i)
    model = ("--model", tiny.recipe, "--weights", tiny.weights)
    sizes = ("--max-shape", "64x64", "--opt-shape", "60x50", "--min-agreement", 0, "--calibrate", tmp_path / "photos")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(tmp_path / "photos")
    (tmp_path / "data" / "labels").symlink_to(masks := tmp_path / "masks")
    one_step = ("--steps", 1, "--batch-size", 2, "--crop", "64x64", "--device", "cpu", "--workers", 1)
    engine, out = tmp_path / "int8.engine", tmp_path / "trained"
    for done in (
        command(environment, "build-engine", tiny.recipe, *model[2:], "--precision", "int8", *sizes, "--out", engine),
        command(environment, "run", tmp_path / "photos", *model, "--precision", "fp32", "--out", masks),
        command(environment, "doctor"),
        command(environment, "score", masks, masks, "--model", tiny.recipe, "--report", tmp_path / "report.html"),
        command(environment, "train", tiny.recipe, "--scratch", "--data", tmp_path / "data", "--out", out, *one_step),
    ):
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "watched").exists(), (tmp_path / "watched").read_text()
    assert list((tmp_path / "home").rglob("*")) == []
    assert [p for p in Path(environment["TMPDIR"]).rglob("*") if p.is_file()] == []


def test_openvino_starts_without_its_telemetry() -> None:
    code = "import fcnseg.engine.options, openvino, sys; print(sys.modules.get('openvino_telemetry'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "None"
