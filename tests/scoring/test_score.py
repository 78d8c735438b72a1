"""Whole comparisons: pairing, meanings, strictness, and what the result says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

import fcnseg
from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.conventions import CONTEXT_LABELS
from fcnseg.io.parts import Part
from fcnseg.labels import voc_color
from fcnseg.running.ledger import Ledger, Settled
from fcnseg.scoring.confusion import confusion
from fcnseg.scoring.measures import FIGURES, Tally
from fcnseg.scoring.writing import score_json
from fcnseg.types import Failure
from tests.scoring.maps import data_set, random_maps, save


def scored(predictions: Path, truth: Path, **options: Any) -> fcnseg.Score:
    return fcnseg.score(predictions, truth, **({"resamplings": 0} | options))


def one(folder: Path, truth: object, predicted: object, **options: Any) -> fcnseg.Score:
    """The score of one small pair."""
    save(folder / "gt/x.png", np.asarray(truth, np.uint8))
    save(folder / "pred/x.png", np.asarray(predicted, np.uint8))
    return scored(folder / "pred", folder / "gt", **options)


# ---------------------------------------------------------------------- figures


@pytest.mark.parametrize("classes", [1, 2, 21, 250])
def test_counts_are_summed_over_images(tmp_path: Path, classes: int) -> None:
    predictions, truth = data_set(tmp_path, 7, classes)
    total = sum(confusion(*random_maps(7 + i, classes), classes) for i in range(3))
    score = scored(predictions, truth, classes=str(classes))
    assert (score.confusion == total).all()
    for name, measure in FIGURES.items():
        assert getattr(score, name) == pytest.approx(float(measure(Tally.of(total))), abs=1e-12, nan_ok=True)
    assert score.images == 3
    assert score.pixels == total.sum()
    assert score.void_pixels == 3 * 13 * 17 - total.sum()


def test_labels_above_255_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 300, (2, 30, 40))
    save(tmp_path / "gt/x.png", truth.astype(np.uint16))
    save(tmp_path / "pred/x.png", predicted.astype(np.uint16))
    score = scored(tmp_path / "pred", tmp_path / "gt", classes="300")
    assert (score.confusion == confusion(truth, predicted, 300, ignore=65535)).all()


def test_any_number_of_threads_gives_the_same(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 3, 5, tuple(f"{i:03}" for i in range(40)))
    scores = [fcnseg.score(predictions, truth, classes="5", workers=n, boundary=True).as_dict() for n in (1, 4)]
    assert scores[0] == scores[1]


def parts_of(folder: Path, sides: tuple[Path, Path], count: int, **options: Any) -> list[fcnseg.Score]:
    """The scores of parts, and their files in `folder`."""
    folder.mkdir()
    parts = [fcnseg.score(*sides, num_parts=count, part_id=i, **options) for i in range(count)]
    for number, part in enumerate(parts):
        (folder / f"{number}.json").write_text(score_json(part))
    return parts


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    sides = data_set(tmp_path, 3, 5, tuple("abcdefgh"))
    save(sides[0] / "c.png", np.full((13, 17), 9, np.uint8))
    save(sides[1] / "e.png", np.full((13, 17), 255, np.uint8))
    options = {"classes": "5", "boundary": True, "allow_invalid": True, "allow_void": True}
    whole = fcnseg.score(*sides, **options)
    parts = parts_of(tmp_path / "parts", sides, 3, **options)
    assert (sum(p.confusion for p in parts) == whole.confusion).all()
    assert sum(p.images for p in parts) == whole.images == 6
    for path in sides[0].iterdir():
        path.write_bytes(b"")  # nothing is read again
    together = fcnseg.score(*sides, counted=str(tmp_path / "parts"), **options)
    assert whole.intervals["mean_iu"][0] < whole.mean_iu
    assert (together.all_void, together.exit_code) == (("e",), 3)
    assert _figures(together) == _figures(whole)


def _figures(score: fcnseg.Score) -> dict[str, Any]:
    values = score.as_dict()
    settings = values.pop("settings")
    values["settings"] = {k: v for k, v in settings.items() if k not in ("counted", "num_parts", "part_id")}
    return values


def test_parts_of_probabilities_and_heads_are_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abgh":  # two in each of two parts
        for head, classes in (("semantic", 33), ("geometric", 3)):
            save(tmp_path / f"gt/{head}/{name}.png", rng.integers(0, classes, (5, 6)).astype(np.uint8))
            (tmp_path / f"pred/{head}").mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / f"pred/{head}/{name}.npy", rng.dirichlet(np.ones(classes), (5, 6)).transpose(2, 0, 1))
    sides = tmp_path / "pred", tmp_path / "gt"
    parts_of(tmp_path / "parts", sides, 2, model="siftflow-fcn8s")
    whole = fcnseg.score(*sides, model="siftflow-fcn8s")
    (tmp_path / "parts/1.json").unlink()  # what is missing is counted
    together = fcnseg.score(*sides, model="siftflow-fcn8s", counted=[tmp_path / "parts"])
    for name, head in whole.heads.items():
        again = together.heads[name]
        assert head.calibration is not None
        assert again.calibration is not None
        assert again.calibration.expected_error == pytest.approx(head.calibration.expected_error, abs=1e-12)
        assert (again.confusion == head.confusion).all()
        assert again.intervals == head.intervals


def test_foreign_counts_are_refused(tmp_path: Path) -> None:
    sides = data_set(tmp_path, 3, 5, tuple("abgh"))
    parts_of(tmp_path / "parts", sides, 2, classes="5")
    first = tmp_path / "parts/0.json"
    for options, reason in (
        ({"ignore": (3,)}, r"0.json was scored with another ignore and ignored_values; score its images again"),
        ({"boundary": True}, "another boundary"),
        ({"counted": [first, first]}, "2 images that are in another file too: g, h"),
        ({"num_parts": 2, "part_id": 1}, "2 images that are not to be scored: g, h"),
        ({"counted": [tmp_path / "none.json"]}, "none.json cannot be read: No such file"),
        ({"counted": [sides[0]]}, "holds no .json files"),
        ({"counted": [sides[0] / "a.png"]}, "a.png is no score"),
    ):
        with pytest.raises(SettingsError, match=reason):
            scored(*sides, **({"classes": "5", "counted": [first]} | options))
    values = json.loads(first.read_text())
    values["image_scores"][0]["class_counts"] = [[7, 1, 1, 1]]
    first.write_text(json.dumps(values))
    with pytest.raises(SettingsError, match="is no score"):
        scored(*sides, classes="5", counted=[first])


def test_a_part_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="part 1 of 3 has no pair"):
        scored(*data_set(tmp_path, 3, 5, ("a", "b")), classes="5", num_parts=3, part_id=1)


def test_parts_are_those_of_the_run_that_predicted(tmp_path: Path) -> None:
    names = [f"{i:02}" for i in range(20)]
    sides = data_set(tmp_path, 3, 5, tuple(names))
    images = [f"{name}{'.tif' if int(name) % 3 == 0 else '.jpg'}" for name in names]
    parts = {part: list(filter(part.has, images)) for part in (Part(0, 2), Part(1, 2))}
    (sides[0] / ".fcnseg").mkdir()
    for part, keys in parts.items():
        with Ledger(sides[0] / f".fcnseg/ledger{part.name}.sqlite", sides[0]) as ledger:
            ledger.settle([Settled(key, "s", failure=Failure(key, "load", "why")) for key in keys])
    for part, keys in parts.items():
        score = scored(*sides, classes="5", num_parts=2, part_id=part.index)
        assert [image.key for image in score.image_scores] == [key[:2] for key in keys]


def test_only_what_is_missing_of_the_part_is_an_error(tmp_path: Path) -> None:
    sides = data_set(tmp_path, 3, 5, tuple("abgh"))
    (sides[0] / "a.png").unlink()
    (sides[1] / "b.png").unlink()
    part = scored(*sides, classes="5", num_parts=2, part_id=0)
    assert ([image.key for image in part.image_scores], part.exit_code) == (["g", "h"], 0)
    with pytest.raises(LabelsError, match=r"1 without a prediction: a .*1 without a ground truth: b"):
        scored(*sides, classes="5", num_parts=2, part_id=1)


def test_intervals_hold_the_figure_and_repeat(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 3, 5, tuple(f"{i}" for i in range(30)))
    score = fcnseg.score(predictions, truth, classes="5")
    for name, (low, high) in score.intervals.items():
        assert low < getattr(score, name) < high
    assert fcnseg.score(predictions, truth, classes="5").intervals == score.intervals
    only = scored(predictions, truth, classes="5", num_parts=30, part_id=2, resamplings=50)
    assert (only.intervals, only.per_class[0].iu_interval) == ({}, None)  # one image says nothing of others


def test_absent_classes_are_named(tmp_path: Path) -> None:
    score = one(tmp_path, [[0, 1]], [[0, 2]], classes="4")
    assert score.absent == ("class 2", "class 3")
    assert score.mean_iu == pytest.approx(1 / 3)
    assert score.as_dict()["per_class"][3]["iu"] is None


def test_one_pixel(tmp_path: Path) -> None:
    score = one(tmp_path, [[0]], [[0]], classes="1", boundary=True)
    assert score.mean_iu == score.pixel_accuracy == score.boundary_iu == 1
    assert np.isnan(score.kappa)


def test_probabilities_are_scored_and_calibrated(tmp_path: Path) -> None:
    truth = np.array([[0, 1, 2, 255]], np.uint8)
    save(tmp_path / "gt/x.png", truth)
    probabilities = np.array([[[0.8, 0.3, 0.1, 1]], [[0.1, 0.6, 0.5, 0]], [[0.1, 0.1, 0.4, 0]]], np.float16)
    (tmp_path / "pred").mkdir()
    np.save(tmp_path / "pred/x.npy", probabilities)
    score = scored(tmp_path / "pred", tmp_path / "gt", classes="3")
    assert score.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert score.calibration is not None
    assert score.calibration.expected_error == pytest.approx((0.2 + 0.4 + 0.5) / 3, abs=1e-3)
    assert sum(b.pixels for b in score.calibration.bins) == 3
    for wrong, reason in (
        (probabilities[:2], "2 classes"),
        (probabilities - 3, "-3"),
        (probabilities * np.nan, "finite"),
    ):
        np.save(tmp_path / "pred/x.npy", wrong)
        with pytest.raises(LabelsError, match=reason):
            scored(tmp_path / "pred", tmp_path / "gt", classes="3")


def test_the_most_probable_classes_alone_are_calibrated_too(tmp_path: Path) -> None:
    save(tmp_path / "gt/x.png", np.array([[0, 1, 255]], np.uint8))
    (tmp_path / "pred").mkdir()
    classes, probabilities = np.array([[[0, 2, 1]]], np.uint8), np.array([[[0.75, 0.5, 1]]], np.float16)
    np.savez(tmp_path / "pred/x.npz", classes=classes, probabilities=probabilities)
    with h5py.File(tmp_path / "top.h5", "w") as h5:
        h5["x.jpg"], h5["x.jpg.classes"] = probabilities, classes
    for predictions in (tmp_path / "pred", tmp_path / "top.h5"):
        score = scored(predictions, tmp_path / "gt", classes="3")
        assert score.pixel_accuracy == 0.5
        assert score.calibration is not None
        assert score.calibration.expected_error == pytest.approx((0.25 + 0.5) / 2)


# ---------------------------------------------------------------------- pairing


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


def test_names_of_any_bytes_are_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xe2\x82\xac")
    predictions, truth = data_set(tmp_path, 1, 3, (name,))
    score = scored(predictions, truth, classes="3")
    assert json.loads(score_json(score).encode())["image_scores"][0]["key"] == name


def test_heads_in_a_volume_are_scored(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "pred.h5", "w") as h5:
        for head in ("semantic", "geometric"):
            h5[f"{head}/x.jpg"] = np.array([[0, 1, 2, 2]], np.uint8)
            save(tmp_path / "gt" / head / "x.png", np.array([[0, 1, 2, 1]], np.uint8))
    assert scored(tmp_path / "pred.h5", tmp_path / "gt", model="siftflow-fcn8s").geometric_accuracy == 0.75


def test_empty_and_missing_folders_are_named(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    (tmp_path / "none").mkdir()
    with pytest.raises(LabelsError, match="none holds no label maps"):
        scored(tmp_path / "none", truth, classes="3")
    with pytest.raises(LabelsError, match=r"there is no .*nowhere"):
        scored(predictions, tmp_path / "nowhere", classes="3")


# ---------------------------------------------------------------------- strictness


STRICT: dict[str, tuple[object, object, dict[str, Any], str]] = {
    "a prediction out of range": ([[0, 1]], [[0, 7]], {}, r"pred/x.png has label 7 on 1 pixels, .* 0 to 2"),
    "ground truth out of range": ([[9, 9]], [[0, 0]], {}, r"gt/x.png has label 9 on 2 pixels"),
    "several values": ([[0, 0, 0]], [[7, 8, 8]], {}, "and 1 more value"),
    "out of range under void": ([[0, 255]], [[0, 7]], {}, "label 7"),
    "void where the truth is not": ([[0, 0]], [[0, 255]], {}, "label 255"),
    "sizes": ([[0, 1, 1]], [[0, 1]], {}, "is 2 x 1, but .* 3 x 1"),
    "turned": ([[0, 1]], [[0], [1]], {}, "turned"),
    "all void": ([[255, 255]], [[0, 1]], {}, "all void"),
    "counted from one": ([[0, 3]], [[0, 1]], {}, "--reduce-labels"),
    "binary": ([[0, 1]], [[0, 255]], {"classes": "2"}, "--binary"),
    "binary truth": ([[0, 255]], [[0, 1]], {"classes": "2"}, "--binary takes 255 as class 1"),
}


@pytest.mark.parametrize("name", STRICT)
def test_what_cannot_be_compared_is_named(name: str, tmp_path: Path) -> None:
    truth, predicted, options, reason = STRICT[name]
    with pytest.raises(LabelsError, match=reason) as refused:
        one(tmp_path, truth, predicted, **({"classes": "3"} | options))
    assert refused.value.exit_code == 2


def test_void_may_be_copied_into_predictions(tmp_path: Path) -> None:
    assert one(tmp_path, [[0, 255]], [[0, 255]], classes="3").pixel_accuracy == 1


def test_invalid_pairs_are_left_out_only_when_allowed(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3, tuple("abcdef"))
    for name in "abcd":
        save(predictions / f"{name}.png", np.full((13, 17), 9, np.uint8))
    save(truth / "e.png", np.full((13, 17), 255, np.uint8))
    with pytest.raises(LabelsError, match=r"5 of 6 pairs .* and 2 more .*--allow-invalid and --allow-void"):
        scored(predictions, truth, classes="3")
    score = scored(predictions, truth, classes="3", allow_invalid=True, allow_void=True)
    assert (score.images, score.all_void, len(score.invalid), score.exit_code) == (1, ("e",), 4, 3)
    assert "label 9" in score.invalid[0].reason


# ---------------------------------------------------------------------- meanings


def test_binary_masks(tmp_path: Path) -> None:
    score = one(tmp_path, [[0, 255, 255]], [[0, 1, 0]], binary=True)
    assert score.confusion.tolist() == [[1, 0], [1, 1]]
    assert score.per_class[1].name == "foreground"


def test_ignored_values_do_not_count(tmp_path: Path) -> None:
    score = one(tmp_path, [[0, 1, 11, 12]], [[0, 1, 2, 2]], classes="3", ignore=(11, 12))
    assert (score.pixels, score.void_pixels) == (2, 2)
    score = one(tmp_path, [[0, 1, 1]], [[0, 0, 1]], classes="3", ignore=(0,))
    assert score.excluded_classes == ("class 0",)
    assert score.mean_iu == 0.5


def test_reduced_labels(tmp_path: Path) -> None:
    score = one(tmp_path, [[0, 1, 3, 255]], [[0, 0, 2, 1]], classes="3", reduce_labels=True)
    assert score.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    score = one(tmp_path, [[0, 254, 255]], [[0, 253, 254]], classes="255", reduce_labels=True)
    assert (score.pixels, score.pixel_accuracy, score.excluded_classes) == (2, 1, ())  # 255 is a class, not void
    with pytest.raises(LabelsError, match="label 4 on 1 pixels, but labels are 1 to 3, and 0 for void"):
        one(tmp_path, [[0, 1, 4]], [[0, 0, 2]], classes="3", reduce_labels=True)


def test_a_label_map_translates_ground_truth(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("road\ncar\n")
    (tmp_path / "map.txt").write_text("# cityscapes\n7: road\n26 = car\n0, void\n-1: 255\n")
    options = {"classes": str(tmp_path / "classes.txt"), "label_map": tmp_path / "map.txt"}
    assert one(tmp_path, [[7, 26, 0]], [[0, 0, 1]], **options).confusion.tolist() == [[1, 0], [1, 0]]
    with pytest.raises(LabelsError, match="label 8 on 1 pixels, but the label map"):
        one(tmp_path, [[7, 8]], [[0, 0]], **options)
    (tmp_path / "map.json").write_text('{"7": "road", "26": 1, "0": "void"}')
    in_json = options | {"label_map": tmp_path / "map.json"}
    assert one(tmp_path, [[7, 26, 0]], [[0, 0, 1]], **in_json).confusion.tolist() == [[1, 0], [1, 0]]
    (tmp_path / "map.json").write_text("[7, 26]")
    with pytest.raises(SettingsError, match="no JSON object"):
        one(tmp_path, [[7, 26, 0]], [[0, 0, 1]], **in_json)
    (tmp_path / "map.txt").write_text("7: road\nseven: car\n7: car\n9: boat\n")
    with pytest.raises(SettingsError, match="'seven: car', '7: car', '9: boat' is not understood"):
        one(tmp_path, [[7, 26]], [[0, 0]], **options)


def test_a_label_map_may_make_void_a_class_and_classes_void(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("0: 0\n1: 1\n7: 1\n255: 2\n")
    options = {"classes": "3", "label_map": tmp_path / "map.txt"}
    assert one(tmp_path, [[0, 1, 255, 255]], [[0, 1, 2, 0]], **options).confusion.tolist() == [
        [1, 0, 0], [0, 1, 0], [1, 0, 1]
    ]  # fmt: skip
    score = one(tmp_path, [[0, 1, 7]], [[0, 1, 2]], ignore=(7,), **options)
    assert (score.pixels, score.excluded_classes) == (2, ())  # 1 is class 1 still
    with pytest.raises(SettingsError, match="255 is both a class and ignored"):
        one(tmp_path, [[0, 1]], [[0, 1]], ignore=(255,), **options)


def test_a_label_map_translates_predictions_too(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("7: 0\n26: 1\n0: void\n")
    options = {"classes": "2", "pred_label_map": tmp_path / "map.txt"}
    assert one(tmp_path, [[0, 1, 255]], [[7, 7, 0]], **options).confusion.tolist() == [[1, 0], [1, 0]]
    for predicted, reason in (([[7, 8]], "label 8 on 1"), ([[7, 0]], "label 0 on 1")):
        with pytest.raises(LabelsError, match=rf"pred/x.png has {reason} pixels, but the label map has no class"):
            one(tmp_path, [[0, 1]], predicted, **options)
    (tmp_path / "pred/x.png").unlink()
    np.save(tmp_path / "pred/x.npy", np.ones((1, 1, 2)))
    with pytest.raises(LabelsError, match="probabilities; --pred-label-map is for label maps"):
        scored(tmp_path / "pred", tmp_path / "gt", **options)


def test_masks_saved_as_colours_are_masks(tmp_path: Path) -> None:
    mask = np.array([[0, 255, 255]], np.uint8)
    assert one(tmp_path, np.repeat(mask[..., None], 3, 2), mask, binary=True).pixel_accuracy == 1


def test_colours_of_two_classes_are_of_none(tmp_path: Path) -> None:
    save(tmp_path / "gt/x.png", np.array([[voc_color(1), voc_color(299 - 256)]], np.uint8))
    save(tmp_path / "pred/x.png", np.array([[1, 299]], np.uint16))
    with pytest.raises(LabelsError, match="2 colours that no one class has"):
        scored(tmp_path / "pred", tmp_path / "gt", classes="300")


def test_options_for_labels_do_not_pass_over_colours(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="has colours; --label-map and --reduce-labels are for labels"):
        one(tmp_path, [[voc_color(1)]], [[1]], classes="3", reduce_labels=True)


def test_colours_are_read_by_the_models_palette(tmp_path: Path) -> None:
    colors = np.array([[voc_color(0), voc_color(15), voc_color(255)]], np.uint8)
    save(tmp_path / "gt/x.png", colors)
    save(tmp_path / "pred/x.png", np.array([[0, 15, 3]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="voc-fcn8s")
    assert (score.pixels, score.pixel_accuracy) == (2, 1)
    colors[0, 0] = (9, 8, 7)
    save(tmp_path / "gt/x.png", colors)
    with pytest.raises(LabelsError, match=r"gt/x.png has 1 colour .* on 1 pixels, the commonest \(9, 8, 7\)"):
        scored(tmp_path / "pred", tmp_path / "gt", model="voc-fcn8s")


def test_colours_are_read_by_a_palette_file(tmp_path: Path) -> None:
    save(tmp_path / "gt/x.png", np.array([[(64, 128, 64), (0, 0, 0), (1, 2, 3)]], np.uint8))
    save(tmp_path / "pred/x.png", np.array([[5, 3, 0]], np.uint8))
    (tmp_path / "colors.txt").write_text("64 128 64\tTree\n1 2 3 0\nvoid 0 0 0\n")
    score = scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", palette=tmp_path / "colors.txt")
    assert (score.pixels, score.void_pixels, score.pixel_accuracy) == (2, 1, 1)
    (tmp_path / "colors.txt").write_text("\n".join(f"{i} {i} {i + 1}" for i in range(11)))  # in the classes' order
    save(tmp_path / "gt/x.png", np.array([[(5, 5, 6), (0, 0, 1), (10, 10, 11)]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", palette=tmp_path / "colors.txt")
    assert [score.confusion[i, j] for i, j in ((5, 5), (0, 3), (10, 0))] == [1, 1, 1]
    (tmp_path / "colors.txt").write_text("64 128 Tree\n")
    with pytest.raises(SettingsError, match="not understood"):
        scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", palette=tmp_path / "colors.txt")


def test_indexed_images_must_show_the_models_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    street, voc = (fcnseg.find_recipe(name).heads[0].labels for name in ("street-fcn8s", "voc-fcn8s"))
    save(tmp_path / "pred/x.png", labels, street.palette)
    save(tmp_path / "gt/x.png", labels, voc.palette)
    with pytest.raises(LabelsError, match=r"draws label 0 in .*, but sky is"):
        scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s")
    assert scored(tmp_path / "pred", tmp_path / "gt", model="street-fcn8s", any_palette=True).images == 1


def test_siftflow_by_its_conventions(tmp_path: Path) -> None:
    for head, folder in (("semantic", "SemanticLabels"), ("geometric", "GeoLabels")):
        for name in ("coast_1", "highway_bost181"):
            (tmp_path / f"gt/{folder}/spatial").mkdir(parents=True, exist_ok=True)
            values = np.array([[0, 6, 2]]) if head == "semantic" else np.array([[-1, 1, 3]])
            values = np.zeros_like(values) if name != "coast_1" else values
            scipy.io.savemat(tmp_path / f"gt/{folder}/spatial/{name}.mat", {"S": values.astype(float)})
            save(
                tmp_path / f"pred/{head}/{name}.png",
                np.array([[0, 5, 8]] if head == "semantic" else [[0, 0, 2]], np.uint8),
            )
    score = scored(tmp_path / "pred", tmp_path / "gt", model="siftflow-fcn16s")
    assert set(score.heads) == {"semantic", "geometric"}
    assert score.geometric_accuracy == 1
    assert score.excluded_images == ("highway_bost181",)
    assert score.excluded_classes == ("cow", "desert", "moon")
    assert score.mean_iu == 0.5  # building 1, balcony 0; cow, which was predicted, does not count
    assert score.exit_code == 0
    assert scored(tmp_path / "pred", tmp_path / "gt", model="siftflow-fcn16s", head="geometric").pixel_accuracy == 1
    with pytest.raises(SettingsError, match="has no head depth"):
        scored(tmp_path / "pred", tmp_path / "gt", model="siftflow-fcn16s", head="depth")


def test_nyud_and_pascal_context_by_their_variables(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[0, 1, 40]], np.uint8)})
    save(tmp_path / "pred/x.png", np.array([[7, 0, 39]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="nyud-fcn32s-color")
    assert (score.pixels, score.pixel_accuracy) == (2, 1)
    labels = [[1, CONTEXT_LABELS["aeroplane"], CONTEXT_LABELS["wood"], CONTEXT_LABELS["diningtable"]]]
    scipy.io.savemat(tmp_path / "gt/x.mat", {"LabelMap": np.array(labels, np.uint16)})
    save(tmp_path / "pred/x.png", np.array([[0, 1, 59, 11]], np.uint8))
    assert scored(tmp_path / "pred", tmp_path / "gt", model="pascalcontext-fcn8s").pixel_accuracy == 1
    score = scored(tmp_path / "pred", tmp_path / "gt", model="pascalcontext-fcn8s", ignore=(458,))
    assert (score.pixels, score.excluded_classes) == (3, ("wood",))
    (tmp_path / "gt/x.mat").unlink()
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[0, 1, 40]], np.uint8)})
    save(tmp_path / "pred/x.png", np.array([[7, 0, 39]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", model="nyud-fcn32s-color", ignore=(1,))
    assert (score.pixels, score.excluded_classes) == (1, ("wall",))


def test_labels_of_matlab_count_from_one_only_in_the_data_sets_that_do(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    save(tmp_path / "pred/x.png", np.array([[0, 0, 2]], np.uint8))
    for variable, value, model in (
        ("S", -5.0, "siftflow-fcn8s"), ("S", np.inf, "siftflow-fcn8s"), ("segmentation", -1.0, "nyud-fcn32s-color")
    ):  # fmt: skip
        scipy.io.savemat(tmp_path / "gt/x.mat", {variable: np.array([[value, 1, 3]])})
        with pytest.raises(LabelsError, match=r"label -[15] on 1 pixels, but labels are 1 to |whole numbers"):
            scored(tmp_path / "pred", tmp_path / "gt", model=model, head="semantic" if variable == "S" else None)
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[0, 0, 2]])})
    assert scored(tmp_path / "pred", tmp_path / "gt", classes="3").pixel_accuracy == 1
    scipy.io.savemat(tmp_path / "gt/x.mat", {"segmentation": np.array([[1, 1, 3]])})
    with pytest.raises(LabelsError, match=r"label 3 on 1 pixels, .*--reduce-labels"):
        scored(tmp_path / "pred", tmp_path / "gt", classes="3")
    assert scored(tmp_path / "pred", tmp_path / "gt", classes="3", reduce_labels=True).pixel_accuracy == 1


def test_volumes_of_matlab_are_read_column_by_column(tmp_path: Path) -> None:
    labels = np.array([[[0, 1, 2], [2, 1, 0]], [[1, 1, 1], [0, 0, 0]]], np.uint16)  # N x H x W
    with h5py.File(tmp_path / "labeled.mat", "w") as h5:
        h5["labels"] = labels.transpose(0, 2, 1)
        h5["depths"] = np.zeros((2, 3, 2), np.float32)
    for number, values in enumerate(labels):
        save(tmp_path / f"pred/{number:06}.png", values.astype(np.uint8))
    score = scored(tmp_path / "pred", Path(f"{tmp_path}/labeled.mat::/labels"), classes=3)
    assert (score.images, score.pixel_accuracy) == (2, 1)


def test_negative_values_may_be_void(tmp_path: Path) -> None:
    predictions, truth = tmp_path / "pred.npy", tmp_path / "gt.npy"
    np.save(truth, np.array([[-1, 0, 1]], np.int32))
    np.save(predictions, np.array([[0, 0, 1]], bool))
    with pytest.raises(LabelsError, match="label -1 on 1 pixels"):
        scored(predictions, truth, classes=2)
    assert scored(predictions, truth, classes=2, ignore=(-1,)).pixels == 2


def test_predictions_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    (predictions / ".fcnseg").mkdir()
    record = {"engine": {"heads": {"labels": ["a", "b", "c"]}}}
    (predictions / ".fcnseg/run.json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match="with 3 classes, but 21"):
        scored(predictions, truth, model="voc-fcn8s")
    assert scored(predictions, truth, classes="3").images == 3
    names = [*fcnseg.find_recipe("voc-fcn8s").heads[0].labels.names]
    record["engine"]["heads"]["labels"] = [names[0], *names[2:], names[1]]
    (predictions / ".fcnseg/run.json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=r"with bicycle as class 1, but that is aeroplane here; .*--pred-label-map"):
        scored(predictions, truth, model="voc-fcn8s")
    (tmp_path / "map.txt").write_text("0: background\n1: bicycle\n2: bird\n")
    score = scored(predictions, truth, model="voc-fcn8s", pred_label_map=tmp_path / "map.txt")
    assert score.per_class[1].predicted_pixels == 0


def test_whose_classes_were_taken_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"classes are those of street-fcn8s, --model names others"):
        one(tmp_path, [[0, 15]], [[0, 15]])
