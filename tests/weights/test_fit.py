"""Fit: deconvolutions stay what they are, and numbers are finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fcnseg.errors import WeightsError
from fcnseg.models import FCN, network_spec
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_weights
from tests.weights.conftest import MakeRecipe, as_torch, numbers


def test_mixing_deconvolutions_stay_dense(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe()
    arrays = numbers(small)
    state = as_torch(arrays)
    state["upscore2.weight"][0, 1, 2, 2] = 0.5
    torch.save(state, tmp_path / "s")
    report = import_weights(tmp_path / "s", small, tmp_path / "out")
    assert report.dense == ("upscore2",)
    network = load_weights(small, tmp_path / "out").network()
    image = torch.rand(1, 3, 40, 40) * 255
    whole = FCN(network_spec(small), frozenset({"upscore2", "upscore_pool4", "upscore8"})).eval()
    whole.load_state_dict(state)
    torch.testing.assert_close(network(image), whole(image))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_name_their_tensor(value: float, recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = {k: v.astype(np.float64) for k, v in numbers(recipe()).items()}
    arrays["conv3_2.weight"].flat[5] = value
    save_file(arrays, tmp_path / "s")
    with pytest.raises(WeightsError, match=r"conv3_2\.weight"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
