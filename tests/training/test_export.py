"""Recipes of trained models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fcnseg.labels import LabelSpace
from fcnseg.recipes import Recipe, find_recipe, load_recipe
from fcnseg.training.export import write_recipe
from fcnseg.training.preparation import with_labels

VOC = find_recipe("voc-fcn8s")


def trained(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe as a training writes and later commands read it."""
    file = folder / "model.toml"
    write_recipe(file, replace(recipe, name="mine"), "model.safetensors", "")
    return load_recipe(file)


def test_a_trained_model_follows_the_conventions_of_its_recipe(tmp_path: Path) -> None:
    assert trained(VOC, tmp_path).dataset == "voc"
    assert trained(replace(VOC, dataset=""), tmp_path).dataset == ""
    assert "dataset" not in (tmp_path / "model.toml").read_text()


def test_a_trained_model_of_other_classes_follows_none(tmp_path: Path) -> None:
    same = LabelSpace(VOC.heads[0].labels.names, ((1, 2, 3),) * 21)
    assert trained(with_labels(VOC, same, tmp_path), tmp_path).dataset == "voc"
    other = LabelSpace(("a", "b"), ((1, 2, 3),) * 2)
    assert trained(with_labels(VOC, other, tmp_path), tmp_path).dataset == ""
