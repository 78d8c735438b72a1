"""Write the trunk of `caffe` geometry without the arithmetic of its blank margins; `models.margins` explains it."""

from __future__ import annotations

import numpy as np

from fcnseg.engine.graph_trunk import TrunkWriter
from fcnseg.engine.graph_writer import Tensor
from fcnseg.models.backbones import Conv
from fcnseg.models.margins import Step, plan_windows
from fcnseg.weights.tensors import Array


def windowed_trunk(trunk: TrunkWriter, x: Tensor) -> dict[str, Tensor]:
    """Return what `TrunkWriter.trunk` gives, to float rounding, with a fraction of the arithmetic."""
    return _Windows(trunk).run(x)


class _Windows:
    """The layers up to the last one whose cells depend on the image or on the border alone."""

    def __init__(self, trunk: TrunkWriter) -> None:
        self.trunk, self.graph = trunk, trunk.graph
        self.plan = plan_windows(trunk.layers)
        self.answers, self.backgrounds = self._answers()

    def run(self, x: Tensor) -> dict[str, Tensor]:
        """Return the float32 feature maps that score layers read, by layer name."""
        first, *steps = self.plan.steps
        size = self.graph.size_of(x)
        window, blank = self._on_window(first, self.trunk.lowered(x)), self._blank(size)
        maps: dict[str, Tensor] = {}
        for step in steps:
            window, blank = self._on_window(step, window), self.trunk.run(step.layer, blank, ":blank")
            if step.layer.name in self.trunk.spec.skips or step is steps[-1]:
                maps[step.layer.name] = self._whole(step, window, blank, size)
        x = maps[steps[-1].layer.name]
        for layer in self.trunk.layers[len(self.plan.steps) :]:
            x = self.trunk.run(layer, x)
        maps["fr"] = x
        return {name: self.trunk.raised(maps[name]) for name in (*self.trunk.spec.skips, "fr")}

    def _answers(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return what each convolution makes of the background before it, and the background after it, by name."""
        answers, backgrounds = {}, {}
        background = np.zeros(self.trunk.stream.channels, np.float32)
        for step in self.plan.steps:
            if isinstance(step.layer, Conv):
                name = self.trunk.names[step.layer.name]
                weight, bias = (self.trunk.weights[f"{name}.{kind}"] for kind in ("weight", "bias"))
                weight, bias = (a.astype(self.trunk.dtype).astype(np.float32) for a in (weight, bias))
                answer = weight.sum((2, 3)) @ background + bias
                background = np.maximum(answer, 0)
                answers[step.layer.name], backgrounds[step.layer.name] = answer, background
        return answers, backgrounds

    def _background(self, name: str) -> Tensor:
        return self.trunk.vector(self.backgrounds[name], f"{self.trunk.names[name]}.background")

    def _on_window(self, step: Step, x: Tensor) -> Tensor:
        """Run a layer on the window of a map minus its background; return the next window minus its own."""
        layer = step.layer
        if not isinstance(layer, Conv):
            return self.trunk.pool(layer, x, ends=0)
        if step.padding:
            x = self._padded(x, step.padding, step.multiple)
        pad, answer = layer.window.kernel // 2, self.answers[layer.name]
        x = self.trunk.convolve(layer, x, pad=pad, bias=answer, mark=":window")
        return self.graph.node("Sub", x, self._background(layer.name))

    def _padded(self, x: Tensor, padding: int, multiple: int) -> Tensor:
        """Pad a map with zeros on each side, and with more after it until its sides are multiples of `multiple`."""
        reach = 2 * padding + multiple - 1
        beyond = self.graph.whole("Mod", self.graph.whole("Add", self.graph.size_of(x), reach), multiple)
        after = self.graph.whole("Sub", self.graph.number(np.int64(padding + multiple - 1)), beyond)
        return self.graph.pad(x, padding, after)

    def _blank(self, size: Tensor) -> Tensor:
        """Return the first layer's map of the blank image, 1 x C x h x w: of zeros alone, it is all background."""
        plan, graph = self.plan, self.graph
        surplus = graph.whole("Add", size, plan.surplus + plan.blank)
        cells = graph.whole("Sub", surplus, graph.whole("Mul", self._blocks(size), plan.block_px))
        shape = graph.node("Concat", graph.integers(1, 1), cells, axis=0)
        return graph.node("Expand", self._background(plan.steps[0].layer.name), shape)

    def _blocks(self, size: Tensor) -> Tensor:
        """Return the blocks by which an image's map is longer than the blank map, along each axis."""
        return self.graph.whole("Div", self.graph.whole("Add", size, self.plan.surplus), self.plan.block_px)

    def _whole(self, step: Step, window: Tensor, blank: Tensor, size: Tensor) -> Tensor:
        """Return the whole map: the blank one extended to its size, plus the window."""
        graph = self.graph
        more = graph.whole("Mul", self._blocks(size), self.plan.block_px // step.cell_px)
        whole = graph.whole("Add", graph.size_of(blank), more)
        for axis in (2, 3):
            index = graph.number(np.int64(axis - 2))
            cells, added = graph.node("Gather", whole, index), graph.node("Gather", more, index)
            zero, one = graph.number(np.int64(0)), graph.number(np.int64(1))
            cells = graph.node("Range", zero, cells, one)
            inside = graph.node("Clip", graph.whole("Sub", cells, step.background), zero, added)
            blank = graph.node("Gather", blank, graph.node("Sub", cells, inside), axis=axis)
        after = graph.whole("Sub", graph.whole("Sub", whole, graph.size_of(window)), step.first)
        return graph.node("Add", graph.pad(window, step.first, after), blank)
