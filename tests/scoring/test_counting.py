"""Counts of pairs and of data sets, and pairs that cannot be counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fcnseg.errors import LabelsError
from fcnseg.scoring.confusion import confusion
from fcnseg.scoring.measures import FIGURES, Tally
from tests.scoring.maps import data_set, random_maps, save, score_pair, scored


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
        score_pair(tmp_path, truth, predicted, **({"classes": "3"} | options))
    assert refused.value.exit_code == 2


def test_void_may_be_copied_into_predictions(tmp_path: Path) -> None:
    assert score_pair(tmp_path, [[0, 255]], [[0, 255]], classes="3").pixel_accuracy == 1
