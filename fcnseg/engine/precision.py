"""Precision that lives in the graph: a trunk in half precision, headroom for float16, explicit int8 quantisation.

Score layers, skip scales, deconvolutions and sums stay float32 in each of them.
"""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fcnseg.engine.options import PRECISIONS
from fcnseg.errors import EngineError
from fcnseg.models.backbones import LocalResponseNorm
from fcnseg.models.fcn import FCN
from fcnseg.types import Pixels

if TYPE_CHECKING:
    import onnx

    from fcnseg.engine.graph import LabelGraph

EXACT = "score_", "upscore", "scale_"
"""The layers, by the beginning of their names, that stay float32 in every precision."""

INT8_MAX = 127
"""Symmetric: -127..127, so that zero is exact and negation loses nothing."""


def lower_trunk(network: FCN, dtype: torch.dtype) -> None:
    """Put the trunk in `dtype`, in place; score layers, skip scales and deconvolutions stay float32."""
    for name, module in network.named_children():
        if not name.startswith(EXACT):
            module.to(dtype)


def cast_trunk(network: FCN, precision: str) -> None:
    """Put the trunk in "fp32", "bf16" or "fp16", in place; in "fp16" with headroom where the network allows it."""
    if precision == "fp16" and is_homogeneous(network):
        rescale_trunk(network, HEADROOM)
    lower_trunk(network, torch_dtype(precision))


def torch_dtype(precision: str) -> torch.dtype:
    """Return torch's type of a precision that is not quantised."""
    dtype: torch.dtype = getattr(torch, PRECISIONS[precision].torch_dtype or "")
    return dtype


HEADROOM = 3
"""float16 features are 2^3 times smaller: Caffe's VGG then stays 50 times below its limit."""


# ---------------------------------------------------------------------- headroom


def is_homogeneous(network: FCN) -> bool:
    """Tell whether scaling the trunk's input and biases scales its features alike.

    Convolutions, ReLU and pooling do; AlexNet's and GoogLeNet's local response normalisation does not, nor does
    batch normalisation.
    """
    return not network.spec.batch_norm and not any(isinstance(layer, LocalResponseNorm) for layer in network.layers)


def rescale_trunk(network: FCN, exponent: int) -> None:
    """Give float16 headroom: make all features before fc6 smaller by 2^exponent, in place, and no score different.

    The first convolution's weights and the biases up to fc6 shrink; the weights of fc6 and of the skips' score layers
    grow. Powers of two make that exact in float32: the scores stay bit-identical. Caffe's VGG reaches about 10,000 at
    pool3, where float16 ends at 65,504. Parameters are replaced, not written into: they may lie in a mapped file.
    Raises EngineError for a network that is not homogeneous (see `is_homogeneous`).
    """
    if not is_homogeneous(network):
        raise EngineError(f"a {network.spec.backbone} trunk cannot be rescaled: it normalises; leave its range alone")
    smaller, larger = 2.0**-exponent, 2.0**exponent
    modules = dict(network.named_children())
    for stream in network.spec.streams:
        first = stream.first_layer or network.layers[0].name + stream.suffix
        _scale(modules[first], "weight", smaller)
        for layer in network.layers:
            name = first if layer is network.layers[0] else layer.name + stream.suffix
            if layer.name == "fc6":
                _scale(modules[name], "weight", larger)
                break
            if name in modules:  # pooling has no parameters
                _scale(modules[name], "bias", smaller)
        for skip in network.spec.skips:
            for head in network.spec.heads:
                _scale(modules[f"score_{skip}{stream.suffix}{head.suffix}"], "weight", larger)


def _scale(module: nn.Module, name: str, factor: float) -> None:
    parameter = getattr(module, name)
    setattr(module, name, nn.Parameter(parameter.detach() * factor, requires_grad=parameter.requires_grad))


# ---------------------------------------------------------------------- int8


def measure_ranges(graph: LabelGraph, images: Iterable[Mapping[str, Pixels]]) -> dict[str, float]:
    """The largest magnitude that each trunk convolution's input reaches on `images` (inputs N x H x W x C by
    modality): the calibration that `quantize` takes, by the layer's name. A layer that only ever sees zeros (dead
    channels before it) has no range and stays float."""
    ranges: dict[str, float] = {}

    def note(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        ranges[name] = max(ranges.get(name, 0.0), float(inputs[0].abs().max()))

    handles = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs))
        for name, module in graph.network.named_children()
        if isinstance(module, nn.Conv2d) and not name.startswith(EXACT)
    ]
    try:
        with torch.inference_mode():
            for inputs in images:
                graph.scores(*(torch.from_numpy(inputs[modality]) for modality in graph.recipe.modalities))
    finally:
        for handle in handles:
            handle.remove()
    return {name: largest for name, largest in ranges.items() if largest > 0}


