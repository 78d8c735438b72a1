"""Load the weights of a recipe's network: as arrays, or in the PyTorch network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fcnseg.errors import SettingsError, WeightsMismatchError
from fcnseg.models import network_spec
from fcnseg.recipes import Recipe, name_from
from fcnseg.weights.fit import fit
from fcnseg.weights.hashing import weights_sha256
from fcnseg.weights.reading import read_weights
from fcnseg.weights.store import find_weights
from fcnseg.weights.tensors import Array

if TYPE_CHECKING:
    from fcnseg.models import FCN


@dataclass(frozen=True)
class LoadedWeights:
    """The float32 tensors of a whole network by name, and their source.

    `dense` names the deconvolutions that mix classes; `training_start`: the score layers are untrained.
    """

    recipe: Recipe
    tensors: Mapping[str, Array]
    dense: frozenset[str]
    sha256: str
    source: Path
    training_start: bool

    def network(self) -> FCN:
        """Return the PyTorch network with these weights, in evaluation mode; they are not copied."""
        import torch

        from fcnseg.models.fcn import blank_network

        network = blank_network(network_spec(self.recipe), self.dense)
        state = {name: torch.from_numpy(np.require(a, requirements="W")) for name, a in self.tensors.items()}
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(False)


def load_weights(recipe: Recipe, weights: Path | None = None) -> LoadedWeights:
    """Return the weights of a file of any known format for a recipe's network, or the recipe's own.

    The numbers are the file's, bit for bit, and are not copied where the format allows: while they are in use, such
    a file may be replaced but not written into. Raises WeightsError if there are no weights or the file is unreadable,
    WeightsMismatchError if they are another model's.
    """
    path = find_weights(recipe, weights)
    file = read_weights(path)
    owner = file.metadata.get("recipe", recipe.name)
    if name_from(owner) != name_from(recipe.name):
        raise WeightsMismatchError(f"{path} holds the weights of {owner}, not of {recipe.name}; use --model {owner}")
    fitted = fit(file, recipe)
    tensors = {name: _float32(array) for name, array in fitted.tensors.items()}
    started = fitted.training_start or any(n.startswith("score_") for n in file.metadata.get("initialised", "").split())
    return LoadedWeights(recipe, tensors, fitted.dense, weights_sha256(path), path, started)


def load_whole_model(recipe: Recipe, weights: Path | None = None) -> LoadedWeights:
    """Return `load_weights`, of a whole model. Raises SettingsError for a start that awaits training."""
    loaded = load_weights(recipe, weights)
    if loaded.training_start:
        raise SettingsError(
            f"{loaded.source} is a start for training (its score layers are untrained); train it, "
            "or give weights of a whole model with --weights"
        )
    return loaded


def _float32(array: Array) -> Array:
    """Return a float32 array, over the file's own memory where type, order and alignment allow."""
    return np.require(array.astype("<f4", copy=False), requirements=("C", "A"))
