"""Commands where the system allows few threads, or little address space: they go on with what they get, or say why not
in a line."""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import TinyModel, photograph
from tests.control_groups import real_group, run_inside

FCNSEG = [sys.executable, "-m", "fcnseg"]
REASON = "fcnseg: error: the system allows no more threads or processes; use fewer --workers"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(6):
        photograph(tmp_path / "photos" / f"{i}.png", seed=i)
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [1, 4, 7])
def test_a_run_with_so_many_threads(tiny: TinyModel, photos: Path, tmp_path: Path, allowed: int) -> None:
    masks = tmp_path / "masks"
    words = [*FCNSEG, "run", str(photos), "--out", str(masks), "--workers", "3", *tiny.arguments]
    with real_group("pids", pids__max=str(allowed)) as group:
        done = run_inside(group, words)
    assert "Traceback" not in done.stderr
    if done.returncode == 0:
        assert len(list(masks.glob("*.png"))) == 6
    else:
        assert (done.returncode, REASON in done.stderr.splitlines()[-1]) == (1, True)
    assert done.returncode == (1 if allowed < 5 else 0)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert len(list(masks.glob("*.png"))) == 6


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [1, 12])
@pytest.mark.parametrize("command", ["score", "hdf5", "train"])
def test_other_commands_with_so_many_threads(
    tiny: TinyModel, photos: Path, tmp_path: Path, command: str, allowed: int
) -> None:
    subprocess.run([*FCNSEG, "run", str(photos), "--out", str(tmp_path / "m"), *tiny.arguments], check=True)
    words = {
        "score": ["score", str(tmp_path / "m"), str(tmp_path / "m"), "--classes", "5", "-j", "3"],
        "hdf5": ["run", str(photos), "--out", str(tmp_path / "m.h5"), *tiny.arguments],
        "train": ["train", "street-fcn8s", "--data", "examples/street", "--out", str(tmp_path / "t"), "--steps", "1"],
    }[command]
    words += ["--crop", "64x64", "--workers", "2"] if command == "train" else []
    with real_group("pids", pids__max=str(allowed)) as group:
        done = run_inside(group, [*FCNSEG, *words])
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert (done.returncode, REASON in done.stderr.splitlines()[-1]) == (1, True), done.stderr
    if command == "score" or (command, allowed) == ("hdf5", 12):
        assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [700, 1500, 3000])
def test_little_address_space_is_one_line(tiny: TinyModel, photos: Path, tmp_path: Path, mebibytes: int) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))
    words = [*FCNSEG, "run", str(photos), "--out", str(tmp_path / "m"), *tiny.arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 1
        assert "ulimit -v" in done.stderr.splitlines()[-1]
