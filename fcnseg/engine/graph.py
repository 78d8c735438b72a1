"""The deployed graph: from decoded images to label maps, with preprocessing and arg-max inside.

One graph serves every runtime, so that no backend can disagree about the mean, the channel order or the padding. It is
ONNX, built from a recipe and its weights without torch; the tests hold it against `models.label_network`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from onnx import TensorProto

import fcnseg
from fcnseg.engine.graph_fusion import Fusion
from fcnseg.engine.graph_margins import windowed_trunk
from fcnseg.engine.graph_sizes import FixedSizes, fix_sizes
from fcnseg.engine.graph_trunk import TrunkWriter
from fcnseg.engine.graph_writer import GraphWriter, Tensor
from fcnseg.engine.runtimes.common import coarse_names, output_names
from fcnseg.models import network_spec
from fcnseg.models.margins import applies
from fcnseg.models.spec import NetworkSpec
from fcnseg.recipes import MODALITIES, Input, Recipe
from fcnseg.weights.tensors import Array


@dataclass(frozen=True)
class GraphForm:
    """The way in which a network is written; all give the same scores, to float rounding, and differ in speed.

    `skip_margins`: the blank margins of `caffe` geometry are not computed pixel by pixel (see `models.margins`).
    `subpixel`: a deconvolution whose kernel is twice its stride is a convolution that gives the pixels of a cell as
    channels. `classes_last`: scores are transposed before the arg-max, so that it compares neighbours in memory.
    """

    skip_margins: bool = True
    subpixel: bool = False
    classes_last: bool = False

    def __str__(self) -> str:
        return ", ".join(name.replace("_", " ") for name, chosen in asdict(self).items() if chosen) or "plain"


PLAIN = GraphForm(skip_margins=False)
"""The network as it is defined, which engines are held against."""

TYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
"""The type of a trunk's weights and maps in a precision; all else is float32 in every one."""


def write_graph(
    path: Path,
    recipe: Recipe,
    weights: Mapping[str, Array],
    *,
    probabilities: str | None = None,
    form: GraphForm = GraphForm(),
    precision: str = "fp32",
    weights_sha256: str = "",
    separate_weights: bool = False,
    coarse_scores: bool = False,
    fixed: FixedSizes | None = None,
) -> None:
    """Write the graph of a recipe with the weights of its network (see `weights.loading`) as ONNX.

    It takes one tensor a modality, named like it, N x H x W x C: uint8 RGB for color, uint8 as stored for hha, float32
    (N x H x W x 1) for depth; N, H and W are dynamic unless they are `fixed`. It gives what `output_names` names: the
    label map of every head, uint8 N x H x W (uint16 above 256 classes), and, where `probabilities` names their type
    ("float32" or "float16"), the class probabilities of every head, N x K x H x W.

    `precision` is that of the trunk. With `separate_weights` the numbers go into `<path>.data`. `coarse_scores` adds
    those of every head before the last upsampling, float32 N x K x h x w, as `coarse_names` names them. Raises
    OutputError.
    """
    spec, graph = network_spec(recipe), GraphWriter()
    images = {
        m: graph.input(m, TensorProto.FLOAT if m == "depth" else TensorProto.UINT8, ["N", "H", "W", MODALITIES[m]])
        for m in recipe.modalities
    }
    streams = []
    for stream in recipe.streams:
        prepared = [prepare(graph, source, images[source.modality]) for source in stream.inputs]
        streams.append(prepared[0] if len(prepared) == 1 else graph.node("Concat", *prepared, axis=1))
    coarse, scores = write_scores(graph, spec, weights, streams, form=form, precision=precision)
    for head, score in zip(recipe.heads, scores, strict=True):
        dtype = TensorProto.UINT8 if head.labels.classes <= 256 else TensorProto.UINT16
        if form.classes_last:
            largest = graph.node("ArgMax", graph.node("Transpose", score, perm=[0, 2, 3, 1]), axis=3, keepdims=0)
        else:
            largest = graph.node("ArgMax", score, axis=1, keepdims=0)
        graph.output(graph.cast(largest, dtype, head.name), dtype, ["N", "H", "W"])
    if probabilities:
        dtype = TensorProto.FLOAT16 if probabilities == "float16" else TensorProto.FLOAT
        names = output_names(recipe, True)[len(recipe.heads) :]
        for head, name, score in zip(recipe.heads, names, scores, strict=True):
            graph.output(
                graph.cast(graph.node("Softmax", score, axis=1), dtype, name),
                dtype,
                ["N", head.labels.classes, "H", "W"],
            )
    if coarse_scores:
        for head, name, score in zip(recipe.heads, coarse_names(recipe), coarse, strict=True):
            graph.output(
                graph.node("Identity", score, output=name),
                TensorProto.FLOAT,
                ["N", head.labels.classes, f"{name} rows", f"{name} columns"],
            )
    metadata = {
        "fcnseg": fcnseg.__version__,
        "model": recipe.name,
        "weights_sha256": weights_sha256,
        "classes": json.dumps({head.name: list(head.labels.names) for head in recipe.heads}),
    }
    if fixed is not None and fixed.axes:
        fix_sizes(graph, fixed)
    graph.save(path, metadata, separate_numbers=separate_weights)


