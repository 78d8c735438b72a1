"""`fcnseg models MODEL`: one model whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fcnseg.recipes import find_recipe, recipe_names
from tests.conftest import Outcome, TinyModel

Command = Callable[..., Outcome]


@pytest.mark.parametrize("name", recipe_names())
def test_every_class_is_shown_with_its_number_and_colour(fcnseg: Command, name: str) -> None:
    recipe = find_recipe(name)
    done = fcnseg("models", name)
    assert done.code == 0
    for head in recipe.heads:
        for value, (label, color) in enumerate(zip(head.labels.names, head.labels.colors, strict=True)):
            assert f"{value:>5}  #{bytes(color).hex()}  {label}\n" in done.out
        assert f"{head.labels.ignore:>5}" in done.out
    values = json.loads(fcnseg("models", name, "--json").out)
    assert [c["name"] for h in values["heads"] for c in h["classes"]] == [
        n for h in recipe.heads for n in h.labels.names
    ]
    assert values["license"] == recipe.license


def test_licence_weights_and_sizes_are_told(fcnseg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path))
    text = fcnseg("models", "street-fcn8s").out
    assert "research use" in text
    assert "bundled: " in text
    assert "engines  for 1 x 1 to " in text
    absent = fcnseg("models", "voc-fcn8s").out
    assert "`fcnseg weights pull voc-fcn8s`" in absent
    assert "unrestricted use" in absent
    assert "513 MiB" in absent


def test_a_recipe_of_ones_own_is_shown_too(fcnseg: Command, tiny: TinyModel) -> None:
    assert "not stated" in fcnseg("models", tiny.recipe).out
    unknown = fcnseg("models", "voc-fcn8")
    assert (unknown.code, "did you mean voc-fcn8s?" in unknown.error_line) == (2, True)
