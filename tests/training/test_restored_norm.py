"""Batch normalisation put back into folded weights: the same network at first, one that trains on afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fcnseg.models import network_spec
from fcnseg.models.fcn import fold_batch_norm
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.initial_weights import find_initial_weights
from fcnseg.training.presets import Preset
from fcnseg.training.restored_norm import with_restored_norm
from fcnseg.training.stages import run_plan
from fcnseg.training.weight_surgery import has_batch_norm, new_network
from tests.training.memory import CPU, blocks, plan, preset, tiny_recipe


@pytest.mark.parametrize("geometry", ["caffe", "same"])
def test_restored_layers_change_nothing_and_fold_to_nothing(tmp_path: Path, geometry: str) -> None:
    recipe = tiny_recipe(tmp_path, stride=8, geometry=geometry)
    torch.manual_seed(3)
    plain = new_network(network_spec(recipe), random_scores=True).eval()
    views = AugmentedSamples(blocks(recipe, [(64, 80), (64, 80), (80, 64)]), Preset(crop=(64, 64)), (0,))
    restored = with_restored_norm(plain, recipe, views)
    x = 50 * torch.randn(2, 3, 70, 90)
    with torch.no_grad():
        expected = plain(x)[0]
        for network in (restored.eval(), fold_batch_norm(restored)):
            assert float((network(x)[0] - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    layer = restored.conv3_2_bn
    assert isinstance(layer, torch.nn.BatchNorm2d)
    assert float(layer.running_var.std()) > 0  # type: ignore[union-attr]  # measured, not 1 throughout


def test_training_goes_on_with_restored_layers_from_a_folded_model(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, stride=8)
    samples = blocks(recipe, [(64, 64)] * 3)
    how = preset("modern", recipe, batch_size=2, steps=(1,), precision="fp32")
    run_plan(plan(recipe, how, samples, tmp_path / "first"), CPU)
    initial = find_initial_weights(recipe, [tmp_path / "first" / "model.safetensors"])
    for restores in (False, True):
        out = tmp_path / f"second-{restores}"
        again = preset("modern", recipe, batch_size=2, steps=(1,), precision="fp32", restore_batch_norm=restores)
        run_plan(plan(recipe, again, samples, out, initial=initial), CPU)
        assert has_batch_norm(torch.load(out / "checkpoint.pt", weights_only=True)["network"]) == restores
