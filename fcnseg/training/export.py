"""Trained networks as files that every command takes: weights, and a recipe that names them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

import fcnseg
from fcnseg.errors import DivergedError
from fcnseg.io.atomic import whole_file, write_whole
from fcnseg.models.fcn import FCN, fold_batch_norm
from fcnseg.recipes import Recipe, recipe_toml
from fcnseg.training.plan import Figures, TrainPlan
from fcnseg.training.trainer import Trainer
from fcnseg.weights import safetensors_file
from fcnseg.weights.fit import separated
from fcnseg.weights.tensors import Array


def weights_of(network: FCN) -> dict[str, Array]:
    """Return the state dict that a recipe's network takes, float32.

    Batch normalisation is folded in; deconvolutions that mix no classes become one kernel a class.
    """
    plain = fold_batch_norm(network) if network.spec.batch_norm else network
    state = {name: value.detach().cpu().numpy().astype(np.float32) for name, value in plain.state_dict().items()}
    return {name: separated(value, name) for name, value in state.items()}


def write_model(plan: TrainPlan, trainer: Trainer, name: str, figures: Mapping[str, Figures]) -> None:
    """Write the network as it stands: `NAME.safetensors`, and `NAME.toml`, a recipe that every command takes."""
    write_weights(plan, trainer, name)
    first = next(iter(figures.values()))
    chosen = {
        "loss": f", loss {first['loss']:.4g}",
        "pixel_accuracy": f", {100 * first['pixel_accuracy']:.1f} accuracy",
    }
    figure = f"{100 * first['mean_iu']:.1f} mean IU{chosen.get(plan.best_by, '')}"
    score = f"{figure}, validation after {at_step(trainer)}"
    write_recipe(plan.out / f"{name}.toml", trainer.recipe, f"{name}.safetensors", score)


def at_step(trainer: Trainer) -> str:
    """Return the step and epoch that a training is at: "step 40, epoch 2.5, of stage 8s"."""
    return f"step {trainer.step}, epoch {trainer.epoch:.4g}, of stage {trainer.recipe.architecture.stride}s"


def write_weights(plan: TrainPlan, trainer: Trainer, name: str) -> None:
    """Write the network's weights as `NAME.safetensors`, with their origin in its metadata.

    Raises DivergedError, and writes nothing, if one of them is not finite.
    """
    state = weights_of(trainer.result)
    fault = next((layer for layer, value in state.items() if not np.isfinite(value).all()), "")
    if fault:
        raise DivergedError(f"{fault} is not finite after {trainer.last_step}")
    metadata = {
        "recipe": trainer.recipe.name,
        "fcnseg": fcnseg.__version__,
        "initialised": "",
        "convention": "caffe",
        "preset": plan.preset.name,
        "seed": str(plan.seed),
        "source": plan.initial.source,
        "trained": at_step(trainer),
    }
    with whole_file(plan.out / f"{name}.safetensors") as file:
        safetensors_file.write(file, state, metadata)


def write_figures(plan: TrainPlan, figures: Mapping[str, Figures]) -> None:
    """Write the last validation's figures with the preset that gave them, as `figures.json`."""
    values = {"heads": figures, "preset": asdict(plan.preset)}
    write_whole(plan.out / "figures.json", [json.dumps(values, indent=2).encode()])


def write_recipe(path: Path, recipe: Recipe, weights: str, score: str) -> None:
    """Write a recipe as TOML, whole or not at all, with `weights` (a file beside it) as its own."""
    own = replace(recipe, bundled=path.parent / weights, weights=(), score=score, license="")
    write_whole(path, [recipe_toml(own).encode()])
