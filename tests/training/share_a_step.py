"""One of the processes that share a step: `torchrun ... share_a_step.py RECIPE PRESET OUT` leaves the gradients."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from fcnseg.models import network_spec
from fcnseg.recipes import load_recipe
from fcnseg.training.distributed import joined_ranks
from fcnseg.training.trainer import Trainer
from fcnseg.training.weight_surgery import new_network, set_trainable
from tests.training.memory import CPU, blocks, preset, without_dropout


def gradients(recipe_file: Path, name: str) -> dict[str, torch.Tensor]:
    """Of one step of eight images, no dropout (whose masks differ with how images are put together)."""
    torch.set_num_threads(1)
    recipe = load_recipe(recipe_file)
    how = preset(
        name,
        recipe,
        batch_size=8,
        steps=(1,),
        batch_norm=False,
        precision="fp32",
        clip_grad_norm=0.0,
    )
    torch.manual_seed(0)
    network = new_network(network_spec(recipe), random_scores=True).eval()
    set_trainable(network, "last-fixed")
    sizes = [(40, 48), (24, 32), (24, 32), (40, 48), (16, 16), (24, 32), (40, 48), (9, 30)]
    with joined_ranks(torch.device("cpu")) as ranks:
        execution = replace(CPU, ranks=ranks)
        trainer = Trainer(network, recipe, how, blocks(recipe, sizes), execution=execution)
        without_dropout(trainer)
        (progress,) = trainer.run()
    found = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
    return {**found, "loss": torch.tensor(progress.loss)} if ranks.is_first else {}


if __name__ == "__main__":
    found = gradients(Path(sys.argv[1]), sys.argv[2])
    if found:
        torch.save(found, sys.argv[3])
