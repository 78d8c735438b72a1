"""Several processes train as one: the gradients of two over gloo are those of one with the joint batch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcnseg.models import network_spec
from fcnseg.training.export import weights_of
from fcnseg.training.weight_surgery import new_network
from tests.conftest import make_tiny
from tests.training.memory import tiny_recipe
from tests.training.share_a_step import gradients

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize("preset", ["heavy", "paper", "modern"])
def test_two_processes_have_the_gradients_of_one(tmp_path: Path, preset: str) -> None:
    tiny = make_tiny(tmp_path)
    script = ["-m", "tests.training.share_a_step", str(tiny.recipe), preset, str(tmp_path / "shared.pt")]
    subprocess.run([*TORCHRUN, *script], cwd=ROOT, check=True, timeout=120)
    shared = torch.load(tmp_path / "shared.pt", weights_only=True)
    alone = gradients(tiny.recipe, preset)
    assert shared.keys() == alone.keys()
    for key, gradient in alone.items():
        assert float((gradient - shared[key]).abs().max()) <= 1e-4 * float(gradient.abs().max()), key


def test_normalisation_that_processes_share_is_folded_like_their_own(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    network = new_network(replace(network_spec(recipe), batch_norm=True), random_scores=True)
    with torch.no_grad():
        network(60 * torch.randn(2, 3, 40, 48))
    alone = weights_of(network.eval())
    shared = weights_of(torch.nn.SyncBatchNorm.convert_sync_batchnorm(network))
    assert alone.keys() == shared.keys()
    assert not any("_bn" in name for name in shared)
    assert all((shared[name] == value).all() for name, value in alone.items())
