"""The VGG-16 trunk in `caffe` geometry without the arithmetic of its blank margins.

There conv1_1 pads an image by 100 zeros on every side: at 500 x 375, more than half of what conv1_1 to pool4 compute
comes from zeros alone. Those results need no image:

- out of reach of both the image and the outer border, a map repeats one vector, its background;
- near the border it depends on the place relative to the border alone (and, where pooling rounds the size up, on the
  size modulo the trunk's step), so the maps of a small blank image have the rings and corners of a large one's.

Hence, as long as the image and the border reach different cells (up to pool4):

1. Only the window that the image reaches is computed, on maps less their background. Beyond the window those are zero,
   so zeros continue them exactly: before the convolutions of a block, as many as these reach, in whole cells of the
   pooling after them. (Padding of more than half a kernel within a convolution would do the same, but libraries then
   choose other kernels, with other last bits, for other widths: a tile's labels would not be the image's.)
2. The same layers run once on a small blank image; the background inside its maps is repeated up to the real size.
3. The whole map is the sum of the two. What follows (conv5_1 to fc7) runs on whole maps.

No size is typed in: windows, paddings and the blank image follow from the layers.
"""

from __future__ import annotations

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
    """Whether `WindowedTrunk` computes the trunks of such networks: VGG-16, `caffe` geometry, no batch norm."""
    return spec.backbone == "vgg16" and spec.geometry == "caffe" and not spec.batch_norm


# ---------------------------------------------------------------------- the plan: arithmetic along one axis


