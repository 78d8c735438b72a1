"""Precision that lives in the graph: a trunk in half precision, headroom for float16, explicit int8 quantisation.

Score layers, skip scales, deconvolutions and sums stay float32 in each of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from fcnseg.errors import EngineError
from fcnseg.models.backbones import LocalResponseNorm, backbone_layers
from fcnseg.models.layers import trunk_names
from fcnseg.models.spec import NetworkSpec
from fcnseg.types import Pixels
from fcnseg.weights.tensors import Array

if TYPE_CHECKING:
    import onnx

EXACT = "score_", "upscore", "scale_"
"""The layers, by the beginning of their names, that stay float32 in every precision."""

INT8_MAX = 127
"""Symmetric: -127..127, so that zero is exact and negation loses nothing."""


HEADROOM = 3
"""float16 features are 2^3 times smaller: Caffe's VGG then stays 50 times below its limit."""


def is_homogeneous(spec: NetworkSpec) -> bool:
    """Tell whether scaling the trunk's input and biases up to fc6 scales its features alike.

    Convolutions, ReLU and pooling do; AlexNet's and GoogLeNet's local response normalisation does not, nor does
    batch normalisation. A ResNet has no fc6, and its features are small: they were normalised.
    """
    layers = backbone_layers(spec.backbone, spec.geometry)
    normalises = spec.batch_norm or any(isinstance(layer, LocalResponseNorm) for layer in layers)
    return not normalises and any(layer.name == "fc6" for layer in layers)


def with_headroom(weights: Mapping[str, Array], spec: NetworkSpec, exponent: int = HEADROOM) -> dict[str, Array]:
    """Return weights that give float16 headroom: all features before fc6 are smaller by 2^exponent, no score differs.

    The first convolution's weights and the biases up to fc6 shrink; the weights of fc6 and of the skips' score layers
    grow. Powers of two make that exact in float32: the scores stay bit-identical. Caffe's VGG reaches about 10,000 at
    pool3, where float16 ends at 65,504. Raises EngineError for a network that is not homogeneous.
    """
    if not is_homogeneous(spec):
        raise EngineError(f"a {spec.backbone} trunk cannot be rescaled: it normalises; leave its range alone")
    smaller, larger = np.float32(2.0**-exponent), np.float32(2.0**exponent)
    factors: dict[str, np.float32] = {}
    for stream in spec.streams:
        names = trunk_names(spec, stream)
        before = takewhile(lambda name: name != "fc6", names)
        factors |= {f"{names[name]}.bias": smaller for name in before}  # pooling has none
        factors[f"{next(iter(names.values()))}.weight"] = smaller
        factors[f"{names['fc6']}.weight"] = larger
        scores = (f"score_{skip}{stream.suffix}{head.suffix}.weight" for skip in spec.skips for head in spec.heads)
        factors |= dict.fromkeys(scores, larger)
    return {name: array * factors[name] if name in factors else array for name, array in weights.items()}


# ---------------------------------------------------------------------- int8


def measure_ranges(model: onnx.ModelProto, images: Iterable[Mapping[str, Pixels]]) -> dict[str, float]:
    """Return the largest magnitude that each trunk convolution's input reaches on `images` (inputs N x H x W x C by
    modality): the calibration that `quantize` takes, by the layer's name.

    `model` is a plain float32 graph with its weights loaded. A layer that only ever sees zeros (dead channels before
    it) has no range and stays float.
    """
    import onnx
    from onnx.helper import make_node, make_tensor_value_info

    from fcnseg.engine.onnx_session import session_of

    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    layers = list(_trunk_convolutions(model.graph).items())
    del measured.graph.output[:]
    for number, (_, node) in enumerate(layers):
        measured.graph.node.append(make_node("Abs", [node.input[0]], [f"magnitude:{number}"]))
        measured.graph.node.append(make_node("ReduceMax", [f"magnitude:{number}"], [f"largest:{number}"], keepdims=0))
        measured.graph.output.append(make_tensor_value_info(f"largest:{number}", onnx.TensorProto.FLOAT, []))
    session = session_of(measured.SerializeToString())
    largest = np.max([session.run(None, dict(inputs)) for inputs in images], axis=0)
    return {name: float(value) for (name, _), value in zip(layers, largest, strict=True) if value > 0}


def quantize(model: onnx.ModelProto, input_ranges: Mapping[str, float]) -> onnx.ModelProto:
    """The graph with explicit int8 quantisation of the trunk convolutions that `input_ranges` names.

    `input_ranges` maps a layer's name ("conv2_1", "inception_3a/3x3", "conv2_1hha") to the largest magnitude of its
    input, in the units of its features. Symmetric with zero point 0: one scale (range / 127) for an input, one for
    each output channel of the weights; biases stay float32. All that reads a quantised map reads it from int8, the
    score layers of skips too: else libraries compute it twice. `model` (a float32 export with its weights loaded) is
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
    """Puts maps through int8 where they are made, and weights before they are read: a pair of nodes for each."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.numbers = {i.name: i for i in graph.initializer}
        self.before: dict[str, list[onnx.NodeProto]] = {}
        self.after: dict[str, list[onnx.NodeProto]] = {}
        self.dequantized: dict[str, list[str]] = {}
        self.made: set[str] = set()

    def convert(self, node: onnx.NodeProto, largest: float) -> None:
        """Quantise one convolution's input and weights."""
        node.input[0] = self._map(node.input[0], np.float32(largest / INT8_MAX))
        node.input[1] = self._weights(node.input[1], self.before.setdefault(node.output[0], []))

    def finish(self) -> None:
        """Put the new nodes in their places, let all readers of a map read one, and drop what nothing reads."""
        one = {tensor: made[0] for tensor, made in self.dequantized.items() if len(made) == 1}
        for node in self.graph.node:
            node.input[:] = [one.get(name, name) for name in node.input]
        nodes = [n for i in self.graph.input for n in self.after.get(i.name, ())]
        for node in self.graph.node:
            nodes += [*self.before.get(node.output[0], ()), node, *self.after.get(node.output[0], ())]
        read = {name for node in nodes for name in node.input}
        numbers = [number for name, number in self.numbers.items() if name in read]
        _replace(self.graph.node, nodes)
        _replace(self.graph.initializer, numbers)

    def _map(self, tensor: str, scale: np.float32) -> str:
        """The tensor after one trip through int8."""
        from onnx.helper import make_node

        name = f"{tensor}_int8_{scale.tobytes().hex()}"
        output = f"{name}_float"
        if output not in self.made:
            self.made.add(output)
            self.dequantized.setdefault(tensor, []).append(output)
            scales = [self._number(f"{name}_scale", np.asarray(scale)), self._number("int8_zero", np.int8(0))]
            self.after.setdefault(tensor, []).extend(
                [
                    make_node("QuantizeLinear", [tensor, *scales], [name], f"{name}_quantize"),
                    make_node("DequantizeLinear", [name, *scales], [output], f"{name}_dequantize"),
                ]
            )
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
    """Return the trunk's Conv nodes by the name of their layer."""
    convolutions = (node for node in graph.node if node.op_type == "Conv")
    return {node.name: node for node in convolutions if not node.name.startswith(EXACT)}


def _replace(field: Any, messages: list[Any]) -> None:
    """Set a repeated protobuf field; its old messages die when it is cleared, so copies go in."""
    copies = [copy.copy(message) for message in messages]
    del field[:]
    field.extend(copies)
