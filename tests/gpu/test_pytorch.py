"""The torch engine on a CUDA device, held against the processor."""

import numpy as np
import pytest
import torch

from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.recipes import find_recipe
from tests.conftest import TinyModel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize(("precision", "floor"), [("fp32", 0.9999), ("bf16", 0.95), ("fp16", 0.98)])
def test_a_gpu_agrees_with_the_processor(tiny: TinyModel, precision: str, floor: float) -> None:
    pixels = {"color": np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)}
    recipe = find_recipe(tiny.recipe)
    with (
        TorchEngine(recipe, tiny.weights, "cpu") as cpu,
        TorchEngine(recipe, tiny.weights, "cuda", precision) as gpu,
    ):
        expected, found = cpu.infer(pixels)[0]["labels"], gpu.infer(pixels)[0]["labels"]
        assert (expected == found).mean() > floor
        alone = gpu.infer({"color": pixels["color"][1:]})[0]["labels"]
        assert (alone[0] == found[1]).all()
