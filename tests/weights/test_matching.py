"""Matching by names and shapes: skip scales, classifiers as starts for training, misfits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fcnseg.errors import WeightsMismatchError
from fcnseg.models import FCN, network_spec
from fcnseg.recipes import Recipe
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_weights
from tests.caffe_files import write_caffemodel
from tests.weights.conftest import Arrays, MakeRecipe, as_caffe, as_torch, check, legacy, numbers, torchvision_vgg16

SKIPS = "skip_scales = { pool4 = 0.01, pool3 = 0.0001 }"


def test_skip_scales_are_filled_for_pytorch_fcn_only(recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(skips=SKIPS)
    arrays = numbers(small)
    lacking = {k: v for k, v in arrays.items() if not k.startswith("scale_")}
    torch.save(as_torch(lacking), tmp_path / "s.pth")
    report = import_weights(tmp_path / "s.pth", small, tmp_path / "out")
    assert report.initialised == ("scale_pool3.weight", "scale_pool4.weight")
    filled = {k: np.full_like(arrays[k], v) for k, v in (("scale_pool3.weight", 1e-4), ("scale_pool4.weight", 1e-2))}
    check(tmp_path / "out", lacking | filled)
    assert not load_weights(small, tmp_path / "out").training_start
    write_caffemodel(tmp_path / "s.caffemodel", as_caffe(lacking))
    with pytest.raises(WeightsMismatchError, match=r"scale_pool3\.weight"):
        import_weights(tmp_path / "s.caffemodel", small, tmp_path / "out")


def classifier(recipe: Recipe) -> Arrays:
    arrays = {k: v for k, v in numbers(recipe).items() if not k.startswith(("score_", "upscore", "scale_"))}
    return legacy(arrays) | {"fc8.weight": np.ones((10, 8), np.float32), "fc8.bias": np.ones(10, np.float32)}


@pytest.mark.parametrize("skips", ["", SKIPS])
def test_transplant_starts_as_a_new_network(skips: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    small = recipe(skips=skips)
    write_caffemodel(tmp_path / "s", as_caffe(classifier(small)), generation="layers")
    with pytest.raises(WeightsMismatchError, match="--transplant"):
        import_weights(tmp_path / "s", small, tmp_path / "out")
    report = import_weights(tmp_path / "s", small, tmp_path / "out", transplant=True)
    new = {k: v.numpy() for k, v in FCN(network_spec(small)).state_dict().items() if k.startswith(("s", "u"))}
    kept = {k: v for k, v in numbers(small).items() if k not in new}
    metadata = check(tmp_path / "out", kept | new)
    assert set(report.initialised) == set(new) == set(metadata["initialised"].split())
    assert load_weights(small, tmp_path / "out").training_start


def test_transplant_does_not_invent_what_a_model_lacks(recipe: MakeRecipe, tmp_path: Path) -> None:
    arrays = numbers(recipe())
    del arrays["score_fr.bias"]
    save_file(arrays, tmp_path / "s")
    with pytest.raises(WeightsMismatchError, match=r"score_fr\.bias"):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out", transplant=True)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (4, 4, 4), (4, 9, 3, 3), (1, 1, 1, 1, 1), (5, 3, 3, 3)])
def test_a_first_layer_of_any_shape_is_a_fault(shape: tuple[int, ...], recipe: MakeRecipe, tmp_path: Path) -> None:
    features, head = torchvision_vgg16(recipe())
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    state |= {f"classifier.{k}": v for k, v in head.state_dict().items()}
    torch.save(state | {"features.0.weight": torch.zeros(shape)}, tmp_path / "s")
    with pytest.raises(WeightsMismatchError):
        import_weights(tmp_path / "s", recipe(), tmp_path / "out", transplant=True)
