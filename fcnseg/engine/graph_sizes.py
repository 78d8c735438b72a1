"""Fix the sizes of a graph: all that follows from them is computed once, here, instead of in every run.

Runtimes that know one size a graph (OpenCV, compilers for small devices) take no nodes that compute with sizes. Those
become numbers, as do the maps of the blank image that `graph_margins` adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from fcnseg.engine.graph_writer import OPSET, GraphWriter, Tensor
from fcnseg.engine.onnx_session import session_of

ROUNDS = 100
"""More than any network needs: each round folds what the sizes found in the one before allow."""

IR_VERSION = 10

Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class FixedSizes:
    """The sizes of a graph: height and width of its images in pixels, images a batch. None stays dynamic."""

    height: int | None = None
    width: int | None = None
    batch: int | None = None

    @property
    def axes(self) -> dict[str, int]:
        """The sizes by the names of the graph's axes."""
        return {name: n for name, n in (("H", self.height), ("W", self.width), ("N", self.batch)) if n is not None}


def fix_sizes(graph: GraphWriter, sizes: FixedSizes) -> None:
    """Replace the named axes of a graph's inputs and outputs by numbers, and every node that depends on these and the
    weights alone by its result; a reversal becomes a Gather, which more runtimes take."""
    for value in (*graph.inputs, *graph.outputs):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes.axes:
                dim.dim_value = sizes.axes[dim.dim_param]
    for _ in range(ROUNDS):
        shapes = _shapes(graph)
        if not _fold_shapes(graph, shapes) + _fold_constants(graph):
            break
    graph.nodes = [_gathered(graph, node, shapes) for node in graph.nodes]
    used = {name for node in graph.nodes for name in node.input}
    graph.numbers = {name: array for name, array in graph.numbers.items() if name in used}


def _fold_shapes(graph: GraphWriter, shapes: Mapping[Tensor, Dims]) -> int:
    """Replace the Shape nodes of known shapes; return their number."""
    kept = []
    for node in graph.nodes:
        begin, end = (_attribute(node, name) for name in ("start", "end"))
        dims = shapes.get(node.input[0], ())[begin:end] if node.op_type == "Shape" else ()
        if dims and None not in dims:
            graph.numbers[node.output[0]] = np.array(dims, np.int64)
        else:
            kept.append(node)
    folded = len(graph.nodes) - len(kept)
    graph.nodes = kept
    return folded


def _fold_constants(graph: GraphWriter) -> int:
    """Run the nodes that depend on numbers alone, keep what the others need of them; return their number."""
    known, constant = set(graph.numbers), []
    for node in graph.nodes:
        if all(name in known for name in node.input):
            constant.append(node)
            known.update(node.output)
    others = [node for node in graph.nodes if node not in constant]
    needed = {name for node in others for name in node.input} & {node.output[0] for node in constant}
    if constant:
        graph.numbers.update(_run(graph, constant, sorted(needed)))
        graph.nodes = others
    return len(constant)


def _run(
    graph: GraphWriter, nodes: Sequence[onnx.NodeProto], wanted: Sequence[Tensor]
) -> dict[Tensor, NDArray[np.generic]]:
    """Return the results of nodes without inputs from outside."""
    read = {name for node in nodes for name in node.input}
    numbers = [numpy_helper.from_array(array, name) for name, array in graph.numbers.items() if name in read]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in wanted]
    session = session_of(_model(nodes, [], outputs, numbers).SerializeToString())
    return dict(zip(wanted, session.run(list(wanted), {}), strict=True))


def _gathered(graph: GraphWriter, node: onnx.NodeProto, shapes: Mapping[Tensor, Dims]) -> onnx.NodeProto:
    """Return a Gather for a Slice that reverses an axis of known size, any other node unchanged."""
    if node.op_type != "Slice" or len(node.input) < 5:
        return node
    axis, step = (int(graph.numbers[name].flat[0]) for name in node.input[3:5])
    size = shapes.get(node.input[0], ())[axis] if step == -1 else None
    if size is None:
        return node
    index = graph.integers(*range(size - 1, -1, -1))
    return helper.make_node("Gather", [node.input[0], index], list(node.output), node.name, axis=axis)


def _shapes(graph: GraphWriter) -> dict[Tensor, Dims]:
    """Return the shapes of a graph's tensors as far as they are known; its weights take part by their shapes alone."""
    whole = {name: array for name, array in graph.numbers.items() if array.dtype.kind in "iu"}
    weights = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in graph.numbers.items()
        if name not in whole
    ]
    numbers = [numpy_helper.from_array(array, name) for name, array in whole.items()]
    model = _model(graph.nodes, [*graph.inputs, *weights], graph.outputs, numbers)
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: tuple(d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input)
    }


def _model(
    nodes: Iterable[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    numbers: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "part", list(inputs), list(outputs), list(numbers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _attribute(node: onnx.NodeProto, name: str) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), None)
