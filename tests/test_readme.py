"""The commands and examples of the README and of docs/, executed."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome, photograph

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q uv && .venv/bin/uv run"


def commands(page: Path, start: str) -> list[str]:
    """The indented command lines of a page that begin so."""
    return [line.strip() for line in page.read_text().splitlines() if line.startswith(f"    {start}")]


def test_two_commands_do_everything() -> None:
    first, second = commands(README, INSTALL)
    assert first == f"{INSTALL} --no-dev fcnseg run examples/street/images --out masks"
    assert second == f"{INSTALL} pytest"
    assert second in (ROOT / ".ci/run").read_text().splitlines()
    assert second in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_first_command_segments_the_examples(
    fcnseg: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(commands(README, INSTALL)[0].partition(" fcnseg ")[2])
    assert fcnseg(*arguments).code == 0
    scenes = sorted((ROOT / "examples/street/images").iterdir())
    assert len(scenes) == 12
    for scene in scenes:
        labels = Image.open(tmp_path / "masks" / f"{scene.stem}.png")
        assert labels.size == Image.open(scene).size
        assert len(np.unique(np.asarray(labels))) >= 5


def test_the_readme_is_one_page() -> None:
    assert len(README.read_text().splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://arxiv.org/") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_exists(fcnseg: Callable[..., Outcome], page: Path) -> None:
    for words in (shlex.split(line, comments=True) for line in commands(page, "fcnseg ")):
        names = [w for w in words[1:3] if re.fullmatch("[a-z-]+", w) and not w.startswith("-")]
        if names == ["fcnseg"] or words[0] == "fcnseg:":
            continue
        done = fcnseg(*names, "--help")
        assert done.code == 0, words
        options = {w for w in words if w.startswith("--")}
        assert all(option in done.out for option in options), words


def test_every_command_has_a_place_in_the_documentation(fcnseg: Callable[..., Outcome]) -> None:
    text = "".join(page.read_text() for page in PAGES)
    names = re.findall(r"^  ([a-z-]+)  ", fcnseg("--help").out.partition("Commands:")[2], re.MULTILINE)
    assert len(names) > 10
    assert [name for name in names if f"fcnseg {name}" not in text] == []


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photograph(tmp_path / "photo.jpg", 64, 48)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    space: dict[str, object] = {}
    exec(code, space)
    assert isinstance(space["labels"], np.ndarray)
    assert space["labels"].shape == (48, 64)


def test_the_page_about_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, source, suffix in (("photos", "images", ".jpg"), ("gt", "labels", ".png")):
        (tmp_path / folder).mkdir()
        for name in ("scene_0000", "scene_0001"):
            shutil.copy(ROOT / "examples/street" / source / f"{name}{suffix}", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL):
        exec(code, space)
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["scene_0000.jpg", "scene_0001.jpg"]
