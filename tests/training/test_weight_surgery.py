"""Weights of one network as those of another: finer strides, missing layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fcnseg.errors import WeightsMismatchError
from fcnseg.models import network_spec
from fcnseg.models.fcn import FCN
from fcnseg.training.weight_surgery import at_stride, load_initial, new_network, refined
from tests.training.memory import tiny_recipe


def fused(network: FCN, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The fused score maps by stride, coarse to fine, before each is interpolated on."""
    found = {}
    with torch.no_grad():
        taps = network.trunk(network.spec.streams[0], x)
        score = network.score_fr(taps["fr"])
        found["fr"] = score
        for step in network.fusion[:-1]:
            score = getattr(network, step.name)(score)
            skip = getattr(network, f"score_{step.target}")(taps[step.target])
            score = _window(score, step.offset, skip) + _window(skip, -step.offset, score)
            found[str(step.target)] = score
    return found


def _window(x: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
    """x cropped at `offset` to the size of another map, or whole where that one is to be cropped."""
    height, width = like.shape[-2:]
    return x if offset < 0 else x[..., offset : offset + height, offset : offset + width]


@pytest.mark.parametrize("geometry", ["caffe", "same"])
def test_an_added_skip_changes_nothing_until_it_is_trained(tmp_path: Path, geometry: str) -> None:
    recipe = tiny_recipe(tmp_path, stride=8, geometry=geometry)
    torch.manual_seed(0)
    network = new_network(network_spec(at_stride(recipe, 32)), random_scores=True).eval()
    x = 60 * torch.randn(1, 3, 64, 96)
    for stride, skip in ((16, "pool4"), (8, "pool3")):
        finer = refined(network, network_spec(at_stride(recipe, stride))).eval()
        for name, value in fused(network, x).items():
            assert torch.equal(fused(finer, x)[name], value)
        assert not getattr(finer, f"score_{skip}").weight.any()
        # and the new map is the coarse one, interpolated: nothing else
        coarse = list(fused(network, x).values())[-1]
        step = finer.fusion[len(finer.fusion) - 2]
        with torch.no_grad():
            up = getattr(finer, step.name)(coarse)
        new = fused(finer, x)[skip]
        assert torch.equal(new, _window(up, step.offset, new))
        with torch.no_grad():
            torch.nn.init.normal_(getattr(finer, f"score_{skip}").weight, std=0.1)
        network = finer


def test_a_foreign_trunk_is_refused_by_name(tmp_path: Path) -> None:
    network = new_network(network_spec(tiny_recipe(tmp_path)))
    with pytest.raises(WeightsMismatchError, match=r"missing: conv1_1\.weight"):
        load_initial(network, {"fc6.bias": torch.zeros(8)})
