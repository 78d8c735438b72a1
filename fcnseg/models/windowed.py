"""A trunk in `caffe` geometry in PyTorch without the arithmetic of its blank margins; `models.margins` explains it.

Here a window is kept as it is, not less its background: before each block it is surrounded by as much background as the
block's convolutions read, and afterwards it is put into the map of a blank image of that size. Every cell is then the
sum that the plain trunk computes, term by term.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcnseg.models.backbones import Conv, MaxPool
from fcnseg.models.fcn import FCN
from fcnseg.models.layers import trunk_names
from fcnseg.models.margins import Step, plan_windows
from fcnseg.models.spec import Stream


class Block(NamedTuple):
    """Convolutions and the pooling after them, of which `last` is the step; see `Step` for the padding before them."""

    convolutions: tuple[Conv, ...]
    pool: MaxPool
    padding: int
    multiple: int
    last: Step

    @property
    def reach(self) -> int:
        """The cells that its convolutions read beyond the window on each side."""
        return sum(layer.window.kernel // 2 for layer in self.convolutions)


class Surroundings(NamedTuple):
    """The parts of a trunk's maps that do not depend on an image of one size.

    `backgrounds`, 1 x C x 1 x 1, surround the windows before each block; `maps`, 1 x C x h x w, are those of a blank
    image, by the names of the layers that are read later.
    """

    backgrounds: tuple[Tensor, ...]
    maps: Mapping[str, Tensor]


class WindowedTrunk:
    """The layers of one stream up to the last whose cells depend on the image or on the border alone.

    The network's weights are read when it is called, in the type and on the device that they then have.
    """

    def __init__(self, network: FCN, stream: Stream) -> None:
        self.network, self.names = network, trunk_names(network.spec, stream)
        self.plan = plan_windows(network.layers)
        self.blocks = _blocks(self.plan.steps)
        self.last = self.blocks[-1].pool.name
        self.rest = network.layers[len(self.plan.steps) :]
        self._read = {*network.spec.skips, self.last}

    def __call__(self, image: Tensor, around: Surroundings) -> dict[str, Tensor]:
        """Return the whole maps N x C x h x w that are read later, by layer name, of N x C x H x W; `around` is of
        that size."""
        maps: dict[str, Tensor] = {}
        window = image
        for block, background in zip(self.blocks, around.backgrounds, strict=True):
            window = _surrounded(window, background, block)
            for layer in block.convolutions:
                conv = self._convolution(layer)
                window = F.relu(F.conv2d(window, conv.weight, conv.bias), inplace=True)
            window = F.max_pool2d(window, block.pool.window.kernel, block.pool.window.stride)
            if (name := block.pool.name) in around.maps:
                maps[name] = _within(around.maps[name], window, block.last.first)
        return maps

    def surroundings(self, height: int, width: int) -> Surroundings:
        """Compute what surrounds an image of that size, from a small blank one."""
        plan = self.plan
        blocks = [(size + plan.surplus) // plan.block_px for size in (height, width)]
        cells = [
            size + plan.surplus + plan.blank - plan.block_px * n
            for size, n in zip((height, width), blocks, strict=True)
        ]
        first = plan.steps[0].layer
        assert isinstance(first, Conv)  # as in every plan
        conv = self._convolution(first)
        assert conv.bias is not None
        backgrounds = [conv.weight.new_zeros(1, conv.in_channels, 1, 1)]
        x = F.relu(conv.bias)[None, :, None, None].expand(1, -1, *cells)
        x = x.clone(memory_format=torch.channels_last)
        maps: dict[str, Tensor] = {}
        for step in plan.steps[1:]:
            name = step.layer.name
            x = self.network.run(step.layer, self.names[name], x)
            if isinstance(step.layer, MaxPool):
                inside = slice(step.background, step.background + 1)
                backgrounds.append(x[:, :, inside, inside].clone())
                if name in self._read:
                    more = [n * plan.block_px // step.cell_px for n in blocks]
                    maps[name] = _extended(x, step.background, more)
        return Surroundings(tuple(backgrounds[:-1]), maps)

    def _convolution(self, layer: Conv) -> nn.Conv2d:
        conv = self.network.get_submodule(self.names[layer.name])
        assert isinstance(conv, nn.Conv2d)
        return conv


def _blocks(steps: tuple[Step, ...]) -> tuple[Block, ...]:
    """Divide the steps of a plan at its poolings; the last step is one."""
    blocks, begin = [], 0
    for index, step in enumerate(steps):
        if isinstance(step.layer, MaxPool):
            convolutions = tuple(s.layer for s in steps[begin:index] if isinstance(s.layer, Conv))
            blocks.append(Block(convolutions, step.layer, steps[begin].padding, steps[begin].multiple, step))
            begin = index + 1
    return tuple(blocks)


def _surrounded(window: Tensor, background: Tensor, block: Block) -> Tensor:
    """Surround a window N x C x h x w by the background that a block reads to compute the cells that depend on the
    window, in whole cells of its pooling. No further ones: they may depend on the outer border."""
    before = block.padding + block.reach
    height, width = window.shape[-2:]
    cells = [size + block.padding + block.reach for size in (height, width)]
    shape = [size + -size % block.multiple + 2 * block.reach for size in cells]
    whole = background.expand(len(window), -1, *shape).clone(memory_format=torch.channels_last)
    whole[..., before : before + height, before : before + width] = window
    return whole


def _extended(blank: Tensor, background: int, more: list[int]) -> Tensor:
    """Repeat the cell `background` of a blank map `more` times along each axis."""
    for axis, added in zip((2, 3), more, strict=True):
        cells = torch.arange(blank.shape[axis] + added, device=blank.device)
        blank = blank.index_select(axis, cells - (cells - background).clamp(0, added))
    return blank.contiguous(memory_format=torch.channels_last)


def _within(blank: Tensor, window: Tensor, first: int) -> Tensor:
    """Return the blank map, for every image of the window, with the window in it from cell `first` on."""
    whole = blank.expand(len(window), -1, -1, -1).clone(memory_format=torch.channels_last)
    height, width = window.shape[-2:]
    whole[..., first : first + height, first : first + width] = window
    return whole