@dataclass(frozen=True)
class Reach:
    """One axis of a map: the image reaches the cells [first, end), the outer border all but [inside, inside_end)."""

    first: int
    end: int
    inside: int
    inside_end: int

    @classmethod
    def of_image(cls, size: int, margin: int) -> Self:
        """An image of `size` pixels within its margins; the border is out of sight, for zeros lie on either side."""
        return cls(margin, margin + size, 0, size + 2 * margin)

    def after(self, window: Window) -> Self:
        """The same of the output of a convolution or pooling. A cell of a window cut short counts as the border's."""
        kernel, stride, pad = window.kernel, window.stride, window.pad
        return type(self)(
            -((kernel - 1 - pad - self.first) // stride),
            (self.end - 1 + pad) // stride + 1,
            -((-pad - self.inside) // stride),
            (self.inside_end + pad - kernel) // stride + 1,
        )

    @property
    def apart(self) -> bool:
        """Whether image and border reach different cells."""
        return self.inside <= self.first and self.end <= self.inside_end


@dataclass(frozen=True)
class Step:
    """One layer on the window, its output's cells `cell_px` apart.

    First, `padding` zeros go around the window, and more after it until its size is a multiple of `multiple`. The
    output begins at cell `first` of the whole map. `background` is the first cell that the border does not reach.
    """

    layer: Conv | MaxPool
    cell_px: int
    padding: int
    multiple: int
    first: int
    background: int


@dataclass(frozen=True)
class WindowPlan:
    """The layers that run on a window, and the sizes along an axis.

    The blank map, of the first layer, has `blank` cells or up to `block_px - 1` more: as many as make the real one's
    size, which is the image's plus `blank + surplus`, in blocks of `block_px`.
    """

    steps: tuple[Step, ...]
    block_px: int
    blank: int
    surplus: int


@lru_cache
def plan_windows(layers: tuple[Layer, ...]) -> WindowPlan:
    """The plan for a trunk of convolutions of stride 1 and poolings without padding, its first layer with margins."""
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
    return _measured(tuple(steps[:windowed]), 2 * margin)


def _block_padding(layers: Sequence[Conv | MaxPool], first: int) -> tuple[int, int]:
    """The zeros before a window that begins at cell `first`, for the convolutions up to the next pooling to reach all
    they can and end at a whole cell of it; and its stride."""
    convolutions = [layer.window for layer in takewhile(lambda layer: isinstance(layer, Conv), layers)]
    stride = next((layer.window.stride for layer in layers if isinstance(layer, MaxPool)), 1)
    reach = sum(window.kernel // 2 for window in convolutions)
    begins = first + sum(window.pad - window.kernel // 2 for window in convolutions) - reach
    return reach + begins % stride, stride


def _measured(steps: tuple[Step, ...], margins: int) -> WindowPlan:
    """The plan of these steps: what is left is its sizes."""
    block_px = steps[-1].cell_px
    blank = next(n for n in count(1) if all(_has_background(steps, n + more) for more in range(block_px)))
    first_map = margins - steps[0].layer.window.kernel + 1
    return WindowPlan(steps, block_px, blank, first_map - blank)


def _has_background(steps: tuple[Step, ...], blank: int) -> bool:
    """Whether a blank map of the first layer is large enough for some background within the last map."""
    reach = Reach.of_image(blank, 0)
    for step in steps[1:]:
        reach = reach.after(step.layer.window)
    return reach.inside < reach.inside_end


# ---------------------------------------------------------------------- the trunk


class WindowedTrunk(nn.Module):
    """What `FCN.trunk` computes for one stream, to float rounding, with a fraction of the arithmetic.

    For inference (no dropout, no gradients) with weights that stay as they are: it keeps what follows from them, one
    vector a layer, in the precision that the network had. The weights themselves stay the network's.
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
        """The float32 feature maps that score layers read, by layer name; `image` is N x C x H x W, see `FCN.trunk`.

        `network` is the one this was made for.
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
        """For each convolution two buffers: its answer to the background before it, and the background after it."""
        background = torch.zeros(channels)
        for step in self.plan.steps:
            if isinstance(step.layer, Conv):
                conv = self._conv(network, step.layer)
                weight, bias = conv.weight, conv.bias
                assert bias is not None
                exact = torch.promote_types(weight.dtype, torch.float32)
                answer = weight.sum((2, 3), dtype=exact) @ background.to(weight.device, exact) + bias
                background = answer.relu()
                name, kept = step.layer.name, background.to(weight.dtype)[:, None, None]
                self.register_buffer(f"answer_{name}", answer.to(weight.dtype), persistent=False)
                self.register_buffer(f"background_{name}", kept, persistent=False)

    def _conv(self, network: FCN, layer: Layer) -> nn.Conv2d:
        conv = network.get_submodule(self.names[layer.name])
        assert isinstance(conv, nn.Conv2d)
        return conv

    def _run(self, network: FCN, layer: Layer, x: Tensor) -> Tensor:
        """A layer on a whole map."""
        if isinstance(layer, Conv):
            return F.relu(self._conv(network, layer)(x), inplace=True)
        assert isinstance(layer, MaxPool)
        return F.max_pool2d(x, layer.window.kernel, layer.window.stride, ceil_mode=True)

    def _run_on_window(self, network: FCN, step: Step, x: Tensor) -> Tensor:
        """A layer on the window of a map less its background: gives the next window, less its own."""
        if isinstance(step.layer, MaxPool):
            return F.max_pool2d(x, step.layer.window.kernel, step.layer.window.stride)
        if step.padding:
            x = _extended(x, step.padding, step.multiple)
        weight, name = self._conv(network, step.layer).weight, step.layer.name
        x = F.conv2d(x, weight, self.get_buffer(f"answer_{name}"), padding=step.layer.window.kernel // 2)
        return F.relu(x, inplace=True).sub_(self.get_buffer(f"background_{name}"))

    def _blank(self, height: int, width: int) -> Tensor:
        """The first layer's map of the blank image, 1 x C x h x w: of zeros alone, it is all background."""
        plan = self.plan
        rows, columns = (
            size + plan.surplus + plan.blank - self._blocks(size) * plan.block_px for size in (height, width)
        )
        background = self.get_buffer(f"background_{plan.steps[0].layer.name}")
        return background.expand(1, -1, rows, columns)

    def _blocks(self, size: int) -> int:
        """How many blocks longer than the blank map an image's map is, along an axis."""
        return (size + self.plan.surplus) // self.plan.block_px

    def _whole(self, step: Step, window: Tensor, blank: Tensor, height: int, width: int) -> Tensor:
        """The whole map: the blank one grown to its size, plus the window."""
        for axis, size in ((2, height), (3, width)):
            more = self._blocks(size) * (self.plan.block_px // step.cell_px)
            cells = torch.arange(blank.shape[axis] + more, device=blank.device)
            blank = blank.index_select(axis, cells - (cells - step.background).clamp(0, more))
        bottom, right = (
            whole - part - step.first for whole, part in zip(blank.shape[2:], window.shape[2:], strict=True)
        )
        return F.pad(window, (step.first, right, step.first, bottom)) + blank


def _extended(x: Tensor, padding: int, multiple: int) -> Tensor:
    """A map with that many zeros around it, and more after it until its sides are multiples of `multiple`."""
    bottom, right = (
        padding + multiple - 1 - (size + 2 * padding + multiple - 1) % multiple  # of positives: ONNX truncates
        for size in x.shape[-2:]
    )
    return F.pad(x, (padding, right, padding, bottom))
