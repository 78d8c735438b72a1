"""The VGG-16 trunk in `caffe` geometry without the arithmetic of its blank margins.

There conv1_1 pads an image by 100 zeros on every side: at 500 x 375, more than half of what conv1_1 to pool4 compute
comes from zeros alone. Those results do not depend on the image:

- where a map depends on neither the image nor the outer border, it repeats one vector, its background;
- near the border it depends on the position relative to the border alone (and, where pooling rounds the size up, on the
  size modulo the trunk's step), so the maps of a small blank image have the rings and corners of a large one's.

Hence, as long as no cell depends on both the image and the border (up to pool4):

1. Only the window that depends on the image is computed, on maps minus their background. Those are zero outside the
   window, so zero padding continues them exactly: before the convolutions of a block, as wide as these reach, in whole
   cells of the pooling after them. (Padding of more than half a kernel within a convolution would do the same, but
   libraries then choose other kernels, with other last bits, for other widths: a tile's labels would not be the
   image's.)
2. The same layers run once on a small blank image; the background inside its maps is repeated up to the real size.
3. The whole map is the sum of the two. What follows (conv5_1 to fc7) runs on whole maps.

No size is typed in: windows, paddings and the blank image follow from the layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, takewhile
from math import prod
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcnseg.models.backbones import Conv, Layer, MaxPool
from fcnseg.models.fcn import FCN
from fcnseg.models.geometry import Window
from fcnseg.models.spec import NetworkSpec, Stream


def applies(spec: NetworkSpec) -> bool:
    """True for networks whose trunks `WindowedTrunk` can compute: VGG-16, `caffe` geometry, no batch norm."""
    return spec.backbone == "vgg16" and spec.geometry == "caffe" and not spec.batch_norm


# ---------------------------------------------------------------------- the plan: arithmetic along one axis


@dataclass(frozen=True)
class Reach:
    """One axis of a map: cells [first, end) depend on the image, all but [inside, inside_end) on the outer border."""

    first: int
    end: int
    inside: int
    inside_end: int

    @classmethod
    def of_image(cls, size: int, margin: int) -> Self:
        """An image of `size` pixels within its margins; no pixel depends on the border, as zeros lie on either side."""
        return cls(margin, margin + size, 0, size + 2 * margin)

    def after(self, window: Window) -> Self:
        """Return the reach in the output of a convolution or pooling. Cells of windows cut short are the border's."""
        kernel, stride, pad = window.kernel, window.stride, window.pad
        return type(self)(
            -((kernel - 1 - pad - self.first) // stride),
            (self.end - 1 + pad) // stride + 1,
            -((-pad - self.inside) // stride),
            (self.inside_end + pad - kernel) // stride + 1,
        )

    @property
    def apart(self) -> bool:
        """True if no cell depends on both image and border."""
        return self.inside <= self.first and self.end <= self.inside_end


@dataclass(frozen=True)
class Step:
    """One layer computed on the window, its output's cells `cell_px` apart.

    Before it, the window is padded with `padding` zeros on each side, and with more after it up to a multiple of
    `multiple`. The output begins at cell `first` of the whole map. `background` is the first cell that does not depend
    on the border.
    """

    layer: Conv | MaxPool
    cell_px: int
    padding: int
    multiple: int
    first: int
    background: int


@dataclass(frozen=True)
class WindowPlan:
    """The layers that are computed on a window, and sizes along an axis.

    The blank map (the first layer's, of a blank image) has `blank` cells or up to `block_px - 1` more, so that it
    differs by whole blocks of `block_px` from the image's map, whose size is the image's plus `blank + surplus`.
    """

    steps: tuple[Step, ...]
    block_px: int
    blank: int
    surplus: int


@lru_cache
def plan_windows(layers: tuple[Layer, ...]) -> WindowPlan:
    """Plan a trunk of convolutions of stride 1 and poolings without padding, its first layer with margins."""
    plain = [layer for layer in layers if isinstance(layer, Conv | MaxPool)]
    margin = plain[0].window.pad
    plain[0] = replace(plain[0], window=replace(plain[0].window, pad=0))  # the margins are part of the image here
    period_px = prod(layer.window.stride for layer in plain)
    reaches = [Reach.of_image(size, margin) for size in range(1, period_px + 1)]  # larger ones repeat these
    steps: list[Step] = []
    windowed = 0
    first, cell_px = margin, 1
    for index, layer in enumerate(plain):
        window = layer.window
        reaches = [reach.after(window) for reach in reaches]
        if not all(reach.apart for reach in reaches):
            break
        padding, multiple = 0, 1
        if isinstance(layer, Conv):
            if index == 0 or isinstance(plain[index - 1], MaxPool):
                padding, multiple = _block_padding(plain[index:], first)
            first += window.pad - window.kernel // 2 - padding
        else:
            first, cell_px = first // window.stride, cell_px * window.stride
            windowed = index + 1
        steps.append(Step(layer, cell_px, padding, multiple, first, reaches[0].inside))
    return _with_sizes(tuple(steps[:windowed]), 2 * margin)


def _block_padding(layers: Sequence[Conv | MaxPool], first: int) -> tuple[int, int]:
    """Return how many zeros a window that begins at cell `first` is padded with, and the stride of the next pooling.

    The convolutions up to that pooling then compute every cell that depends on the window, in whole cells of it.
    """
    convolutions = [layer.window for layer in takewhile(lambda layer: isinstance(layer, Conv), layers)]
    stride = next((layer.window.stride for layer in layers if isinstance(layer, MaxPool)), 1)
    reach = sum(window.kernel // 2 for window in convolutions)
    begins = first + sum(window.pad - window.kernel // 2 for window in convolutions) - reach
    return reach + begins % stride, stride


def _with_sizes(steps: tuple[Step, ...], margins: int) -> WindowPlan:
    """Return the plan of these steps, with its sizes."""
    block_px = steps[-1].cell_px
    blank = next(n for n in count(1) if all(_has_background(steps, n + more) for more in range(block_px)))
    first_map = margins - steps[0].layer.window.kernel + 1
    return WindowPlan(steps, block_px, blank, first_map - blank)


def _has_background(steps: tuple[Step, ...], blank: int) -> bool:
    """True if a blank map of the first layer is large enough to leave some background in the last map."""
    reach = Reach.of_image(blank, 0)
    for step in steps[1:]:
        reach = reach.after(step.layer.window)
    return reach.inside < reach.inside_end


# ---------------------------------------------------------------------- the trunk


class WindowedTrunk(nn.Module):
    """Compute `FCN.trunk` for one stream, to float rounding, with a fraction of the arithmetic.

    For inference (no dropout, no gradients) with constant weights: one vector a layer is derived from them on
    construction, in the network's precision. The weights themselves stay the network's.
    """

    def __init__(self, network: FCN, stream: Stream) -> None:
        super().__init__()
        if not applies(network.spec):
            raise ValueError(f"not a plain VGG-16 in 'caffe' geometry: {network.spec}")
        self.plan = plan_windows(network.layers)
        names = [layer.name + stream.suffix for layer in network.layers]
        names[0] = stream.first_layer or names[0]
        self.names = dict(zip((layer.name for layer in network.layers), names, strict=True))
        self._add_backgrounds(network, stream.channels)

    def forward(self, network: FCN, image: Tensor) -> dict[str, Tensor]:
        """Return the float32 feature maps that score layers read, by layer name: see `FCN.trunk`.

        `image` is N x C x H x W, `network` the one this was made for.
        """
        height, width = image.shape[-2:]
        first, *steps = self.plan.steps
        dtype = self._conv(network, first.layer).weight.dtype
        x = self._run_on_window(network, first, image.to(dtype))
        blank = self._blank(height, width)
        maps: dict[str, Tensor] = {}
        for step in steps:
            x, blank = self._run_on_window(network, step, x), self._run(network, step.layer, blank)
            if step.layer.name in network.spec.skips or step is steps[-1]:
                maps[step.layer.name] = self._whole(step, x, blank, height, width)
        x = maps[steps[-1].layer.name]
        for layer in network.layers[len(self.plan.steps) :]:
            x = self._run(network, layer, x)
        maps["fr"] = x
        return {name: maps[name].float() for name in (*network.spec.skips, "fr")}

    @torch.no_grad()
    def _add_backgrounds(self, network: FCN, channels: int) -> None:
        """Register two buffers a convolution: its answer to the background before it, and the background after it."""
        background = torch.zeros(channels)
        for step in self.plan.steps:
            if isinstance(step.layer, Conv):
                conv = self._conv(network, step.layer)
                weight, bias = conv.weight, conv.bias
                assert bias is not None
                exact = torch.promote_types(weight.dtype, torch.float32)
                answer = weight.sum((2, 3), dtype=exact) @ background.to(weight.device, exact) + bias
                background = answer.relu()
                name, after_relu = step.layer.name, background.to(weight.dtype)[:, None, None]
                self.register_buffer(f"answer_{name}", answer.to(weight.dtype), persistent=False)
                self.register_buffer(f"background_{name}", after_relu, persistent=False)

    def _conv(self, network: FCN, layer: Layer) -> nn.Conv2d:
        conv = network.get_submodule(self.names[layer.name])
        assert isinstance(conv, nn.Conv2d)
        return conv

    def _run(self, network: FCN, layer: Layer, x: Tensor) -> Tensor:
        """Run a layer on a whole map."""
        if isinstance(layer, Conv):
            return F.relu(self._conv(network, layer)(x), inplace=True)
        assert isinstance(layer, MaxPool)
        return F.max_pool2d(x, layer.window.kernel, layer.window.stride, ceil_mode=True)

    def _run_on_window(self, network: FCN, step: Step, x: Tensor) -> Tensor:
        """Run a layer on the window of a map minus its background; return the next window minus its own."""
        if isinstance(step.layer, MaxPool):
            return F.max_pool2d(x, step.layer.window.kernel, step.layer.window.stride)
        if step.padding:
            x = _padded(x, step.padding, step.multiple)
        weight, name = self._conv(network, step.layer).weight, step.layer.name
        x = F.conv2d(x, weight, self.get_buffer(f"answer_{name}"), padding=step.layer.window.kernel // 2)
        return F.relu(x, inplace=True).sub_(self.get_buffer(f"background_{name}"))

    def _blank(self, height: int, width: int) -> Tensor:
        """Return the first layer's map of the blank image, 1 x C x h x w: of zeros alone, it is all background."""
        plan = self.plan
        rows, columns = (
            size + plan.surplus + plan.blank - self._blocks(size) * plan.block_px for size in (height, width)
        )
        background = self.get_buffer(f"background_{plan.steps[0].layer.name}")
        return background.expand(1, -1, rows, columns)

    def _blocks(self, size: int) -> int:
        """Return the blocks by which an image's map is longer than the blank map, along an axis."""
        return (size + self.plan.surplus) // self.plan.block_px

    def _whole(self, step: Step, window: Tensor, blank: Tensor, height: int, width: int) -> Tensor:
        """Return the whole map: the blank one extended to its size, plus the window."""
        for axis, size in ((2, height), (3, width)):
            more = self._blocks(size) * (self.plan.block_px // step.cell_px)
            cells = torch.arange(blank.shape[axis] + more, device=blank.device)
            blank = blank.index_select(axis, cells - (cells - step.background).clamp(0, more))
        bottom, right = (
            whole - part - step.first for whole, part in zip(blank.shape[2:], window.shape[2:], strict=True)
        )
        return F.pad(window, (step.first, right, step.first, bottom)) + blank


def _padded(x: Tensor, padding: int, multiple: int) -> Tensor:
    """Pad a map with zeros on each side, and with more after it until its sides are multiples of `multiple`."""
    bottom, right = (
        padding + multiple - 1 - (size + 2 * padding + multiple - 1) % multiple  # no negative operand: ONNX truncates
        for size in x.shape[-2:]
    )
    return F.pad(x, (padding, right, padding, bottom))
