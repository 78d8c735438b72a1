"""Every command and snippet of README and docs/, executed: see tests/snippets.py."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome
from tests.io.video_files import write_video
from tests.snippets import PAGES, ROOT, RUN, SHOWN, Block, blocks

Command = Callable[..., Outcome]
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q uv && .venv/bin/uv run"
SHELL = re.compile(r"[|&;<>$`*=]")
"""Characters for which a command needs a shell."""


def each_block(*, run: bool) -> list[Any]:
    return [
        pytest.param(page, block, id=f"{page.name}:{block.number}")
        for page in PAGES
        for block in blocks(page)
        if block.language in RUN and block.is_run == run
    ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the pages speak of: photographs, ground truth, labelled images, depth, a video, the examples."""
    street = ROOT / "examples" / "street"
    for name in ("scene_0000", "scene_0001"):
        for folder, source, suffix in (
            ("photos", "images", ".jpg"),
            ("gt", "labels", ".png"),
            ("mine/images", "images", ".jpg"),
            ("mine/labels", "labels", ".png"),
        ):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(street / source / f"{name}{suffix}", tmp_path / folder)
    shutil.copy(street / "images" / "scene_0000.jpg", tmp_path / "photo.jpg")
    (tmp_path / "depth").mkdir()
    rows = np.linspace(900, 4000, 480, dtype=np.uint16)
    Image.fromarray(np.broadcast_to(rows[:, None], (480, 640)).copy()).save(tmp_path / "depth" / "room.png")
    write_video(tmp_path / "drive.mp4", 3, size=(120, 160))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_works_to_the_letter(page: Path, fcnseg: Command) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page):
        if not block.is_run:
            continue
        for command in block.directives.get("setup", "").split("; "):
            run(command, 0, fcnseg)
        if block.language == "python":
            exec(compile("\n".join(block.lines), f"{page.name}:{block.number}", "exec"), names)
            continue
        for command in block.commands:
            run(with_arguments(command, block), int(block.directives.get("exit code", 0)), fcnseg)


def with_arguments(command: str, block: Block) -> str:
    """The command without its comment, with the arguments that are added for the test."""
    plain = re.sub(r"\s+#.*", "", command)
    return f"{plain} {block.directives.get('run with', '')}".strip()


def run(command: str, code: int, fcnseg: Command) -> None:
    """Run a command: in this process where it is fcnseg's and needs no shell, for its start takes a second."""
    if not command:
        return
    words = shlex.split(command)
    if words[0] == "fcnseg" and not SHELL.search(command):
        done = fcnseg(*words[1:])
        assert done.code == code, f"{command}: {done.err}"
    else:
        ended = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True)
        assert ended.returncode == code, f"{command}: {ended.stderr}"


@pytest.mark.parametrize(("page", "block"), each_block(run=False))
def test_what_is_not_run_says_why_and_is_made_of_commands_that_exist(page: Path, block: Block, fcnseg: Command) -> None:
    assert len(block.directives["not run"].split()) >= 3, page
    if block.language == "python":
        ast.parse("\n".join(block.lines))
    for command in block.commands if block.language == "sh" else ():
        words = shlex.split(command, comments=True)
        if words[:1] == ["fcnseg"]:
            names = [word for word in words[1:3] if re.fullmatch("[a-z-]+", word) and not word.startswith("-")]
            names = names if words[1] in ("weights", "engines") else names[:1]
            shown = fcnseg(*names, "--help")
            assert shown.code == 0, command
            assert [w for w in words if w.startswith("--") and f"{w} " not in shown.out] == [], command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_code_escapes_the_test(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= {*RUN, *SHOWN}
    outside = re.sub(r"(?ms)^\s*```.*?^\s*```$", "", page.read_text())
    assert not re.findall(r"(?m)^\n {4}\S.*", outside), "indented code: use a fence"
    for block in blocks(page):
        if block.language == "text":
            assert not [line for line in block.lines if line.startswith(("fcnseg run", "$ "))], block


def test_two_commands_do_everything() -> None:
    shown = [line for block in blocks(ROOT / "README.md") for line in block.lines if line.startswith(INSTALL)]
    assert shown == [f"{INSTALL} --no-dev fcnseg run examples/street/images --out masks", f"{INSTALL} pytest"]
    assert shown[1] in (ROOT / ".ci/run").read_text().splitlines()
    assert shown[1] in (ROOT / "CONTRIBUTING.md").read_text()
    assert shown[0] in (ROOT / "docs" / "install.md").read_text().splitlines()


def test_the_first_command_segments_the_examples(fcnseg: Command, place: Path) -> None:
    done = fcnseg("run", "examples/street/images", "--out", "masks")
    assert done.code == 0
    (last,) = (line for line in done.err.splitlines() if line.startswith("12 label maps"))
    assert len(last) <= 80
    scenes = sorted((ROOT / "examples/street/images").iterdir())
    assert len(scenes) == 12
    for scene in scenes:
        labels = Image.open(place / "masks" / f"{scene.stem}.png")
        assert labels.size == Image.open(scene).size
        assert len(np.unique(np.asarray(labels))) >= 5


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    inside = ROOT if page.name == "README.md" else ROOT / "docs"  # what is rendered lies in docs/
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("https://arxiv.org/"):
            path = (page.parent / target).resolve()
            assert path.exists(), target
            assert path.is_relative_to(inside), target


def test_every_command_has_a_place_in_the_documentation(fcnseg: Command) -> None:
    text = "".join(page.read_text() for page in PAGES)
    names = re.findall(r"^  ([a-z-]+)  ", fcnseg("--help").out.partition("Commands:")[2], re.MULTILINE)
    assert len(names) > 10
    assert [name for name in names if f"fcnseg {name}" not in text] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<!-- not run: -->\n```sh\nfcnseg run\n```", ""),
        ("<!-- never run: it is slow -->\n```sh\nfcnseg run\n```", "never run"),
        ("<!-- not run: it is slow -->\n\nwords\n```sh\nfcnseg run\n```", "not followed"),
        ("```sh\nfcnseg run", "no end"),
    ],
)
def test_a_comment_that_is_not_understood_excuses_nothing(text: str, fault: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    if not fault:
        assert [block.is_run for block in blocks(page)] == [True]
        return
    with pytest.raises(ValueError, match=fault):
        list(blocks(page))
