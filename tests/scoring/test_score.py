"""Whole scores: figures, intervals, and what is left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import fcnseg
from fcnseg.errors import LabelsError
from fcnseg.scoring.writing import score_json
from tests.scoring.maps import data_set, save, score_pair, scored


def test_any_number_of_threads_gives_the_same(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 3, 5, tuple(f"{i:03}" for i in range(40)))
    scores = [fcnseg.score(predictions, truth, classes="5", workers=n, boundary=True).as_dict() for n in (1, 4)]
    assert scores[0] == scores[1]


def test_intervals_hold_the_figure_and_repeat(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 3, 5, tuple(f"{i}" for i in range(30)))
    score = fcnseg.score(predictions, truth, classes="5")
    for name, (low, high) in score.intervals.items():
        assert low < getattr(score, name) < high
    assert fcnseg.score(predictions, truth, classes="5").intervals == score.intervals
    only = scored(predictions, truth, classes="5", num_parts=30, part_id=2, resamplings=50)
    assert (only.intervals, only.per_class[0].iu_interval) == ({}, None)  # one image says nothing of others


def test_absent_classes_are_named(tmp_path: Path) -> None:
    score = score_pair(tmp_path, [[0, 1]], [[0, 2]], classes="4")
    assert score.absent == ("class 2", "class 3")
    assert score.mean_iu == pytest.approx(1 / 3)
    assert score.as_dict()["per_class"][3]["iu"] is None


def test_one_pixel(tmp_path: Path) -> None:
    score = score_pair(tmp_path, [[0]], [[0]], classes="1", boundary=True)
    assert score.mean_iu == score.pixel_accuracy == score.boundary_iu == 1
    assert np.isnan(score.kappa)


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


def test_names_of_any_bytes_are_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xe2\x82\xac")
    predictions, truth = data_set(tmp_path, 1, 3, (name,))
    score = scored(predictions, truth, classes="3")
    assert json.loads(score_json(score).encode())["image_scores"][0]["key"] == name
