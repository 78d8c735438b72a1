"""The error for a file that does not fit, and its hint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fcnseg.errors import WeightsMismatchError
from fcnseg.recipes import find_recipe
from fcnseg.weights.importing import import_weights
from tests.weights.conftest import MakeRecipe, dense, numbers


def test_every_misfit_is_listed_with_its_shapes(recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = numbers(recipe())
    del arrays["conv2_1.bias"]
    arrays["conv1_1.weight"] = arrays["conv1_1.weight"][:1]
    arrays["bn\n.num_batches_tracked"] = np.zeros(1, np.float32)
    arrays["upscore8.weight"] = dense(arrays["upscore8.weight"])[:, :2]
    save_file(arrays, tmp_path / "s")
    with pytest.raises(WeightsMismatchError) as caught:
        import_weights(tmp_path / "s", recipe(), tmp_path / "out")
    faults = sorted(caught.value.faults)
    assert [f.split(": ")[0] for f in faults] == ["left over", "misshapen", "misshapen", "missing"]
    assert "conv1_1.weight" in faults[1]
    assert "1 x 3 x 3 x 3" in faults[1]
    assert "\n" not in str(caught.value) + "".join(faults)
    assert not (tmp_path / "out").exists()


def test_the_hint_names_the_recipe_that_fits(recipe: MakeRecipe, tmp_path: Path) -> None:
    street = find_recipe("street-fcn8s")
    save_file(numbers(street), tmp_path / "s")
    with pytest.raises(WeightsMismatchError, match="it fits street-fcn8s: use --model street-fcn8s"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out")
