"""Load a recipe's network with weights, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fcnseg.errors import SettingsError, WeightsMismatchError
from fcnseg.models import FCN, network_spec
from fcnseg.models.fcn import blank_network
from fcnseg.recipes import Recipe, name_from
from fcnseg.weights.fit import fit
from fcnseg.weights.hashing import weights_sha256
from fcnseg.weights.reading import read_weights
from fcnseg.weights.store import find_weights
from fcnseg.weights.tensors import Array


@dataclass(frozen=True)
class LoadedNetwork:
    """A network in evaluation mode, and the source of its weights; `training_start`: its score layers are untrained."""

    network: FCN
    weights_sha256: str
    source: Path
    training_start: bool


def load_network(recipe: Recipe, weights: Path | None = None) -> LoadedNetwork:
    """Return the recipe's network with the weights of a file of any known format, or with its own.

    The numbers are the file's, bit for bit, and are not copied where the format allows: while the network lives, such
    a file may be replaced but not written into. Raises WeightsError if there are no weights or the file is unreadable,
    WeightsMismatchError if they are another model's.
    """
    path = find_weights(recipe, weights)
    file = read_weights(path)
    owner = file.metadata.get("recipe", recipe.name)
    if name_from(owner) != name_from(recipe.name):
        raise WeightsMismatchError(f"{path} holds the weights of {owner}, not of {recipe.name}; use --model {owner}")
    fitted = fit(file, recipe)
    network = blank_network(network_spec(recipe), fitted.dense)
    state = {name: _tensor(array) for name, array in fitted.tensors.items()}
    network.load_state_dict(state, assign=True)
    started = fitted.training_start or any(n.startswith("score_") for n in file.metadata.get("initialised", "").split())
    return LoadedNetwork(network.eval().requires_grad_(False), weights_sha256(path), path, started)


def load_whole_network(recipe: Recipe, weights: Path | None = None) -> LoadedNetwork:
    """Return `load_network`, of weights of a whole model. Raises SettingsError for a start that awaits training."""
    loaded = load_network(recipe, weights)
    if loaded.training_start:
        raise SettingsError(
            f"{loaded.source} is a start for training (its score layers are untrained); train it, "
            "or give weights of a whole model with --weights"
        )
    return loaded


def _tensor(array: Array) -> torch.Tensor:
    """Return a float32 tensor, over the file's own memory where type, order and alignment allow."""
    return torch.from_numpy(np.require(array.astype("<f4", copy=False), requirements=("C", "A", "W")))
