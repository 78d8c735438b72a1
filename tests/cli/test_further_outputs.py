"""Outputs beside label maps, over the command line: they combine, and are resumed with them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome, TinyModel, photograph

Command = Callable[..., Outcome]
EVERYTHING = ("--overlay", "o", "--colour-png", "out/colours", "--mask", "a,c", "m", "--cutout", "b,e", "cut")


@pytest.fixture
def run(fcnseg: Command, tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    for i in range(4):
        photograph(tmp_path / f"photos/{i % 2}/{i}.png", width=30 + i % 3, height=20, seed=i)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: fcnseg("run", "photos", "--out", "out", *tiny.arguments, *arguments)


def pictures() -> dict[str, bytes]:
    roots = map(Path, ("out", "o", "m", "cut"))
    files = (p for root in roots for p in root.rglob("*") if p.is_file() and ".fcnseg" not in p.parts)
    return {p.as_posix(): p.read_bytes() for p in files}


def test_everything_at_once_and_again(run: Command) -> None:
    assert run(*EVERYTHING).code == 0
    before = pictures()
    assert len(before) == 4 * 6
    labels = np.asarray(Image.open("out/1/3.png"))
    assert np.array_equal(np.asarray(Image.open("m/c/1/3.png")) == 255, labels == 2)
    assert np.array_equal(np.asarray(Image.open("cut/1/3.png"))[..., 3] == 255, np.isin(labels, (1, 4)))
    assert np.array_equal(
        np.asarray(Image.open("out/colours/1/3.png")), np.asarray(Image.open("out/1/3.png").convert("RGB"))
    )
    Path("m/c/1/3.png").unlink()
    Path("cut/0/2.png").write_bytes(b"cut short")
    done = run(*EVERYTHING)
    assert (done.code, "2 label maps" in done.err, "2 were there already" in done.err) == (0, True, True)
    assert pictures() == before
    assert run(*EVERYTHING, "--overwrite").code == 0
    assert pictures() == before


def test_a_dry_run_tells_of_each(run: Command) -> None:
    done = run(*EVERYTHING, "--dry-run")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines() if " are free there" in line] == [
        "labels",
        "overlay",
        "colours",
        "masks",
        "cutouts",
    ]
    assert not pictures()


def test_classes_that_are_kept(run: Command) -> None:
    assert run("--classes", "b,d", "--mask", "d", "m").code == 0
    kept = [np.asarray(Image.open(p)) for p in Path("out").glob("[01]/*.png")]
    assert run("--overwrite").code == 0
    for few, path in zip(kept, Path("out").glob("[01]/*.png"), strict=True):
        labels = np.asarray(Image.open(path))
        assert np.array_equal(few, np.where(np.isin(labels, (1, 3)), labels, 255))
    assert "classes was None, is b,d" in run("--classes", "b,d").error_line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mask", "A", "m"], "--mask: the model has no class 'A'; did you mean a?"),
        (["--cutout", "a,z", "m"], "--cutout: the model has no class 'z'"),
        (["--classes", "background"], "--classes: the model has no class 'background'"),
        (["--mask", "a", "out"], "--out and --mask would both write"),
        (["--mask", "a", "m", "--cutout", "a", "./photos/../m"], "--mask and --cutout would both write"),
        (["--colour-png", "x.h5"], "--colour-png writes a file for each image"),
        (["--mask", "a", "photos"], "photos is an input"),
        (["--colour-png", "s3://bucket/x"], "all of them, or to folders"),
        (["--colour-png", "out/1"], "1/1.png would be written among the files of --colour-png"),
    ],
)
def test_what_cannot_be_is_a_line_before_anything_is_written(run: Command, arguments: list[str], says: str) -> None:
    refused = run(*arguments)
    assert (refused.code, says in refused.error_line) == (2, True), refused.err
    assert not pictures()


def test_a_settings_file_has_classes_and_a_folder_as_a_list(run: Command) -> None:
    Path("settings.toml").write_text('mask = ["a,b", "m"]\ncolor-png = "rgb"')
    assert run("--config", "settings.toml").code == 0
    assert Path("m/b/0/0.png").is_file()
    assert Path("rgb/0/0.png").is_file()
    Path("settings.toml").write_text('mask = "a"')
    assert "give a list of 2 texts" in run("--config", "settings.toml").error_line
