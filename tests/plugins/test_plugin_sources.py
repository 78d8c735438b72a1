"""Sources of other packages in a run: whole or failed image by image, resumed, and never imported unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcnseg as package
from fcnseg.errors import SettingsError
from fcnseg.io.sources import open_source
from fcnseg.plugins import SOURCES
from fcnseg.testing import check_source
from fcnseg.types import Failure, Reference
from tests.conftest import Outcome, TinyModel
from tests.plugins.conftest import Install

Command = Callable[..., Outcome]

SOURCE = """
import numpy as np
from fcnseg import Frame, Reference, Failure
class plugin:
    def __init__(self, place): {init}
    def __iter__(self): {listing}
    def fingerprint(self, reference): {fingerprint}
    def load(self, reference, reserve=lambda nbytes: None): {load}
    def close(self): pass
"""
SOUND = {
    "init": "self.place = place",
    "listing": "yield from (Reference(n, n, '', [n]) for n in ('a', 'b/c'))",
    "fingerprint": "return '1'",
    "load": "return Frame('', '', {'color': np.full((5, 7, 3), len(self.place), np.uint8)})",
}


def code(**parts: str) -> str:
    return SOURCE.format(**{**SOUND, **parts})


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    pages = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    return tmp_path / "scan.tif"


@pytest.mark.usefixtures("install")  # its modules are forgotten afterwards
def test_the_example_keeps_to_the_contract(example: Path, tiff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(example)
    from fcnseg_example.pages import PageSource  # type: ignore[import-not-found]

    check_source(lambda: PageSource(str(tiff)))
    check_source(lambda: open_source(f"pages://{tiff}"))


def test_a_run_takes_images_of_another_package(
    install: Install, fcnseg: Command, tmp_path: Path, tiny: TinyModel
) -> None:
    package = install(SOURCES, "grey", code())
    words = ("run", "GREY://twelve chars", "--out", tmp_path / "m", *tiny.arguments)
    assert fcnseg(*words).code == 0
    masks = sorted((tmp_path / "m").rglob("*.png"))
    assert [str(mask.relative_to(tmp_path / "m")) for mask in masks if ".fcnseg" not in mask.parts] == [
        "a.png",
        "b/c.png",
    ]
    assert Image.open(tmp_path / "m" / "a.png").size == (7, 5)
    assert "2 were there already" in fcnseg(*words).err
    (info,) = (tmp_path / "site").glob("*.dist-info")
    info.rename(info.with_name(f"{package}-2.0.dist-info"))
    (info.with_name(f"{package}-2.0.dist-info") / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.0\n"
    )
    line = fcnseg(*words)
    assert line.code == 2
    assert f"source grey was {package} 1.5, is {package} 2.0" in line.error_line
    assert fcnseg(*words, "--accept-changed-environment").code == 0


def test_a_run_in_shards_takes_them_too(install: Install, fcnseg: Command, tmp_path: Path, tiny: TinyModel) -> None:
    install(SOURCES, "grey", code())
    words = ("run", "grey://x", "--out", (tmp_path / "m").as_uri(), *tiny.arguments)
    assert fcnseg(*words).code == 0
    assert Image.open(tmp_path / "m" / "b" / "c.png").size == (7, 5)
    assert "2 were there already" in fcnseg(*words).err
    assert fcnseg("status", (tmp_path / "m").as_uri()).code == 0


@pytest.mark.parametrize(
    ("load", "says"),
    [
        ("raise KeyError('lost')", "failed to load it: KeyError: 'lost'"),
        ("return None", "gave a NoneType in place of a Frame"),
        ("return Frame('', '', {'color': np.zeros((5, 7), np.uint8)})", "uint8 5 x 7; it must be uint8 H x W x 3"),
        ("return Frame('', '', {'color': np.zeros((5, 7, 3), float)})", "float64"),
        ("return Frame('', '', {'depth': np.zeros((5, 7, 1), np.float32)})", "gave depth; the model takes color"),
        ("return Frame('', '', {'color': np.zeros((500, 700, 3), np.uint8)})", "--max-pixels"),
    ],
)
def test_what_it_fails_at_is_the_failure_of_an_image(
    load: str, says: str, install: Install, fcnseg: Command, tmp_path: Path, tiny: TinyModel
) -> None:
    package = install(SOURCES, "grey", code(load=f"\n        if reference.key == 'a': {load}\n        {SOUND['load']}"))
    done = fcnseg("run", "grey://x", "--out", tmp_path / "m", "--max-pixels", 1000, *tiny.arguments)
    assert done.code == 3
    assert "Traceback" not in done.err
    (told,) = (line for line in done.err.splitlines() if says in line)
    assert "a: " in told
    if "max" not in says:
        assert f"the plug-in grey of {package} 1.5" in told
    assert Image.open(tmp_path / "m" / "b" / "c.png").size == (7, 5)
    assert not (tmp_path / "m" / "a.png").exists()


@pytest.mark.parametrize(
    ("parts", "code_", "says"),
    [
        ({"init": "raise RuntimeError('no\\nlicence')"}, 1, "failed to open grey://x: RuntimeError: no licence"),
        ({"init": "from fcnseg.errors import SourceError; raise SourceError('not there; look')"}, 1, "not there; look"),
        (
            {"listing": "yield Reference('a', 'a', '', 1); raise OSError('gone')"},
            1,
            "failed to list its images: OSError",
        ),
        ({"listing": "yield 'a.png'"}, 1, "listed a str; it must list references"),
        ({"listing": "yield Reference('a', 'a', '', object())"}, 1, "at a location that JSON cannot hold"),
        ({"listing": "return iter(())"}, 1, "there are no images in grey://x"),
        (
            {"listing": "yield Reference('a', 'a', '', 1); yield Reference('b', 'a', '', 1)"},
            2,
            "would write one output",
        ),
    ],
)
def test_what_it_fails_at_as_a_whole_is_one_line(
    parts: dict[str, str], code_: int, says: str, install: Install, fcnseg: Command, tmp_path: Path, tiny: TinyModel
) -> None:
    install(SOURCES, "grey", code(**parts))
    done = fcnseg("run", "grey://x", "--out", tmp_path / "m", *tiny.arguments)
    assert done.code == code_
    assert says in done.error_line


@pytest.mark.parametrize("stem", ["../a", "/tmp/a", "a//b", "a/../../b", ""])
def test_outputs_stay_in_their_folder(stem: str, install: Install) -> None:
    install(SOURCES, "grey", code(listing=f"yield Reference('a', {stem!r}, '', 1)"))
    (listed,) = open_source("grey://x")
    assert isinstance(listed, Failure)
    assert "would have its output called" in listed.reason


def test_memory_is_reserved_once_and_the_end_of_a_run_is_no_failure(install: Install) -> None:
    install(SOURCES, "grey", code(load=f"\n        reserve(105); reserve(105)\n        {SOUND['load']}"))
    source = open_source("grey://x")
    first = next(iter(source))
    assert isinstance(first, Reference)
    reserved: list[int] = []
    source.load(first, reserved.append)
    assert reserved == [105]

    def ending(_nbytes: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        source.load(first, ending)


def test_names_are_chosen_by_pattern(install: Install) -> None:
    install(SOURCES, "grey", code())
    assert [listed.key for listed in open_source("grey://x", pattern="b/*")] == ["b/c"]


@pytest.mark.parametrize(
    ("code_", "says"),
    [
        ("import nothing_of_that_name", "does not import: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "does not import: SystemExit: 3"),
        ("x = (", "does not import: SyntaxError"),
        ("x = 1", "does not import: AttributeError"),
        ("plugin = 1", "is int and cannot be called"),
        ("plugin = list", "gave a list, which is no source"),
    ],
)
def test_a_package_that_does_not_work_is_told_when_it_is_asked_for(
    code_: str, says: str, install: Install, fcnseg: Command, tmp_path: Path, tiny: TinyModel
) -> None:
    package = install(SOURCES, "grey", code_)
    done = fcnseg("run", "grey://x", "--out", tmp_path / "m", *tiny.arguments)
    assert done.code == 2
    assert f"the plug-in grey of {package} 1.5" in done.error_line
    assert says in done.error_line
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (9, 9)).save(photos / "a.png")
    assert fcnseg("run", photos, "--out", tmp_path / "m", *tiny.arguments).code == 0


def test_unknown_names_are_told_with_the_nearest(install: Install) -> None:
    with pytest.raises(SettingsError, match=r"no plug-in has a source grey, .*s3://"):
        open_source("grey://x")
    install(SOURCES, "grey", code())
    with pytest.raises(SettingsError, match="did you mean grey"):
        open_source("gray://x")
    with pytest.raises(SettingsError, match="leave out --depth"):
        open_source("grey://x", ("color", "depth"), {"depth": "."})
    install(SOURCES, "grey", code())
    with pytest.raises(SettingsError, match="uninstall all but one"):
        open_source("grey://x")


def test_doctor_lists_them(install: Install, fcnseg: Command) -> None:
    sound, broken = install(SOURCES, "grey", code()), install(SOURCES, "black", "import nothing_of_that_name")
    found = {plugin["name"]: plugin for plugin in json.loads(fcnseg("doctor", "--json").out)["plugins"]}
    assert (found["grey"]["kind"], found["grey"]["package"], found["grey"]["problem"]) == ("source", sound, "")
    assert "ModuleNotFoundError" in found["black"]["problem"]
    text = fcnseg("doctor").out
    assert f"{sound} 1.5\n" in text
    assert f"{broken} 1.5: " in text


def test_nothing_is_imported_unasked(install: Install, tmp_path: Path) -> None:
    install(SOURCES, "grey", f"open({str(tmp_path / 'imported')!r}, 'w')")
    lines = "import fcnseg", "from fcnseg.cli import main; main()", "from fcnseg.io.sources import open_source"
    for line in lines:
        words = [sys.executable, "-c", line, *(["run", "--help"] if "main" in line else [])]
        done = subprocess.run(words, env={"PYTHONPATH": str(tmp_path / "site")}, cwd=Path(package.__file__).parents[1])
        assert done.returncode == 0
    assert not (tmp_path / "imported").exists()
