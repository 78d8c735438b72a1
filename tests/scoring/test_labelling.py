"""Classes that are compared, and predictions of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fcnseg
from fcnseg.errors import LabelsError, SettingsError
from tests.scoring.maps import data_set, score_pair, scored


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
        score_pair(tmp_path, [[0, 15]], [[0, 15]])
