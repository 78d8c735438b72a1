"""Predictions that abstain, or number the classes otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnseg
from fcnseg.errors import LabelsError, SettingsError
from fcnseg.scoring.numbering import misnumbering
from fcnseg.scoring.result import score_json
from tests.scoring.maps import data_set, random_maps, save, score_pair, scored

NAMES = tuple("abcdefgh")


@pytest.mark.parametrize("text", ["255: void\n", "0: 0\n1: 1\n255: void\n", "0: 0\n1: 1\n200-255: void\n"])
def test_a_predicted_void_misses_the_class_and_is_nobodys(tmp_path: Path, text: str) -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 1
    predicted = truth.copy()
    predicted[:5] = 255
    (tmp_path / "map.txt").write_text(text)
    score = score_pair(tmp_path, truth, predicted, classes=2, pred_label_map=tmp_path / "map.txt", boundary=True)
    assert [row.iu for row in score.per_class] == [1, 0.75]
    assert [row.predicted_void_pixels for row in score.per_class] == [0, 200]
    assert [row.precision for row in score.per_class] == [1, 1]
    assert (score.mean_iu, score.pixel_accuracy, score.pixels) == (0.875, 0.875, 1600)
    assert score.confusion.sum() + score.predicted_void_pixels == score.pixels
    with pytest.raises(LabelsError, match=r"label 255 on 200 pixels.*`255: void` in the file of --pred-label-map"):
        score_pair(tmp_path, truth, predicted, classes=2)


def test_void_ground_truth_under_a_predicted_void_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("255: void\n")
    score = score_pair(tmp_path, [[0, 1, 255, 255]], [[0, 1, 255, 1]], classes=2, pred_label_map=tmp_path / "map.txt")
    assert (score.pixels, score.void_pixels, score.predicted_void_pixels, score.mean_iu) == (2, 2, 0, 1)


def test_parts_add_up_predicted_voids(tmp_path: Path) -> None:
    sides = data_set(tmp_path, 3, 3, tuple("abgh"))
    (tmp_path / "map.txt").write_text("2: void\n")
    options: dict[str, Any] = {"classes": 3, "pred_label_map": tmp_path / "map.txt"}
    for part in range(2):
        text = score_json(scored(*sides, num_parts=2, part_id=part, **options))
        (tmp_path / f"parts{part}.json").write_text(text)
    whole = scored(*sides, **options).as_dict()
    together = scored(*sides, counted=[tmp_path / f"parts{part}.json" for part in range(2)], **options).as_dict()
    assert whole["predicted_void_pixels"] > 0
    assert {k: v for k, v in together.items() if k != "settings"} == {k: v for k, v in whole.items() if k != "settings"}


def test_diff_counts_predicted_voids_as_score_does(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("255: void\n")
    for side, values in (("gt", [[0, 1, 1, 1]]), ("a", [[0, 255, 1, 0]]), ("b", [[0, 1, 255, 0]])):
        save(tmp_path / side / "x.png", np.array(values, np.uint8))
    options: dict[str, Any] = {"classes": 2, "pred_label_map": tmp_path / "map.txt"}
    found = fcnseg.diff(tmp_path / "a", tmp_path / "b", truth=tmp_path / "gt", **options)
    assert found.truth is not None
    scores = [scored(tmp_path / run, tmp_path / "gt", **options) for run in "ab"]
    assert found.truth.mean_iu == tuple(score.mean_iu for score in scores)
    assert (found.truth.helped, found.truth.hurt, found.truth.neither) == (1, 1, 0)


def test_both_sides_may_count_from_one(tmp_path: Path) -> None:
    truth, predicted = [[1, 2, 3, 0]], [[1, 2, 3, 3]]
    score = score_pair(tmp_path, truth, predicted, classes=4, reduce_labels=True)
    assert score.pixel_accuracy == 0
    (warning,) = score.warnings
    assert "3 classes are 1 above the ground truth; --reduce-pred-labels" in warning
    score = score_pair(tmp_path, truth, predicted, classes=4, reduce_labels=True, reduce_pred_labels=True)
    assert (score.pixel_accuracy, score.warnings, score.pixels) == (1, (), 3)
    score = score_pair(tmp_path, [[1, 2, 3]], [[0, 1, 2]], classes=4)
    assert "1 below the ground truth; --reduce-labels" in score.warnings[0]
    with pytest.raises(LabelsError, match=r"label 3 on 2 pixels.*--reduce-pred-labels"):
        score_pair(tmp_path, truth, predicted, classes=3, reduce_labels=True)
    with pytest.raises(SettingsError, match="reduce-pred-labels each say how values are read"):
        score_pair(tmp_path, truth, predicted, classes=3, reduce_pred_labels=True, pred_labels="voc")


def counts_of(mapping: list[int], noise: float = 0.1, classes: int = 8) -> np.ndarray[Any, Any]:
    truth = np.random.default_rng(0).integers(0, classes, 5000)
    predicted = np.array(mapping)[truth]
    wrong = np.random.default_rng(1).random(5000) < noise
    predicted = np.where(wrong, np.random.default_rng(2).integers(0, classes, 5000), predicted)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 0], "7 classes are 1 above"),
        ([2, 3, 4, 5, 6, 7, 0, 1], "6 classes are 2 above"),
        ([1, 0, 2, 3, 4, 5, 6, 7], "exchanged: a is predicted as b, b is predicted as a;"),
        (
            [7, 6, 5, 4, 3, 2, 1, 0],
            "exchanged: a is predicted as h, b is predicted as g, c is predicted as f and 5 more",
        ),
    ],
)
def test_another_numbering_that_fits_is_named(mapping: list[int], expected: str) -> None:
    warning = misnumbering(counts_of(mapping), NAMES)
    assert warning is not None
    assert expected in warning


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.7, 1.0])
def test_mediocre_predictions_are_not_suspected(noise: float) -> None:
    assert misnumbering(counts_of([*range(8)], noise), NAMES) is None
    assert misnumbering(counts_of([0] * 8, noise), NAMES) is None
    assert misnumbering(counts_of([0, 0, 2, 2, 4, 4, 6, 6], noise), NAMES) is None


def test_a_class_of_one_image_has_no_interval(tmp_path: Path) -> None:
    for number in range(6):
        truth, predicted = random_maps(number, 3)
        if number == 2:
            truth[:4], predicted[:2] = 3, 3
        save(tmp_path / f"gt/{number}.png", truth.astype(np.uint8))
        save(tmp_path / f"pred/{number}.png", predicted.astype(np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", classes=5, resamplings=200)
    assert [row.iu_interval is None for row in score.per_class] == [False, False, False, True, True]
    assert score.as_dict()["per_class"][3]["iu_interval"] is None


def test_what_is_averaged_is_said(tmp_path: Path) -> None:
    score = score_pair(tmp_path, [[0, 0, 1, 1]], [[0, 0, 1, 2]], classes=7)
    assert score.averaged_over == {"mean_iu": 3, "mean_dice": 3, "mean_accuracy": 2}
    assert score.predicted_only == ("class 2",)
    assert score.mean_iu == pytest.approx((1 + 0.5 + 0) / 3)
