"""The label values and colours of published data sets by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import find_recipe
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.named_labels import NAMES, named_labels
from tests.scoring.maps import save, score_pair, scored


@pytest.mark.parametrize("name", NAMES)
def test_every_class_has_a_value_and_a_colour(name: str) -> None:
    labels = named_labels(name)
    assert {code for code in labels.values.values() if code != VOID} == {*range(len(labels.classes))}
    assert len(labels.colors) == len(labels.classes) == len(set(labels.classes))
    assert labels.encode(labels.space)[0] == labels.values


@pytest.mark.parametrize(
    ("name", "classes", "values"),
    [
        ("ade20k", 150, {0: None, 1: "wall", 13: "person", 150: "flag"}),
        ("camvid", 11, {0: "sky", 10: "bicyclist", 11: None}),
        ("camvid32", 31, {0: "Animal", 21: "Sky", 30: None, 31: "Wall"}),
        ("cityscapes", 19, {-1: None, 6: None, 7: "road", 33: "bicycle", 18: None}),
        ("cityscapes-train-ids", 19, {0: "road", 18: "bicycle", 255: None}),
        ("nyud", 40, {0: None, 1: "wall", 40: "otherprop"}),
        ("voc", 21, {0: "background", 15: "person", 255: None}),
    ],
)
def test_values_are_the_data_sets(name: str, classes: int, values: dict[int, str | None]) -> None:
    labels = named_labels(name)
    assert len(labels.classes) == classes
    for value, expected in values.items():
        code = labels.values[value]
        assert (None if code == VOID else labels.classes[code]) == expected


def test_classes_are_matched_by_name_group_or_number() -> None:
    street = find_recipe("street-fcn8s").heads[0].labels
    codes, colors = named_labels("camvid32").encode(street)
    for number, group in ((21, "sky"), (10, "road"), (28, "building"), (22, "car"), (7, "pedestrian")):
        assert street.names[codes[number]] == group
    assert codes[30] == colors[0, 0, 0] == VOID
    assert street.names[colors[64, 128, 192]] == "car"
    own = LabelSpace(("Traffic_Light", *(n for n in named_labels("cityscapes").classes if n != "traffic light")), ())
    assert named_labels("cityscapes").encode(own)[0][19] == 0
    unnamed = LabelSpace(tuple(f"class {i}" for i in range(150)), tuple(map(voc_color, range(150))))
    assert named_labels("ade20k").encode(unnamed)[0][150] == 149
    with pytest.raises(SettingsError, match=r"there is no class road, sidewalk, building \.\.\. among background"):
        named_labels("cityscapes").encode(find_recipe("voc-fcn8s").heads[0].labels)


def test_predictions_may_be_drawn_in_the_data_sets_colours(tmp_path: Path) -> None:
    cityscapes = named_labels("cityscapes")
    save(tmp_path / "gt/x.png", np.array([[7, 26, 17, 0]], np.uint8))
    save(tmp_path / "pred/x.png", np.array([[cityscapes.colors[i] for i in (0, 13, 5)] + [(0, 0, 0)]], np.uint8))
    score = scored(tmp_path / "pred", tmp_path / "gt", labels="cityscapes", pred_labels="cityscapes")
    assert (score.pixels, score.pixel_accuracy) == (3, 1)


def test_predictions_in_the_data_sets_values_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="predictions are read as classes from 0, --pred-labels NAME"):
        score_pair(tmp_path, [[7, 26]], [[7, 26]], labels="cityscapes")
    assert score_pair(tmp_path, [[7, 26]], [[7, 26]], labels="cityscapes", pred_labels="cityscapes").mean_iu == 1
