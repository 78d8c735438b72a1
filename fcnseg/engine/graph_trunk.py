"""Write the layers of a trunk into the deployed graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike
from onnx import TensorProto, helper

from fcnseg.engine.graph_writer import GraphWriter, Tensor
from fcnseg.models.backbones import Bottleneck, Conv, Inception, Layer, LocalResponseNorm, MaxPool, backbone_layers
from fcnseg.models.layers import trunk_names
from fcnseg.models.spec import NetworkSpec, Stream
from fcnseg.weights.tensors import Array


class TrunkWriter:
    """Writes one stream's trunk, its weights and maps in `dtype`."""

    def __init__(
        self, graph: GraphWriter, spec: NetworkSpec, stream: Stream, weights: Mapping[str, Array], dtype: DTypeLike
    ) -> None:
        self.graph, self.spec, self.stream, self.weights = graph, spec, stream, weights
        self.layers = backbone_layers(spec.backbone, spec.geometry)
        self.names = trunk_names(spec, stream)
        self.dtype = np.dtype(dtype)
        self.onnx_type = helper.np_dtype_to_tensor_dtype(self.dtype)

    def trunk(self, x: Tensor) -> dict[str, Tensor]:
        """Return the float32 feature maps that score layers read, by layer name; `fr` is the last one."""
        taps: dict[str, Tensor] = {}
        x = self.lowered(x)
        for layer in self.layers:
            x = self.run(layer, x)
            if layer.name in self.spec.skips:
                taps[layer.name] = self.raised(x)
        return {**taps, "fr": self.raised(x)}

    def run(self, layer: Layer, x: Tensor, mark: str = "") -> Tensor:
        """Run a layer on a whole map; `mark` tells several runs of it apart."""
        if isinstance(layer, Conv):
            return self._convolution(layer, x, mark)
        if isinstance(layer, MaxPool):
            window = layer.window
            ends = window.pad + (window.stride - 1 if layer.rounds_up else 0)
            return self.pool(layer, x, ends=ends, mark=mark)
        if isinstance(layer, LocalResponseNorm):
            # in float32: the squares of large activations need the range
            x = self.graph.node("LRN", self.raised(x), size=5, alpha=1e-4, beta=0.75, bias=1.0)
            return self.lowered(x)
        return self._bottleneck(layer, x) if isinstance(layer, Bottleneck) else self._inception(layer, x)

    def pool(self, layer: MaxPool, x: Tensor, *, ends: int, mark: str = "") -> Tensor:
        """Pool a map with `ends` cells of padding after it.

        With `stride - 1` of them more, rounding the size down gives the windows of rounding it up, and OpenVINO takes
        that for maps smaller than a window too.
        """
        pads, window = [layer.window.pad] * 2 + [ends] * 2, layer.window
        name = self.names.get(layer.name, layer.name + self.stream.suffix) + mark
        return self.graph.node(
            "MaxPool", x, name=name, kernel_shape=[window.kernel] * 2, strides=[window.stride] * 2, pads=pads
        )

    def convolve(self, layer: Conv, x: Tensor, *, pad: int, bias: Array | None = None, mark: str = "") -> Tensor:
        """Convolve a map with a layer's weights and its bias, or another one, and rectify what the layer does."""
        name = self.names.get(layer.name, layer.name + self.stream.suffix)
        weight = self._number(f"{name}.weight", self.weights[f"{name}.weight"])
        added = self._number(f"{name}.bias{mark}", self.weights[f"{name}.bias"] if bias is None else bias)
        window = {
            "strides": [layer.window.stride] * 2,
            "pads": [pad] * 4,
            "dilations": [layer.window.dilation] * 2,
        }
        x = self.graph.node("Conv", x, weight, added, name=f"{name}{mark}", output="", group=layer.groups, **window)
        return self.graph.node("Relu", x) if layer.rectified else x

    def lowered(self, x: Tensor) -> Tensor:
        """Convert a float32 map to the trunk's type."""
        return x if self.dtype == np.float32 else self.graph.cast(x, self.onnx_type)

    def raised(self, x: Tensor) -> Tensor:
        """Convert a map to float32: scores and sums stay exact."""
        return x if self.dtype == np.float32 else self.graph.cast(x, TensorProto.FLOAT)

    def vector(self, values: Array, name: str) -> Tensor:
        """Add a number a channel, C x 1 x 1, in the trunk's type."""
        return self._number(name, values[:, None, None])

    def _convolution(self, layer: Conv, x: Tensor, mark: str) -> Tensor:
        window = layer.window
        if window.pad <= window.span // 2:
            return self.convolve(layer, x, pad=window.pad, mark=mark)
        # as padding within the convolution, whose last bits depend on the image's width in some libraries
        size, reach = self.graph.size_of(x), 2 * window.pad - window.kernel
        unread = self.graph.whole("Mod", self.graph.whole("Add", size, reach), window.stride)
        after = self.graph.whole("Sub", self.graph.number(np.int64(window.pad)), unread)
        return self.convolve(layer, self.graph.pad(x, window.pad, after), pad=0, mark=mark)

    def _inception(self, layer: Inception, x: Tensor) -> Tensor:
        outputs = []
        for branch in layer.branches:
            y = x
            for part in branch:
                y = self.run(part, y)
            outputs.append(y)
        return self.graph.node("Concat", *outputs, name=layer.name + self.stream.suffix, axis=1)

    def _bottleneck(self, layer: Bottleneck, x: Tensor) -> Tensor:
        y = x
        for part in layer.convolutions:
            y = self.run(part, y)
        shortcut = self.run(layer.projection, x) if layer.projection else x
        return self.graph.node("Relu", self.graph.node("Add", y, shortcut, name=layer.name + self.stream.suffix))

    def _number(self, name: str, values: Array) -> Tensor:
        return self.graph.number(values.astype(self.dtype, copy=False), name)
