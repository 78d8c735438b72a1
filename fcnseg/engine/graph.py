"""The deployed graph: from decoded images to label maps, with preprocessing and arg-max inside.

One graph serves every runtime, so that no backend can disagree about the mean, the channel order or the padding. It is
ONNX, built from a recipe and its weights without torch; the tests hold it against `models.label_network`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from onnx import TensorProto

import fcnseg
from fcnseg.engine.graph_margins import windowed_trunk
from fcnseg.engine.graph_trunk import TrunkWriter
from fcnseg.engine.graph_writer import GraphWriter, Tensor
from fcnseg.engine.runtimes.common import output_names
from fcnseg.models import network_spec
from fcnseg.models.backbones import INTERPOLATED
from fcnseg.models.margins import applies
from fcnseg.models.spec import Head, NetworkSpec, plan_fusion
from fcnseg.recipes import MODALITIES, Input, Recipe
from fcnseg.weights.tensors import Array

TYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
"""The type of a trunk's weights and maps in a precision; all else is float32 in every one."""


def write_graph(
    path: Path,
    recipe: Recipe,
    weights: Mapping[str, Array],
    *,
    probabilities: str | None = None,
    skip_margins: bool = True,
    precision: str = "fp32",
    weights_sha256: str = "",
    separate_weights: bool = False,
) -> None:
    """Write the graph of a recipe with the weights of its network (see `weights.loading`) as ONNX.

    It takes one tensor a modality, named like it, N x H x W x C: uint8 RGB for color, uint8 as stored for hha, float32
    (N x H x W x 1) for depth; N, H and W are dynamic. It gives what `output_names` names: the label map of every head,
    uint8 N x H x W (uint16 above 256 classes), and, where `probabilities` names their type ("float32" or "float16"),
    the class probabilities of every head, N x K x H x W.

    With `skip_margins` the blank margins of `caffe` geometry are not computed pixel by pixel (see `models.margins`):
    equal to float rounding, and faster. Engines do so; without it this is the plain network that they are held against.
    `precision` is that of the trunk. With `separate_weights` the numbers go into `<path>.data`. Raises OutputError.
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
    scores = write_network(graph, spec, weights, streams, skip_margins=skip_margins, precision=precision)
    for head, score in zip(recipe.heads, scores, strict=True):
        dtype = TensorProto.UINT8 if head.labels.classes <= 256 else TensorProto.UINT16
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
    metadata = {
        "fcnseg": fcnseg.__version__,
        "model": recipe.name,
        "weights_sha256": weights_sha256,
        "classes": json.dumps({head.name: list(head.labels.names) for head in recipe.heads}),
    }
    graph.save(path, metadata, separate_numbers=separate_weights)


def write_network(
    graph: GraphWriter,
    spec: NetworkSpec,
    weights: Mapping[str, Array],
    streams: Sequence[Tensor],
    *,
    skip_margins: bool,
    precision: str = "fp32",
) -> list[Tensor]:
    """Add a network that takes a float32 tensor a stream, N x C x H x W, as `models.fcn.FCN` does; returns the scores
    of each head, float32 N x K x H x W."""
    trunk = windowed_trunk if skip_margins and applies(spec) else TrunkWriter.trunk
    taps = [
        trunk(TrunkWriter(graph, spec, stream, weights, TYPES[precision]), x)
        for stream, x in zip(spec.streams, streams, strict=True)
    ]
    size = graph.size_of(streams[0])
    return [_Fusion(graph, spec, weights, head).fused(taps, size) for head in spec.heads]


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


class _Fusion:
    """One head's score layers, and the skip fusion that brings their scores to the image's size."""

    def __init__(self, graph: GraphWriter, spec: NetworkSpec, weights: Mapping[str, Array], head: Head) -> None:
        self.graph, self.spec, self.weights, self.head = graph, spec, weights, head

    def fused(self, taps: list[dict[str, Tensor]], size: Tensor) -> Tensor:
        """Return scores N x K x H x W: upsample, crop to the skip layer, add, and so on up to the image's `size`."""
        x = self._score("fr", taps)
        if self.spec.backbone in INTERPOLATED:
            return self.graph.interpolated(x, size)
        for step in plan_fusion(self.spec):
            name = step.name + self.head.suffix
            kernel = self._number(f"{name}.weight")
            groups = self.head.classes // self.weights[f"{name}.weight"].shape[1]
            strides = [step.window.stride] * 2
            x = self.graph.node("ConvTranspose", x, kernel, name=name, strides=strides, group=groups)
            if step.target is None:
                if step.offset < 0:
                    raise ValueError(f"{self.spec.geometry!r} scores do not cover the image; read them coarse")
                return self.graph.crop(x, step.offset, size)
            skip = self._score(step.target, taps)
            if step.offset >= 0:
                x = self.graph.node("Add", self.graph.crop(x, step.offset, self.graph.size_of(skip)), skip)
            else:
                x = self.graph.node("Add", x, self.graph.crop(skip, -step.offset, self.graph.size_of(x)))
        raise AssertionError("a fusion plan ends at the image")

    def _score(self, tap: str, taps: list[dict[str, Tensor]]) -> Tensor:
        """Return the score of one tap, averaged over the streams (late fusion)."""
        scores = []
        for stream, maps in zip(self.spec.streams, taps, strict=True):
            x = maps[tap]
            if tap in self.spec.skip_scales:
                scale = f"scale_{tap}{stream.suffix}.weight"
                x = self.graph.node("Mul", x, self.graph.number(self.weights[scale][:, None, None], scale))
            name = f"score_{tap}{stream.suffix}{self.head.suffix}"
            scores.append(
                self.graph.node("Conv", x, self._number(f"{name}.weight"), self._number(f"{name}.bias"), name=name)
            )
        return scores[0] if len(scores) == 1 else self.graph.node("Mean", *scores)

    def _number(self, name: str) -> Tensor:
        return self.graph.number(self.weights[name], name)
