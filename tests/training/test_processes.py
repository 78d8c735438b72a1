"""Several processes train as one: the gradients of two over gloo are those of one with the joint batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import make_tiny
from tests.training.share_a_step import gradients

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize("regime", ["heavy", "paper", "modern"])
def test_two_processes_have_the_gradients_of_one(tmp_path: Path, regime: str) -> None:
    tiny = make_tiny(tmp_path)
    script = ["-m", "tests.training.share_a_step", str(tiny.recipe), regime, str(tmp_path / "shared.pt")]
    subprocess.run([*TORCHRUN, *script], cwd=ROOT, check=True, timeout=120)
    shared = torch.load(tmp_path / "shared.pt", weights_only=True)
    alone = gradients(tiny.recipe, regime)
    assert shared.keys() == alone.keys()
    for key, gradient in alone.items():
        assert float((gradient - shared[key]).abs().max()) <= 1e-5 * float(gradient.abs().max()), key
