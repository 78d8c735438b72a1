"""Initial weights: of other classes, of single nets for the streams of a fusion, of classifiers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fcnseg.errors import SettingsError, WeightsMismatchError
from fcnseg.models import network_spec
from fcnseg.training.initial_weights import find_initial_weights
from fcnseg.training.weight_surgery import early_fusion, late_fusion, load_initial, new_network, with_more_classes
from tests.training.memory import tiny_recipe, with_classes


def test_a_start_of_other_classes_keeps_the_trunk_and_expands_only_when_told(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=8)
    path = next(tmp_path.glob("*.safetensors"))
    fewer = with_classes(recipe, 3)
    assert find_initial_weights(recipe, [path]).keep_scores
    assert find_initial_weights(recipe, [path]).stride == 8
    assert not find_initial_weights(fewer, [path]).keep_scores
    with pytest.raises(WeightsMismatchError, match="5 classes, more than the 3"):
        find_initial_weights(fewer, [path], expand=True)
    score = torch.randn(3, 4, 1, 1)
    assert torch.equal(with_more_classes(score, 5)[:3], score)
    assert not with_more_classes(score, 5)[3:].any()


def test_early_and_late_fusion_begin_with_single_nets(tmp_path: Path) -> None:
    color = tiny_recipe(tmp_path, stride=32)
    path = next(tmp_path.glob("tiny-vgg16-32-color*.safetensors"))
    state = load_file(path)
    early = tiny_recipe(tmp_path, stride=32, streams="depth")
    start = find_initial_weights(early, [path])
    assert start.state is not None
    weight = start.state["conv1_1_bgrd.weight"]
    assert torch.equal(weight[:, :3], state["conv1_1.weight"])
    assert torch.allclose(weight[:, 3], state["conv1_1.weight"].mean(1))
    load_initial(new_network(network_spec(early)), start.state)
    trunk = {name: value for name, value in state.items() if name.startswith(("conv", "fc"))}
    torch.save(trunk, tmp_path / "classifier.pth")
    transplanted = find_initial_weights(early, [tmp_path / "classifier.pth"])
    assert transplanted.stride is None
    assert transplanted.state is not None
    assert torch.equal(transplanted.state["conv1_1_bgrd.weight"], weight)
    assert not any(name.startswith("score_") for name in transplanted.state)

    late = tiny_recipe(tmp_path, stride=32, streams="hha")
    both = find_initial_weights(late, [path, path])
    assert both.state is not None
    network = new_network(network_spec(late)).eval()
    load_initial(network, both.state)
    alone = new_network(network_spec(color)).eval()
    load_initial(alone, {k: v for k, v in state.items() if not k.startswith("upscore")})
    x = 50 * torch.randn(1, 3, 32, 40)
    with torch.inference_mode():
        assert torch.allclose(network(x, x)[0], alone(x)[0], atol=1e-4)  # the mean of twice the same scores
    with pytest.raises(SettingsError, match="once, or once for each"):
        find_initial_weights(color, [path, path])
    assert set(late_fusion({"a": {"fc6.bias": weight}})) == {"fc6a.bias"}
    assert "conv1_1.weight" not in early_fusion(state, "conv1_1", "first")
