"""Names that are one to a file system: by a real one without case, and by made up ones."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fcnseg.errors import SettingsError
from fcnseg.running import name_rules
from fcnseg.running.listing import survey
from fcnseg.running.name_rules import NameRules
from tests.conftest import Outcome, TinyModel, photograph
from tests.fakes import MemorySource

E1, E2 = "\u00e9", "e\u0301"


@pytest.fixture
def caseless(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that does not tell upper and lower case apart; skips where none can be mounted."""
    if not (shutil.which("lowntfs-3g") and shutil.which("mkntfs")):
        pytest.skip("ntfs-3g, which can mount without case, is not installed")
    image, folder = tmp_path / "image", tmp_path / "caseless"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    folder.mkdir()
    subprocess.run(["mkntfs", "-F", "-q", str(image)], check=True, capture_output=True)
    command = ["lowntfs-3g", "-o", "ignore_case", str(image), str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def pretend(monkeypatch: pytest.MonkeyPatch, same: Callable[[str, str], bool]) -> None:
    monkeypatch.setattr(name_rules, "_is_one_file", lambda folder, one, other: same(one, other))


def caseless_names(one: str, other: str) -> bool:
    return one.lower() == other.lower()  # of "ß" and "ss", which casefold() takes for one, it makes two


def composed_names(one: str, other: str) -> bool:
    return unicodedata.normalize("NFD", one) == unicodedata.normalize("NFD", other)


@pytest.mark.parametrize(
    ("same", "keys", "named"),
    [
        (caseless_names, ["Photo.png", "x.png", "photo.png"], "Photo.png and photo.png"),
        (caseless_names, ["A/x.png", "a/X.jpg"], "A/x.png and a/X.jpg"),
        (caseless_names, ["a.jpg", "A.PNG/b.jpg"], "a.jpg and the folder"),
        (composed_names, [f"{E1}.png", f"{E2}.png"], f"{E1}.png and {E2}.png"),
        (lambda a, b: a.rstrip(".") == b.rstrip("."), ["a./x.png", "a/x.png"], "a./x.png and a/x.png"),
        (lambda a, b: caseless_names(*(unicodedata.normalize("NFD", n) for n in (a, b))), ["É.png", "é.png"], "É"),
    ],
    ids=["case", "folder", "folder and file", "composed", "dots", "case and composed"],
)
def test_inputs_whose_outputs_would_be_one_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, same: Callable[[str, str], bool], keys: list[str], named: str
) -> None:
    assert survey(MemorySource(keys)).total == len(keys)
    pretend(monkeypatch, same)
    with pytest.raises(SettingsError, match=named):
        survey(MemorySource(keys), rules=NameRules([tmp_path / "not" / "made" / "yet"]))


def test_only_names_that_are_one_there_clash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, caseless_names)
    keys = ["straße.png", "strasse.png", f"{E1}.png", f"{E2}.png", "a.png", "b.png"]
    assert survey(MemorySource(keys), rules=NameRules([tmp_path])).total == 6
    with pytest.raises(SettingsError, match=r"STRASSE\.png, whose names are one"):
        survey(MemorySource([*keys, "STRASSE.png"]), rules=NameRules([tmp_path]))


def test_here_names_are_what_they_are_and_nothing_is_left(tmp_path: Path) -> None:
    rules = NameRules([tmp_path / "x"])
    assert rules.fold("A./É") == "A./É"
    assert not rules.are_one("a", "A")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_case(
    fcnseg: Callable[..., Outcome], tiny: TinyModel, caseless: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for seed, name in enumerate(("Photo.png", "photo.png", "other.png")):
        photograph(photos / name, seed=seed)
    for place in (["--out", caseless / "m"], ["--out", caseless / "m.h5"]):
        refused = fcnseg("run", photos, *place, *tiny.arguments)
        assert (refused.code, "Photo.png" in refused.error_line, "photo.png" in refused.error_line) == (2, True, True)
    for option in ("--save-probabilities", "--overlay"):
        refused = fcnseg("run", photos, "--out", tmp_path / "m", option, caseless / "p", *tiny.arguments)
        assert (refused.code, "whose names are one" in refused.error_line) == (2, True)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in photos.iterdir():
            archive.write(path, path.name)
    assert fcnseg("run", tmp_path / "photos.zip", "--out", caseless / "z", *tiny.arguments).code == 2
    assert list(caseless.iterdir()) == []
    (photos / "photo.png").unlink()
    for kept in ("", "2 were there already"):
        done = fcnseg("run", photos, "--out", caseless / "m", *tiny.arguments)
        assert (done.code, kept in done.err) == (0, True), done.err
    assert fcnseg("status", caseless / "m").code == 0
