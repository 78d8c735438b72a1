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

from fcnseg.models.backbones import Conv, Layer, MaxPool
from fcnseg.models.geometry import Window
from fcnseg.models.spec import NetworkSpec


def applies(spec: NetworkSpec) -> bool:
    """True for networks whose margins can be left out: VGG-16, `caffe` geometry, no batch norm."""
    return spec.backbone == "vgg16" and spec.geometry == "caffe" and not spec.batch_norm


def computed_cells(layers: tuple[Layer, ...], height: int, width: int) -> dict[str, int]:
    """Count the cells of each convolution that are computed for an image: those of its window and of the blank map."""
    plan = plan_windows(layers)
    windows, blanks, cells = [height, width], [plan.blank_size(n) for n in (height, width)], {}
    for index, step in enumerate(plan.steps):
        windows = [step.window_size(n) for n in windows]
        if index and isinstance(step.layer, MaxPool):
            blanks = [-(-n // step.layer.window.stride) for n in blanks]
        if isinstance(step.layer, Conv):
            cells[step.layer.name] = prod(windows) + (prod(blanks) if index else 0)  # the first blank map is one vector
    return cells


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

    def window_size(self, before: int) -> int:
        """Return the cells of the window after this layer, along an axis, that had `before` cells before it."""
        if isinstance(self.layer, MaxPool):
            return before // self.layer.window.stride
        return -(-(before + 2 * self.padding) // self.multiple) * self.multiple if self.padding else before


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

    def blank_size(self, image: int) -> int:
        """Return the cells of the blank map, along an axis, for an image of that many pixels."""
        return self.blank + (image + self.surplus) % self.block_px


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
