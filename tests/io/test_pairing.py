"""Label maps found by name, and pairs of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.pairing import PairingOptions, find_maps, pair_sources, pair_up
from fcnseg.io.raw_map import MapLocation
from tests.io.image_files import touch, without_privileges
from tests.scoring.maps import data_set, random_maps, save, scored


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


# ---------------------------------------------------------------------- pairs of whole scores


def test_names_pair_by_path_then_by_stem(tmp_path: Path) -> None:
    for folder, name in (("pred/a", "x"), ("pred/b", "x"), ("gt/a", "x"), ("gt/b", "x")):
        save(tmp_path / folder / f"{name}.png", np.zeros((2, 2), np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", classes="2")
    assert (score.images, score.settings["paired_by"]) == (2, "path")
    with pytest.raises(LabelsError, match="2 candidates for x"):
        scored(tmp_path / "pred", tmp_path / "gt", classes="2", pair="stem")
    score = scored(tmp_path / "pred/a", tmp_path / "gt/b", classes="2")
    assert score.images == 1
    (tmp_path / "deep").mkdir()
    (tmp_path / "pred/a").rename(tmp_path / "deep/other")
    score = scored(tmp_path / "deep", tmp_path / "gt/a", classes="2")
    assert score.settings["paired_by"] == "stem"


def test_missing_and_extra_files_are_errors_unless_allowed(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3, ("a", "b", "c"))
    (predictions / "a.png").unlink()
    (truth / "c.png").unlink()
    with pytest.raises(LabelsError, match=r"1 without a prediction: a .*1 without a ground truth: c"):
        scored(predictions, truth, classes="3")
    score = scored(predictions, truth, classes="3", allow_missing=True, allow_extra=True)
    assert (score.missing, score.extra, score.images, score.exit_code) == (("a",), ("c",), 1, 3)


def test_a_list_says_what_is_scored(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3, ("a", "b", "c"))
    (tmp_path / "val.txt").write_text("# a comment\na\n./c.png\r\n\n")
    score = scored(predictions, truth, classes="3", list=tmp_path / "val.txt")
    assert [s.key for s in score.image_scores] == ["a", "c"]
    assert score.exit_code == 0
    (tmp_path / "val.txt").write_text("a\nd\n")
    with pytest.raises(LabelsError, match="1 without a prediction: d"):
        scored(predictions, truth, classes="3", list=tmp_path / "val.txt")
    (tmp_path / "val.txt").write_text("a\na\n")
    with pytest.raises(SettingsError, match="a twice"):
        scored(predictions, truth, classes="3", list=tmp_path / "val.txt")


def test_patterns_say_how_files_are_named(tmp_path: Path) -> None:
    labels = np.zeros((2, 2), np.uint8)
    save(tmp_path / "pred/city/city_01_leftImg8bit.png", labels)
    for kind in ("labelIds", "color", "instanceIds"):
        save(tmp_path / f"gt/city/city_01_gtFine_{kind}.png", labels)
    patterns = {"pred_pattern": "{stem}_leftImg8bit.png", "gt_pattern": "{stem}_gtFine_labelIds.png"}
    score = scored(tmp_path / "pred", tmp_path / "gt", classes="2", **patterns)
    assert [s.key for s in score.image_scores] == ["city/city_01"]
    with pytest.raises(SettingsError, match="stem"):
        scored(tmp_path / "pred", tmp_path / "gt", classes="2", gt_pattern="*.png")
    with pytest.raises(LabelsError, match="the ones are like 'city/city_01_leftImg8bit'"):
        scored(tmp_path / "pred", tmp_path / "gt", classes="2")


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3, ("a",))
    np.save(predictions / "a.npy", np.zeros((13, 17), np.uint8))
    with pytest.raises(LabelsError, match="2 candidates for a"):
        scored(predictions, truth, classes="3")


def test_volumes_and_single_files_pair_too(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 5, 3, ("a", "b"))
    folders = scored(predictions, truth, classes="3")
    with h5py.File(tmp_path / "pred.h5", "w") as h5:
        for seed, name in ((5, "a.jpg"), (6, "b.jpg")):
            h5[f"labels/{name}"] = random_maps(seed, 3)[1].astype(np.uint8)
    assert (scored(Path(f"{tmp_path}/pred.h5::labels"), truth, classes="3").confusion == folders.confusion).all()
    assert (scored(tmp_path / "pred.h5", truth, classes="3").confusion == folders.confusion).all()
    assert scored(predictions / "a.png", truth / "b.png", classes="3").images == 1


def test_hidden_records_are_no_predictions(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    save(predictions / ".fcnseg/legend.png", np.zeros((9, 9), np.uint8))
    assert scored(predictions, truth, classes="3").images == 3


def test_folders_that_hold_themselves_are_searched_once(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    (predictions / "again").symlink_to(predictions)
    assert scored(predictions, truth, classes="3").images == 3


def test_empty_and_missing_folders_are_named(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    (tmp_path / "none").mkdir()
    with pytest.raises(LabelsError, match="none holds no label maps"):
        scored(tmp_path / "none", truth, classes="3")
    with pytest.raises(LabelsError, match=r"there is no .*nowhere"):
        scored(predictions, tmp_path / "nowhere", classes="3")
