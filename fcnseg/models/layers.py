"""The layers of a network that have weights, by name: what the PyTorch network, the deployed graph and files of weights
agree on. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import SettingsError
from fcnseg.models.backbones import Bottleneck, Conv, Inception, Layer, backbone_layers
from fcnseg.models.geometry import Window
from fcnseg.models.spec import Head, NetworkSpec, Stream, plan_fusion

Shape = tuple[int, ...]

POINT = Window(1)


@dataclass(frozen=True)
class WeightLayer:
    """A layer with weights, its tensors called `NAME.weight` and so on.

    A "score" is a convolution of 1 x 1, a "scale" multiplies each channel by a number, `value` in a new network.
    """

    name: str
    kind: Literal["convolution", "normalisation", "scale", "score", "deconvolution"]
    channels_in: int
    channels: int
    window: Window = POINT
    groups: int = 1
    value: float = 1.0

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each tensor, in the order of a state dict."""
        side, out = self.window.kernel, self.channels
        if self.kind in ("convolution", "score"):
            shapes: dict[str, Shape] = {"weight": (out, self.channels_in // self.groups, side, side), "bias": (out,)}
        elif self.kind == "normalisation":
            shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (out,))
            shapes["num_batches_tracked"] = ()
        elif self.kind == "deconvolution":
            shapes = {"weight": (self.channels_in, out // self.groups, side, side)}
        else:
            shapes = {"weight": (out,)}
        return {f"{self.name}.{key}": shape for key, shape in shapes.items()}


def weight_layers(spec: NetworkSpec, dense_deconvolutions: frozenset[str] = frozenset()) -> tuple[WeightLayer, ...]:
    """List the layers of a network in the order of its state dict.

    `dense_deconvolutions` names those whose kernels mix classes (K x K x k x k); the others hold one kernel a class
    (K x 1 x k x k), which gives the same numbers for diagonal blobs with K times less arithmetic.
    Raises SettingsError for a name that two layers have: two suffixes of a recipe may meet in one.
    """
    layers = [layer for stream in spec.streams for layer in _trunk(spec, stream)]
    layers += [layer for head in spec.heads for layer in _deconvolutions(spec, head, dense_deconvolutions)]
    names: set[str] = set()
    for layer in layers:
        if layer.name in names:
            raise taken(layer.name)
        names.add(layer.name)
    return tuple(layers)


def taken(name: str) -> SettingsError:
    """Return the error for a layer's name that another one has."""
    return SettingsError(f"{name} is the name of two layers; change first_layer or a suffix in the recipe")


def weight_shapes(spec: NetworkSpec, dense_deconvolutions: frozenset[str] = frozenset()) -> dict[str, Shape]:
    """Return the shape of every tensor of a network by its name, in the order of its state dict."""
    layers = weight_layers(spec, dense_deconvolutions)
    return {name: shape for layer in layers for name, shape in layer.shapes.items()}


def trunk_names(spec: NetworkSpec, stream: Stream) -> dict[str, str]:
    """Map the names of the backbone's layers to those in a stream's trunk."""
    layers = backbone_layers(spec.backbone, spec.geometry)
    names = {layer.name: layer.name + stream.suffix for layer in layers}
    names[layers[0].name] = stream.first_layer or names[layers[0].name]
    return names


def deconvolution_names(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the names of all deconvolution layers of a network."""
    return tuple(step.name + head.suffix for head in spec.heads for step in plan_fusion(spec))


def bilinear_kernel(size: int) -> NDArray[np.float32]:
    """Return the size x size kernel that makes a deconvolution of stride ceil(size / 2) interpolate bilinearly."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    taps = 1 - np.abs(np.arange(size, dtype=np.float32) - np.float32(centre)) / np.float32(factor)
    return np.outer(taps, taps).astype(np.float32)


def parameter_count(spec: NetworkSpec) -> int:
    """Count parameters as the paper's table 1 does: weights and biases of trunk and score layers, without the
    deconvolutions (fixed interpolation there) and the constant skip scales."""
    counted = (layer for layer in weight_layers(spec) if layer.kind in ("convolution", "score"))
    return sum(int(np.prod(shape)) for layer in counted for shape in layer.shapes.values())


def initial_values(spec: NetworkSpec) -> Mapping[str, NDArray[np.float32]]:
    """Return the tensors that are the same in every new network: scales, zero scores, bilinear deconvolutions.

    Score layers start at zero: a new skip changes nothing until it is trained (paper, section 4.2).
    """
    values: dict[str, NDArray[np.float32]] = {}
    for layer in weight_layers(spec):
        for name, shape in layer.shapes.items():
            if layer.kind == "deconvolution":
                values[name] = np.ascontiguousarray(np.broadcast_to(bilinear_kernel(layer.window.kernel), shape))
            elif layer.kind in ("score", "scale"):
                values[name] = np.full(shape, layer.value if layer.kind == "scale" else 0, np.float32)
    return values


def _trunk(spec: NetworkSpec, stream: Stream) -> Iterator[WeightLayer]:
    names, channels = trunk_names(spec, stream), stream.channels
    for layer in backbone_layers(spec.backbone, spec.geometry):
        if isinstance(layer, Conv):
            yield from _convolution(spec, names[layer.name], layer, channels)
            channels = _channels(spec, layer)
        elif isinstance(layer, Inception):
            yield from _inception(spec, layer, stream.suffix, channels)
            channels = sum(_channels(spec, _last_convolution(branch)) for branch in layer.branches)
        elif isinstance(layer, Bottleneck):
            yield from _bottleneck(spec, layer, stream.suffix, channels)
            channels = _channels(spec, layer.convolutions[-1])
        if layer.name in spec.skips:
            yield from _scores(spec, layer.name, stream, channels)
    yield from _scores(spec, "fr", stream, channels)


def _channels(spec: NetworkSpec, layer: Conv) -> int:
    """Return the channels of a convolution at this width, an even number, so that groups divide them."""
    return spec.fc_width if layer.fully_connected else max(2, 2 * round(layer.channels * spec.width / 2))


def _convolution(spec: NetworkSpec, name: str, layer: Conv, channels_in: int) -> Iterator[WeightLayer]:
    channels = _channels(spec, layer)
    yield WeightLayer(name, "convolution", channels_in, channels, layer.window, layer.groups)
    if spec.batch_norm:
        yield WeightLayer(f"{name}_bn", "normalisation", channels, channels)


def _inception(spec: NetworkSpec, layer: Inception, suffix: str, channels_in: int) -> Iterator[WeightLayer]:
    for branch in layer.branches:
        channels = channels_in
        for part in branch:
            if isinstance(part, Conv):
                yield from _convolution(spec, part.name + suffix, part, channels)
                channels = _channels(spec, part)


def _bottleneck(spec: NetworkSpec, layer: Bottleneck, suffix: str, channels_in: int) -> Iterator[WeightLayer]:
    channels = channels_in
    for part in layer.convolutions:
        yield from _convolution(spec, part.name + suffix, part, channels)
        channels = _channels(spec, part)
    if layer.projection:
        yield from _convolution(spec, layer.projection.name + suffix, layer.projection, channels_in)


def _last_convolution(branch: tuple[Layer, ...]) -> Conv:
    return next(part for part in reversed(branch) if isinstance(part, Conv))


def _scores(spec: NetworkSpec, tap: str, stream: Stream, channels: int) -> Iterator[WeightLayer]:
    if tap in spec.skip_scales:
        yield WeightLayer(
            f"scale_{tap}{stream.suffix}", "scale", channels, channels, value=float(spec.skip_scales[tap])
        )
    for head in spec.heads:
        yield WeightLayer(f"score_{tap}{stream.suffix}{head.suffix}", "score", channels, head.classes)


def _deconvolutions(spec: NetworkSpec, head: Head, dense: frozenset[str]) -> Iterator[WeightLayer]:
    for step in plan_fusion(spec):
        name, classes = step.name + head.suffix, head.classes
        groups = 1 if name in dense else classes
        yield WeightLayer(name, "deconvolution", classes, classes, step.window, groups)
