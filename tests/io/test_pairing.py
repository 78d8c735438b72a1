"""Label maps found by name, and pairs of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.pairing import PairingOptions, find_maps, pair_sources, pair_up
from fcnseg.io.raw_map import MapLocation
from tests.io.image_files import touch, without_privileges


def located(*names: str) -> dict[str, list[MapLocation]]:
    return {name: [MapLocation(f"{name}.png")] for name in names}


def test_the_label_maps_of_a_folder_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c.d.tif", "b/lossy.jfif", ".hidden/x.png", "folder.png/e.png", "maps.h5/f.png")
    (tmp_path / "empty.png").mkdir()
    (tmp_path / "notes.txt").touch()
    assert list(find_maps(str(tmp_path))) == ["a", "b/c.d", "b/lossy", "folder.png/e", "maps.h5/f"]
    assert find_maps(f"{tmp_path}/b/")["c.d"] == [MapLocation(f"{tmp_path}/b/c.d.tif")]
    assert list(find_maps(f"{tmp_path}/maps.h5")) == ["f"], "a folder, whatever it is called"
    assert list(find_maps(str(tmp_path), "{stem}.d.tif")) == ["b/c"]
    for source, fault in ((f"{tmp_path}/empty.png", "holds no label maps"), (f"{tmp_path}/gone", "there is no")):
        with pytest.raises(LabelsError, match=fault):
            find_maps(source)


def test_folders_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "lost+found/b.png")
    tmp_path.chmod(0o755)
    (tmp_path / "lost+found").chmod(0)
    monkeypatch.chdir(tmp_path)
    with without_privileges():
        assert list(find_maps(".")) == ["a"]
        with pytest.raises(LabelsError, match=r"lost\+found cannot be listed: Permission denied; check"):
            find_maps("lost+found")


def test_names_are_compared_by_path_or_else_by_stem() -> None:
    by_path = pair_up(located("a/x", "b/x"), located("a/x", "b/x"), PairingOptions())
    assert ([pair.key for pair in by_path.pairs], by_path.mode) == (["a/x", "b/x"], "path")
    by_stem = pair_up(located("pred/x", "pred/y"), located("x", "y"), PairingOptions())
    assert ([pair.key for pair in by_stem.pairs], by_stem.mode) == (["x", "y"], "stem")
    with pytest.raises(LabelsError, match="no prediction has the name of a ground truth"):
        pair_up(located("a"), located("b"), PairingOptions())
    with pytest.raises(SettingsError, match="use auto, path, stem"):
        pair_up(located("a"), located("a"), PairingOptions(mode="name"))


def test_what_has_no_partner_is_named() -> None:
    ours, theirs = located("a", "b", "c", "d", "e"), located("a", "f", "g")
    with pytest.raises(LabelsError, match=r"2 without a prediction: f, g .*; 4 without .*: b, c, d and 1 more"):
        pair_up(ours, theirs, PairingOptions())
    allowed = pair_up(ours, theirs, PairingOptions(allow_missing=True, allow_extra=True))
    assert (allowed.missing, allowed.extra) == (("f", "g"), ("b", "c", "d", "e"))
    listed = pair_up(ours, theirs, PairingOptions(names=("a", "e"), allow_extra=True, excluded=frozenset({"e"})))
    assert (len(listed.pairs), listed.missing, listed.extra, listed.excluded) == (1, (), (), ("e",))
    part = pair_up(ours, theirs, PairingOptions(in_part=lambda name: name == "a"))
    assert (len(part.pairs), part.missing, part.extra) == (1, (), ())


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    pairing = pair_sources(f"{tmp_path}/a.png", f"{tmp_path}/b.png", PairingOptions())
    assert ([pair.key for pair in pairing.pairs], pairing.mode) == (["a"], "file")
