"""Batch normalisation put back into weights that it was folded into, for further training.

Deployed weights have none: each layer of it was folded into the convolution before. Without it, high learning rates
diverge, and training gains little on where it was.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from fcnseg.models.fcn import FCN
from fcnseg.models.label_network import LabelNetwork
from fcnseg.recipes import Recipe
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.batches import collate
from fcnseg.training.weight_surgery import new_network

MEASURED_VIEWS = 64
"""Views over which the statistics of the layers are measured."""

SMALLEST_VARIANCE = 1e-6


@torch.no_grad()
def with_restored_norm(plain: FCN, recipe: Recipe, views: AugmentedSamples) -> FCN:
    """Return a copy of a network with batch normalisation after each convolution of its trunk.

    It computes the same in evaluation mode, to float rounding: scale and shift of each layer undo what its running mean
    and variance do, which are those over the first views.
    """
    network = new_network(replace(plain.spec, batch_norm=True))
    network.load_state_dict(plain.state_dict(), strict=False)
    layers = {name: part for name, part in network.named_children() if isinstance(part, nn.BatchNorm2d)}
    sums = {name: torch.zeros(3, layer.num_features, dtype=torch.float64) for name, layer in layers.items()}
    hooks = [layer.register_forward_hook(partial(_measure, sums[name])) for name, layer in layers.items()]
    model = LabelNetwork(network, recipe).eval()
    for batch in collate([views[number, number] for number in range(min(MEASURED_VIEWS, len(views)))], micro_batch=8):
        model.scores(*(batch.inputs[modality] for modality in recipe.modalities))
    for hook in hooks:
        hook.remove()
    for name, layer in layers.items():
        pixels, total, squares = sums[name]
        mean = total / pixels
        variance = (squares / pixels - mean.square()).clamp_min(SMALLEST_VARIANCE)
        for value, measured in (("running_mean", mean), ("running_var", variance), ("bias", mean)):
            getattr(layer, value).copy_(measured)
        layer.weight.copy_((variance + layer.eps).sqrt())
    return network


def _measure(sums: Tensor, _layer: nn.Module, inputs: tuple[Tensor], _result: Tensor) -> Tensor:
    """Add number, sum and sum of squares of a layer's inputs, by channel; let them through as they are."""
    values = inputs[0].double().movedim(1, 0).flatten(1)
    sums += torch.stack([torch.full_like(values[:, 0], values.shape[1]), values.sum(1), values.square().sum(1)])
    return inputs[0]
