"""A PyTorch network from decoded images to label maps, with preprocessing and arg-max inside: what the deployed graph
(`engine.graph`) is held against."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcnseg.models.fcn import FCN
from fcnseg.recipes import Input, Recipe


class LabelNetwork(nn.Module):
    """A network with its preprocessing and arg-max.

    Takes one tensor a modality, N x H x W x C in the recipe's order of modalities: uint8 RGB for color, uint8 as
    stored for hha, float32 (N x H x W x 1) for depth. Returns the label map of every head.
    """

    def __init__(self, network: FCN, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        for s, stream in enumerate(recipe.streams):
            for i, source in enumerate(stream.inputs):
                mean = torch.tensor(source.mean, dtype=torch.float32)[:, None, None]
                self.register_buffer(f"mean_{s}_{i}", mean, persistent=False)

    def scores(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Compute float32 scores of each head, N x K x H x W, before the softmax."""
        by_modality = dict(zip(self.recipe.modalities, images, strict=True))
        streams = []
        for s, stream in enumerate(self.recipe.streams):
            prepared = [
                prepare(source, by_modality[source.modality], getattr(self, f"mean_{s}_{i}"))
                for i, source in enumerate(stream.inputs)
            ]
            streams.append(prepared[0] if len(prepared) == 1 else torch.cat(prepared, dim=1))
        return tuple(self.network(*streams))

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Compute labels of each head, uint8 N x H x W (uint16 above 256 classes)."""
        return tuple(labels_of(scores) for scores in self.scores(*images))


def prepare(source: Input, image: Tensor, mean: Tensor) -> Tensor:
    """Make the network's float32 input N x C x H x W: the recipe's channel order, minus its mean.

    Depth is the natural logarithm of the stored value; a depth of zero or less means "not measured" and becomes the
    mean, as does one that is not finite.
    """
    x = image.permute(0, 3, 1, 2).to(torch.float32)
    if source.order == "bgr":
        x = x.flip(1)
    if source.order != "log":
        return x - mean
    measured = (x > 0) & torch.isfinite(x)
    return torch.where(measured, torch.log(torch.where(measured, x, 1.0)) - mean, 0.0)


def labels_of(scores: Tensor) -> Tensor:
    """Return the class with the highest score, uint8 N x H x W (uint16 above 256 classes)."""
    return scores.argmax(1).to(torch.uint8 if scores.shape[1] <= 256 else torch.uint16)
