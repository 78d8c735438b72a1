"""Whole scores: which pairs they are made of, figures, intervals, and what is left out."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

import fcnseg
from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.parts import Part
from fcnseg.running.ledger import SqliteLedger
from fcnseg.scoring.result import _table, score_json
from fcnseg.types import Failure, Settled
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
        with SqliteLedger(sides[0] / f".fcnseg/ledger{part.name}.sqlite", sides[0]) as ledger:
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


def test_heads_in_a_volume_are_scored(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "pred.h5", "w") as h5:
        for head in ("semantic", "geometric"):
            h5[f"{head}/x.jpg"] = np.array([[0, 1, 2, 2]], np.uint8)
            save(tmp_path / "gt" / head / "x.png", np.array([[0, 1, 2, 1]], np.uint8))
    assert scored(tmp_path / "pred.h5", tmp_path / "gt", model="siftflow-fcn8s").geometric_accuracy == 0.75


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


def test_no_cell_of_a_table_is_a_formula() -> None:
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1+1"]
    others = ["road", "-5", "+1e3", "a=b", "3 - 2", "", "'quoted"]
    numbers = [-1.5, float("nan"), 7, None]
    table = _table(["x"], [[value] for value in [*formulas, *others, *numbers]])
    cells = [row[0] if row else "" for row in csv.reader(io.StringIO(table, newline=""))][1:]
    assert cells == [*(f"'{formula}" for formula in formulas), *others, "-1.5", "", "7", ""]