def write_network(
    graph: GraphWriter,
    spec: NetworkSpec,
    weights: Mapping[str, Array],
    streams: Sequence[Tensor],
    *,
    form: GraphForm,
    precision: str = "fp32",
) -> list[Tensor]:
    """Add a network that takes a float32 tensor a stream, N x C x H x W, as `models.fcn.FCN` does; returns the scores
    of each head, float32 N x K x H x W."""
    return write_scores(graph, spec, weights, streams, form=form, precision=precision)[1]


def write_scores(
    graph: GraphWriter,
    spec: NetworkSpec,
    weights: Mapping[str, Array],
    streams: Sequence[Tensor],
    *,
    form: GraphForm,
    precision: str,
) -> tuple[list[Tensor], list[Tensor]]:
    """Add a network as `write_network` does; returns each head's scores before the last upsampling, and after it."""
    trunk = windowed_trunk if form.skip_margins and applies(spec) else TrunkWriter.trunk
    taps = [
        trunk(TrunkWriter(graph, spec, stream, weights, TYPES[precision]), x)
        for stream, x in zip(spec.streams, streams, strict=True)
    ]
    size = graph.size_of(streams[0])
    fusions = [Fusion(graph, spec, weights, head, subpixel=form.subpixel) for head in spec.heads]
    coarse = [fusion.coarse(taps) for fusion in fusions]
    return coarse, [fusion.on_image(scores, size) for fusion, scores in zip(fusions, coarse, strict=True)]


def prepare(graph: GraphWriter, source: Input, image: Tensor) -> Tensor:
    """Make the network's float32 input N x C x H x W: the recipe's channel order, minus its mean.

    Depth is the natural logarithm of the stored value; a depth of zero or less means "not measured" and becomes the
    mean, as does one that is not finite.
    """
    x = graph.cast(graph.node("Transpose", image, perm=[0, 3, 1, 2]), TensorProto.FLOAT)
    if source.order == "bgr":
        last, beyond, step, axis = map(graph.integers, (-1, -(2**63), -1, 1))
        x = graph.node("Slice", x, last, beyond, axis, step)
    mean = graph.number(np.array(source.mean, np.float32)[:, None, None])
    if source.order != "log":
        return graph.node("Sub", x, mean)
    zero, one, infinite = (graph.number(np.float32(n)) for n in (0, 1, np.inf))
    measured = graph.node("And", graph.node("Greater", x, zero), graph.node("Less", x, infinite))
    logarithm = graph.node("Log", graph.node("Where", measured, x, one))
    return graph.node("Where", measured, graph.node("Sub", logarithm, mean), zero)
