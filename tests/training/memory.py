"""Small data sets in memory, and plans over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcnseg.models import network_spec
from fcnseg.models.fcn import FCN
from fcnseg.recipes import HeadRecipe, Recipe, load_recipe
from fcnseg.training.initial_weights import InitialWeights
from fcnseg.training.plan import TrainPlan
from fcnseg.training.presets import Preset, find_preset
from fcnseg.training.samples import LabelledSample
from fcnseg.training.trainer import Execution, Trainer
from fcnseg.training.weight_surgery import new_network, set_trainable
from tests.conftest import make_tiny

CPU = Execution(torch.device("cpu"), micro_batch=2)


@dataclass(frozen=True)
class InMemory:
    """Samples that are there already."""

    samples: tuple[LabelledSample, ...]

    @property
    def names(self) -> Sequence[str]:
        return [sample.name for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> LabelledSample:
        return self.samples[index]


def blocks(recipe: Recipe, sizes: Sequence[tuple[int, int]], seed: int = 0, void: float = 0.1) -> InMemory:
    """Images whose colour tells the class of each 8 x 8 block, with some void pixels."""
    rng = np.random.default_rng(seed)
    return InMemory(tuple(_sample(recipe, size, rng, void, f"image {n}") for n, size in enumerate(sizes)))


def _sample(recipe: Recipe, size: tuple[int, int], rng: np.random.Generator, void: float, name: str) -> LabelledSample:
    height, width = size
    coarse = rng.random((height // 8 + 1, width // 8 + 1))
    field = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    inputs: dict[str, Any] = {}
    for modality in recipe.modalities:
        if modality == "depth":
            inputs["depth"] = (1 + 4 * field[..., None]).astype(np.float32)
        else:
            inputs[modality] = (field[..., None] * (250, 120, 60) + rng.integers(0, 5, (*size, 3))).astype(np.uint8)
    labels = {}
    for head in recipe.heads:
        values = (field * head.labels.classes).astype(np.uint16)
        values[rng.random(size) < void] = head.labels.ignore
        labels[head.name] = values if head.labels.ignore > 255 else values.astype(np.uint8)
    return LabelledSample(name, inputs, labels)


def tiny_recipe(folder: Path, **what: Any) -> Recipe:
    """The recipe of a narrow network."""
    return load_recipe(make_tiny(folder, **what).recipe)


def with_classes(recipe: Recipe, classes: int) -> Recipe:
    """The recipe for the first so many of its classes."""
    head = recipe.heads[0]
    labels = replace(head.labels, names=head.labels.names[:classes], colors=head.labels.colors[:classes])
    return replace(recipe, heads=(HeadRecipe(head.name, labels, head.suffix),))


def preset(name: str, recipe: Recipe, **values: Any) -> Preset:
    """A preset with other values, of whole images."""
    return replace(find_preset(name, recipe), crop=(0, 0), **values)


def plan(recipe: Recipe, how: Preset, samples: InMemory, out: Path, **values: Any) -> TrainPlan:
    """A plan that validates on what it trains on."""
    initial = values.pop("initial", InitialWeights())
    return TrainPlan(recipe, how, initial, samples, samples, out, **{"log_every": 1, **values})


def network_of(recipe: Recipe, seed: int = 3) -> FCN:
    """A network of random weights, score layers among them."""
    torch.manual_seed(seed)
    network = new_network(network_spec(recipe), random_scores=True)
    set_trainable(network, "last-fixed")
    return network


def without_dropout(trainer: Trainer) -> None:
    """Leave the network in evaluation mode: masks differ with how images are put together."""
    model = trainer.gradient.model
    model.train = lambda mode=True: model  # type: ignore[method-assign, assignment, misc]
