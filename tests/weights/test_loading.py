"""Loading a network with its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import save_file

from fcnseg.errors import WeightsMismatchError
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_weights
from tests.weights.conftest import MakeRecipe, numbers


def test_weights_of_another_recipe_are_refused(recipe: MakeRecipe, tmp_path: Path) -> None:
    save_file(numbers(recipe()), tmp_path / "s")
    import_weights(tmp_path / "s", recipe(), tmp_path / "out")
    with pytest.raises(WeightsMismatchError, match="small, not of other"):
        load_weights(recipe(name="other"), tmp_path / "out")
