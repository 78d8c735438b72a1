"""Specification of a network, and the plan of its skip fusion, derived from the layers' windows. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from fcnseg.models.backbones import INTERPOLATED, SKIPS, Geometry, backbone_layers, grids
from fcnseg.models.geometry import IMAGE, Grid, Window, crop_offset, upsampling_window
from fcnseg.recipes import Recipe


@dataclass(frozen=True)
class Stream:
    """One trunk: its input channels, the suffix of its layers' names, and its first layer's name if that differs."""

    channels: int = 3
    suffix: str = ""
    first_layer: str | None = None


@dataclass(frozen=True)
class Head:
    """One label map: its number of classes and the suffix of its layers' names."""

    classes: int
    suffix: str = ""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that defines a network's layers.

    `stride` is 32, 16 or 8 (the paper's 32s, 16s, 8s). `width` multiplies the channels of every trunk layer,
    `fc_width` is the width of fc6 and fc7. `skip_scales` multiply a skip layer before its score (8s-at-once).
    `batch_norm` adds normalisation after each trunk convolution, for training; `fold_batch_norm` removes it.
    """

    backbone: str
    stride: int
    heads: tuple[Head, ...]
    streams: tuple[Stream, ...] = (Stream(),)
    geometry: Geometry = "caffe"
    width: float = 1.0
    fc_width: int = 4096
    skip_scales: Mapping[str, float] = field(default_factory=dict)
    batch_norm: bool = False

    @property
    def skips(self) -> tuple[str, ...]:
        """The names of the layers that are fused in, coarsest first."""
        return tuple(name for step, name in SKIPS[self.backbone].items() if step >= self.stride)


@dataclass(frozen=True)
class Upsampling:
    """One deconvolution of the skip fusion: its window, and the map that its output is cropped to.

    The crop begins at sample `offset` of this map, or if that is negative at sample `-offset` of `target` (a skip
    layer's name; None: the image).
    """

    name: str
    window: Window
    target: str | None
    offset: int


def plan_fusion(spec: NetworkSpec) -> tuple[Upsampling, ...]:
    """Return the deconvolutions from the coarsest score to the image, kernels and offsets derived from the layers; none
    where scores are interpolated."""
    if spec.backbone in INTERPOLATED:
        return ()
    layers = backbone_layers(spec.backbone, spec.geometry)
    outputs = grids(layers)
    current = outputs[layers[-1].name]
    steps: list[Upsampling] = []
    targets: list[tuple[str | None, Grid]] = [*((name, outputs[name]) for name in spec.skips), (None, IMAGE)]
    for index, (target, grid) in enumerate(targets):
        factor = int(current.step_px / grid.step_px)
        window = upsampling_window(current, factor, grid)
        current = current.upsampled(window)
        name = _upsampling_name(spec, index, factor)
        steps.append(Upsampling(name, window, target, crop_offset(current, grid)))
        current = grid if steps[-1].offset >= 0 else current
    return tuple(steps)


def _upsampling_name(spec: NetworkSpec, index: int, factor: int) -> str:
    """Return the release's name: upscore; upscore2, upscore16; upscore2, upscore_pool4, upscore8."""
    if index == len(spec.skips):
        return f"upscore{factor}" if spec.skips else "upscore"
    return "upscore2" if index == 0 else f"upscore_{spec.skips[index - 1]}"


def network_spec(recipe: Recipe) -> NetworkSpec:
    """Return the specification of the network that a recipe describes."""
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
