"""One of the processes that share a step: `torchrun ... share_a_step.py RECIPE REGIME OUT` leaves the gradients."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from fcnseg.models import network_spec
from fcnseg.recipes import load_recipe
from fcnseg.training.distributed import joined
from fcnseg.training.loop import Trainer
from fcnseg.training.weight_surgery import learn_deconvolutions, new_network
from tests.training.memory import CPU, blocks, regime
from tests.training.test_steps import without_dropout


def gradients(recipe_file: Path, name: str) -> dict[str, torch.Tensor]:
    """Of one step of eight images, no dropout (whose masks differ with how images are put together)."""
    torch.set_num_threads(1)
    recipe = load_recipe(recipe_file)
    how = regime(name, recipe, batch=8, steps=(1,), batch_norm=False, jaccard=0.0, precision="fp32", clip=0.0)
    torch.manual_seed(0)
    network = new_network(network_spec(recipe), random_scores=True).eval()
    learn_deconvolutions(network, "last-fixed")
    sizes = [(40, 48), (24, 32), (24, 32), (40, 48), (16, 16), (24, 32), (40, 48), (9, 30)]
    with joined(torch.device("cpu")) as mine:
        machine = replace(CPU, processes=mine)
        trainer = Trainer(network, recipe, how, blocks(recipe, sizes), machine=machine)
        without_dropout(trainer)
        (progress,) = trainer.run()
    found = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
    return {**found, "loss": torch.tensor(progress.loss)} if mine.first else {}


if __name__ == "__main__":
    found = gradients(Path(sys.argv[1]), sys.argv[2])
    if found:
        torch.save(found, sys.argv[3])