def quantize(model: onnx.ModelProto, input_ranges: Mapping[str, float]) -> onnx.ModelProto:
    """The graph with explicit int8 quantisation of the trunk convolutions that `input_ranges` names.

    `input_ranges` maps a layer's name ("conv2_1", "inception_3a/3x3", "conv2_1hha") to the largest magnitude of its
    input, in the units of its features. Symmetric with zero point 0: one scale (range / 127) for an input, one for
    each output channel of the weights; biases stay float32. `model` (a float32 export with its weights loaded) is
    left as it is. Raises EngineError for a layer that the graph does not have or that stays float, and for a range
    that is not a positive number.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    convolutions = _trunk_convolutions(result.graph)
    for layer, largest in input_ranges.items():
        if layer not in convolutions:
            raise EngineError(f"layer {layer!r} is no trunk convolution of this graph; give ranges of its own layers")
        if not (largest > 0 and math.isfinite(largest)):
            raise EngineError(f"the input of {layer} has the range {largest}; calibrate on images that reach it")
    quantizer = _Quantizer(result.graph)
    for layer, node in convolutions.items():  # in the graph's order: a shared pair goes before its first reader
        if layer in input_ranges:
            quantizer.convert(node, input_ranges[layer])
    quantizer.finish()
    return result


class _Quantizer:
    """Puts dequantised int8 before convolutions, one pair of nodes for each tensor and scale."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.numbers = {i.name: i for i in graph.initializer}
        self.before: dict[str, list[onnx.NodeProto]] = {}
        self.made: set[str] = set()

    def convert(self, node: onnx.NodeProto, largest: float) -> None:
        """Quantise one convolution's input and weights."""
        new = self.before.setdefault(node.output[0], [])
        node.input[0] = self._input(node.input[0], np.float32(largest / INT8_MAX), new)
        node.input[1] = self._weights(node.input[1], new)

    def finish(self) -> None:
        """Put the new nodes in their places and drop the float weights that nothing reads any more."""
        nodes = [n for node in self.graph.node for n in (*self.before.get(node.output[0], ()), node)]
        read = {name for node in nodes for name in node.input}
        numbers = [number for name, number in self.numbers.items() if name in read]
        _replace(self.graph.node, nodes)
        _replace(self.graph.initializer, numbers)

    def _input(self, tensor: str, scale: np.float32, new: list[onnx.NodeProto]) -> str:
        """The tensor after one trip through int8."""
        from onnx.helper import make_node

        name = f"{tensor}_int8_{scale.tobytes().hex()}"
        output = f"{name}_float"
        if output not in self.made:
            self.made.add(output)
            scales = [self._number(f"{name}_scale", np.asarray(scale)), self._number("int8_zero", np.int8(0))]
            new.append(make_node("QuantizeLinear", [tensor, *scales], [name], f"{name}_quantize"))
            new.append(make_node("DequantizeLinear", [name, *scales], [output], f"{name}_dequantize"))
        return output

    def _weights(self, name: str, new: list[onnx.NodeProto]) -> str:
        """The weights from int8 numbers, with a scale for each output channel."""
        from onnx.helper import make_node
        from onnx.numpy_helper import to_array

        output = f"{name}_float"
        if output not in self.made:
            self.made.add(output)
            weights = to_array(self.numbers[name])
            if weights.dtype != np.float32:
                raise EngineError(f"{name} is {weights.dtype}; quantise a float32 export")
            largest = np.abs(weights).max(axis=(1, 2, 3))
            scales = np.where(largest > 0, largest / INT8_MAX, 1).astype(np.float32)  # a channel of zeros: any scale
            values = np.clip(np.rint(weights / scales[:, None, None, None]), -INT8_MAX, INT8_MAX).astype(np.int8)
            inputs = [
                self._number(f"{name}_int8", values),
                self._number(f"{name}_scale", scales),
                self._number(f"{name}_zero", np.zeros(len(scales), np.int8)),
            ]
            new.append(make_node("DequantizeLinear", inputs, [output], f"{name}_dequantize", axis=0))
        return output

    def _number(self, name: str, value: Any) -> str:
        from onnx.numpy_helper import from_array

        self.numbers.setdefault(name, from_array(np.asarray(value), name))
        return name


def _trunk_convolutions(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The trunk's Conv nodes by the name of their layer."""
    convolutions = ((_layer(node), node) for node in graph.node if node.op_type == "Conv")
    return {layer: node for layer, node in convolutions if not layer.startswith(EXACT)}


def _layer(node: onnx.NodeProto) -> str:
    """A convolution's layer: from the exporter's note of its module, else from its weights, which identical layers
    share."""
    notes = {note.key: note.value for note in node.metadata_props}
    scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
    names = [scope for scope in scopes if scope.startswith("network.")] or [node.input[1].removesuffix(".weight")]
    return str(names[-1]).removeprefix("network.")


def _replace(field: Any, messages: list[Any]) -> None:
    """Set a repeated protobuf field; its old messages die when it is cleared, so copies go in."""
    copies = [copy.copy(message) for message in messages]
    del field[:]
    field.extend(copies)
