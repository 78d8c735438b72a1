"""Networks: from a recipe to plain PyTorch."""

from __future__ import annotations

from typing import cast

from fcnseg.models.backbones import Geometry
from fcnseg.models.fcn import FCN, Head, NetworkSpec, Stream
from fcnseg.recipes import Recipe

__all__ = ["FCN", "Head", "NetworkSpec", "Stream", "network_spec"]


def network_spec(recipe: Recipe) -> NetworkSpec:
    """The network that a recipe describes."""
    architecture = recipe.architecture
    return NetworkSpec(
        backbone=architecture.backbone,
        stride=architecture.stride,
        heads=tuple(Head(h.labels.classes, h.suffix) for h in recipe.heads),
        streams=tuple(Stream(s.channels, s.suffix, s.first_layer) for s in recipe.streams),
        geometry=cast(Geometry, architecture.geometry),
        width=architecture.width,
        fc_width=architecture.fc_width,
        skip_scales=architecture.skip_scales,
    )
