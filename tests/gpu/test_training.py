"""A training step on a CUDA device, held against the processor."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcnseg.models import network_spec
from fcnseg.training.trainer import Trainer
from fcnseg.training.weight_surgery import new_network, set_trainable
from tests.training.memory import CPU, blocks, preset, tiny_recipe

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_a_step_has_the_gradients_of_the_processor(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, [(40, 48), (24, 32), (40, 48), (16, 16)])
    how = preset("modern", recipe, batch_size=4, steps=(1,), batch_norm=False, precision="fp32", clip_grad_norm=0.0)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = new_network(network_spec(recipe), random_scores=True).eval()
        set_trainable(network, "fixed")
        execution = replace(CPU, device=torch.device(device))
        trainer = Trainer(network, recipe, how, samples, execution=execution)
        model = trainer.model
        model.train = lambda mode=True, model=model: model  # type: ignore[method-assign, misc]  # no dropout
        assert len(list(trainer.run())) == 1
        found.append({key: p.grad.cpu() for key, p in trainer.network.named_parameters() if p.grad is not None})
    for key, gradient in found[0].items():
        assert float((gradient - found[1][key]).abs().max()) <= 1e-3 * float(gradient.abs().max()), key


def test_a_training_in_bfloat16_goes_down(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    how = preset("modern", recipe, batch_size=4, steps=(40,))
    torch.manual_seed(0)
    network = new_network(replace(network_spec(recipe), batch_norm=True), random_scores=True)
    execution = replace(CPU, device=torch.device("cuda"), micro_batch=4)
    trainer = Trainer(network, recipe, how, blocks(recipe, [(64, 64)] * 8), execution=execution)
    losses = [progress.loss for progress in trainer.run()]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert set(trainer.validate(blocks(recipe, [(40, 56)]))) == {"labels"}
