"""Classes in `classes.txt` and `classes.json`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import SettingsError
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.running.finish import write_legend
from fcnseg.training.datasets import open_samples, own_labels
from fcnseg.types import EngineInfo
from tests.training.data_sets import (
    labels_of,
    text,
)
from tests.training.datasets.helpers import (
    BLACK,
    BLUE,
    GREEN,
    STREET,
    described,
    drawn_in,
    folder_of,
    own_recipe,
    read,
    reading_fault,
)


def test_classes_of_a_text_file(tmp_path: Path) -> None:
    assert own_labels(tmp_path) is None
    text(tmp_path / "classes.txt", ["# mine", "grass", "hay bale", "tractor"])
    assert own_labels(tmp_path) == LabelSpace(("grass", "hay bale", "tractor"), tuple(map(voc_color, range(3))))
    text(tmp_path / "classes.txt", ["grass", "tractor", "void"])
    assert own_labels(tmp_path) == LabelSpace(("grass", "tractor"), tuple(map(voc_color, range(2))), 2)
    for lines in (["a", "a"], ["void", "a", "ignore"], ["void"], []):
        text(tmp_path / "classes.txt", lines)
        with pytest.raises(SettingsError, match=r"classes\.txt"):
            own_labels(tmp_path)


def test_classes_as_a_run_writes_them(tmp_path: Path) -> None:

    info = EngineInfo("torch", "cpu", "fp32", "m", "", {"labels": STREET.heads[0].labels}, ("color",), {})
    write_legend(tmp_path, info)
    assert own_labels(tmp_path) == STREET.heads[0].labels
    good = json.loads((tmp_path / "classes.json").read_text())
    for bad in (
        "{}",
        "[]",
        json.dumps(good | {"second": {}}),
        json.dumps({"labels": {"ignore": 255, "classes": [{}]}}),
    ):
        (tmp_path / "classes.json").write_text(bad)
        with pytest.raises(SettingsError, match=r"classes\.json"):
            own_labels(tmp_path)


def test_void_may_have_a_colour(tmp_path: Path) -> None:
    values = labels_of("a", 2, 2)
    data = folder_of(tmp_path, {"a": values, "b": values}, drawn_in(BLUE, GREEN, BLACK))
    described(tmp_path, 255, ("hay", BLUE), ("field", GREEN))
    assert "(0, 0, 0)" in reading_fault(data, own_recipe(data))
    described(tmp_path, 2, ("hay", BLUE), ("field", GREEN), ("void", BLACK))
    assert own_labels(data) == LabelSpace(("hay", "field"), (BLUE, GREEN), 2)
    np.testing.assert_array_equal(read(open_samples(data, own_recipe(data), "train"))["a"], values)
    described(tmp_path, 255, ("hay", BLUE), ("field", GREEN), ("void", BLACK))
    with pytest.raises(SettingsError, match="another index than its ignore"):
        own_labels(data)


def test_classes_of_a_text_file_may_have_colours(tmp_path: Path) -> None:
    values = labels_of("a", 2, 2)
    data = folder_of(tmp_path, {"a": values}, drawn_in(BLUE, GREEN, BLACK))
    text(tmp_path / "classes.txt", ["0 0 255\thay bale", "0, 255, 0 field", "0 0 0 Void"])
    assert own_labels(data) == LabelSpace(("hay bale", "field"), (BLUE, GREEN), 2)
    np.testing.assert_array_equal(read(open_samples(data, own_recipe(data), "train"))["a"], values)
    text(tmp_path / "classes.txt", ["0 0 256 hay", "0 255 0 field"])
    with pytest.raises(SettingsError, match="beyond 255"):
        own_labels(data)
