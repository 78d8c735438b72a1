"""The README's commands, executed."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome, photograph

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q uv && .venv/bin/uv run"


def commands(start: str) -> list[str]:
    """The indented command lines of the README that begin so."""
    return [line.strip() for line in README.splitlines() if line.startswith(f"    {start}")]


def test_two_commands_do_everything() -> None:
    first, second = commands(INSTALL)
    assert first == f"{INSTALL} --no-dev fcnseg run examples/street/images --out masks"
    assert second == f"{INSTALL} pytest"
    assert second in (ROOT / ".ci/run").read_text().splitlines()
    assert second in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_first_command_segments_the_examples(
    fcnseg: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(commands(INSTALL)[0].partition(" fcnseg ")[2])
    assert fcnseg(*arguments).code == 0
    scenes = sorted((ROOT / "examples/street/images").iterdir())
    assert len(scenes) == 12
    for scene in scenes:
        labels = Image.open(tmp_path / "masks" / f"{scene.stem}.png")
        assert labels.size == Image.open(scene).size
        assert len(np.unique(np.asarray(labels))) >= 5


def test_every_command_shown_exists(fcnseg: Callable[..., Outcome]) -> None:
    shown = [shlex.split(line) for line in commands("fcnseg ")]
    assert shown
    for words in shown:
        names = [w for w in words[1:3] if re.fullmatch("[a-z-]+", w) and not w.startswith("-")]
        done = fcnseg(*names, "--help")
        assert done.code == 0
        options = {w for w in words if w.startswith("--")}
        assert all(option in done.out for option in options)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph(tmp_path / "photo.jpg", 64, 48)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    space: dict[str, object] = {}
    exec(code, space)
    assert isinstance(space["labels"], np.ndarray)
    assert space["labels"].shape == (48, 64)
