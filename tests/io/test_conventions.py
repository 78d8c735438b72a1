"""Conventions follow from the `dataset` key of recipes and from class names, never from the names of recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import fcnseg
from fcnseg.engine.identity import recipe_hash
from fcnseg.io.conventions import CONTEXT_LABELS, CONVENTIONS, convention_of, one_based_variables
from fcnseg.labels import LabelSpace
from fcnseg.recipes import DATA_SETS, find_recipe, recipe_names
from fcnseg.scoring.labelling import find_labelling

SHIPPED = {"voc": "voc", "pascalcontext": "pascalcontext", "nyud": "nyud", "siftflow": "siftflow", "street": "camvid"}
SHIPPED["coco"] = "voc"
ONE_BASED = {"nyud": {"segmentation": (0,)}, "siftflow": {"S": (-1, 0)}}


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_has_its_data_set(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.dataset == SHIPPED[name.partition("-")[0]]
    excluded = {"cow", "desert", "moon"} if name.startswith("siftflow-") else set()
    assert convention_of(recipe.dataset).excluded_classes == excluded
    for head in recipe.heads:
        assert one_based_variables(head.labels) == ONE_BASED.get(recipe.dataset, {})


def test_a_recipes_name_brings_no_conventions(tmp_path: Path) -> None:
    text = Path(find_recipe("siftflow-fcn8s").path).read_text()
    mine = tmp_path / "siftflow-mine.toml"
    mine.write_text(text.replace("siftflow-fcn8s", "siftflow-mine").replace('dataset = "siftflow"\n', ""))
    assert find_recipe(mine).name == "siftflow-mine"
    assert convention_of(find_labelling(str(mine), None, False, "masks").dataset) == convention_of("")
    mine.write_text(text.replace("siftflow-fcn8s", "mine"))
    assert convention_of(find_labelling(str(mine), None, False, "masks").dataset) == CONVENTIONS["siftflow"]


def test_labels_count_from_one_for_the_data_sets_class_names_alone() -> None:
    space = find_recipe("nyud-fcn32s-color").heads[0].labels
    assert one_based_variables(LabelSpace(space.names, space.colors)) == ONE_BASED["nyud"]
    assert one_based_variables(replace(space, names=space.names[::-1])) == {}


def test_engines_do_not_depend_on_the_data_set() -> None:
    recipe = find_recipe("siftflow-fcn8s")
    assert recipe_hash(recipe) == recipe_hash(replace(recipe, dataset=""))


def test_conventions_are_those_of_data_sets_that_recipes_may_name() -> None:
    assert CONVENTIONS.keys() <= set(DATA_SETS)


def test_every_context_class_has_its_label() -> None:
    names = fcnseg.find_recipe("pascalcontext-fcn8s").heads[0].labels.names
    assert names[0] == "background"
    assert set(names[1:]) <= set(CONTEXT_LABELS)
    assert len({CONTEXT_LABELS[name] for name in names[1:]}) == 59
