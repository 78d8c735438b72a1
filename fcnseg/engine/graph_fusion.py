"""Write the score layers and the skip fusion into the deployed graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fcnseg.engine.graph_writer import GraphWriter, Tensor
from fcnseg.models.backbones import INTERPOLATED
from fcnseg.models.spec import Head, NetworkSpec, Upsampling, plan_fusion
from fcnseg.weights.tensors import Array


class Fusion:
    """One head's score layers, and the skip fusion that brings their scores to the image's size."""

    def __init__(
        self, graph: GraphWriter, spec: NetworkSpec, weights: Mapping[str, Array], head: Head, *, subpixel: bool
    ) -> None:
        self.graph, self.spec, self.weights, self.head, self.subpixel = graph, spec, weights, head, subpixel

    def coarse(self, taps: list[dict[str, Tensor]]) -> Tensor:
        """Return scores N x K x h x w before the last upsampling: upsample, crop to the skip layer, add, and so on."""
        x = self._score("fr", taps)
        for step in plan_fusion(self.spec)[:-1]:
            assert step.target is not None  # the last step's alone is the image
            x = self._upsampled(x, step)
            skip = self._score(step.target, taps)
            if step.offset >= 0:
                x = self.graph.node("Add", self.graph.crop(x, step.offset, self.graph.size_of(skip)), skip)
            else:
                x = self.graph.node("Add", x, self.graph.crop(skip, -step.offset, self.graph.size_of(x)))
        return x

    def on_image(self, x: Tensor, size: Tensor) -> Tensor:
        """Upsample coarse scores for the last time, and crop them to the image's `size`."""
        if self.spec.backbone in INTERPOLATED:
            return self.graph.interpolated(x, size)
        last = plan_fusion(self.spec)[-1]
        if last.offset < 0:
            raise ValueError(f"{self.spec.geometry!r} scores do not cover the image; read them coarse")
        return self.graph.crop(self._upsampled(x, last), last.offset, size)

    def _upsampled(self, x: Tensor, step: Upsampling) -> Tensor:
        """Return a deconvolution of scores, with the weights C x C / groups x k x k."""
        name, stride = step.name + self.head.suffix, step.window.stride
        weight = self.weights[f"{name}.weight"]
        groups = self.head.classes // weight.shape[1]
        if self.subpixel and weight.shape[2:] == (2 * stride, 2 * stride):
            return self._subpixel(x, name, weight, groups)
        kernel = self._number(f"{name}.weight")
        return self.graph.node("ConvTranspose", x, kernel, name=name, strides=[stride] * 2, group=groups)

    def _subpixel(self, x: Tensor, name: str, weight: Array, groups: int) -> Tensor:
        """Return the same of a kernel twice the stride s: each s x s block of pixels follows from 2 x 2 cells.

        A convolution gives the block's pixels as channels, which DepthToSpace puts in their places. If every class is
        upsampled alone and by the same kernel, as bilinear interpolation is, classes are images of one channel.
        """
        graph, classes, stride = self.graph, self.head.classes, weight.shape[-1] // 2
        alike = groups == classes and bool((weight == weight[:1]).all())
        size = graph.size_of(x) if alike else ""
        if alike:
            weight, groups = weight[:1], 1
            x = graph.node("Reshape", x, graph.node("Concat", graph.integers(-1, 1), size, axis=0))
        kernel = graph.number(_subpixel_kernel(weight, stride, groups), f"{name}.subpixel")
        x = graph.node("Conv", x, kernel, name=name, pads=[1] * 4, group=groups)
        x = graph.node("DepthToSpace", x, blocksize=stride, mode="CRD")
        if alike:
            shape = graph.node("Concat", graph.integers(-1, classes), graph.size_of(x), axis=0)
            x = graph.node("Reshape", x, shape)
        return x

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


def _subpixel_kernel(weight: Array, stride: int, groups: int) -> Array:
    """Return the kernel, C s^2 x C_in / groups x 2 x 2, of a deconvolution's weights C_in x C / groups x 2s x 2s.

    Cell i puts its value at pixels s i to s i + 2s - 1: a pixel has the first half of the kernel from the cell that its
    block begins at, and the second half from the cell before.
    """
    incoming, outgoing = weight.shape[:2]
    halves = weight.reshape(groups, incoming // groups, outgoing, 2, stride, 2, stride)[:, :, :, ::-1, :, ::-1]
    kernel = halves.transpose(0, 2, 4, 6, 1, 3, 5)  # group, class, row and column in the block, cell's channel, cell
    return np.ascontiguousarray(kernel).reshape(groups * outgoing * stride**2, incoming // groups, 2, 2)
