"""Label maps from the scores before the last upsampling, without upsampling what cannot change a label.

The last deconvolution of a network interpolates bilinearly, with one kernel for all classes: an s x s block of pixels,
s its stride, follows from 2 x 2 cells. Where one class leads in all of them, it leads in the whole block, for its
pixels are sums of the cells with weights that are not negative. Only the other blocks, a quarter in photographs of
streets, are computed.

Sums of floating-point numbers depend on their order, so the arg-max of other sums may differ where classes nearly tie.
A label is therefore taken from a comparison only if its class leads by more than rounding can bring about, whatever the
order. The few blocks that this leaves undecided go to the runtime's own deconvolution and arg-max, as the whole graph
has them: the labels are those of the whole graph, ties included.

With u = 2^-24 and M the largest magnitude of a score: a pixel is the sum of at most four products whose weights sum to
W <= 1, so any evaluation of it is within 4 u W M, to first order, and the difference of two classes within 8 u W M. A
class that leads by more than 8 u M = 2^-21 M in all cells does so in every evaluation of the block; one that leads by
more than 16 u M = 2^-20 M in one evaluation of a pixel leads in every other. LEAD is twice the larger of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fcnseg.models.layers import bilinear_kernel
from fcnseg.models.spec import NetworkSpec, plan_fusion
from fcnseg.types import Labels
from fcnseg.weights.tensors import Array

LEAD = np.float32(2.0**-19)
"""The lead of a class over the others that no rounding takes away, by the largest magnitude of a score."""

LEAST_LEAD = np.float32(2.0**-100)
"""Added to it, for scores so small that their products underflow."""

PIXELS_AT_ONCE = 2**14
"""Pixels that are computed at once: few enough for their scores to stay in the processor's cache."""

UNDECIDED = 16
"""Blocks that the runtime computes at once, always as many: it would lay itself out anew for any other number."""

MANY = 8
"""Where more than one block in so many is undecided, the runtime computes the whole map."""

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""The cells of a block, row and column from the first."""

LastLayers = Callable[[Array], Labels]
"""A runtime's deconvolution and arg-max: from float32 scores K x h x w to the labels of the upsampled map, not cropped:
(h - 1) s + k rows and (w - 1) s + k columns."""


def has_coarse_labels(spec: NetworkSpec, weights: Mapping[str, Array]) -> bool:
    """Tell whether the last upsampling of every head interpolates bilinearly, by one kernel for all classes."""
    plan = plan_fusion(spec)
    if not plan or plan[-1].offset < 0 or any(head.classes < 2 for head in spec.heads):
        return False
    kernel = bilinear_kernel(plan[-1].window.kernel)
    kernels = [(head.classes, weights[f"{plan[-1].name}{head.suffix}.weight"]) for head in spec.heads]
    return all(array.shape == (classes, 1, *kernel.shape) and (array == kernel).all() for classes, array in kernels)


@dataclass(frozen=True)
class Blocks:
    """The last upsampling as sums over 2 x 2 cells.

    `stride_px` is the side of a block, `offset_px` where the image begins in the upsampled map, and `weights`, float32
    4 x stride^2, say what each cell gives to each pixel.
    """

    stride_px: int
    offset_px: int
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, spec: NetworkSpec) -> Blocks:
        """Return those of a network whose last upsampling is bilinear."""
        last = plan_fusion(spec)[-1]
        stride, kernel = last.window.stride, last.window.kernel
        whole = np.zeros((2 * stride, 2 * stride), np.float32)
        whole[:kernel, :kernel] = bilinear_kernel(kernel)
        # from the cell that a block begins at, it has the first half of the kernel, from the one before the second
        halves = whole.reshape(2, stride, 2, stride)[::-1, :, ::-1]
        return cls(stride, last.offset, np.ascontiguousarray(halves.transpose(0, 2, 1, 3)).reshape(4, stride**2))

    def range_of(self, size_px: int) -> tuple[int, int]:
        """Return the first block of an image along an axis, and the one after its last."""
        return self.offset_px // self.stride_px, (self.offset_px + size_px - 1) // self.stride_px + 1


def coarse_labels(scores: Array, size: tuple[int, int], blocks: Blocks, last_layers: LastLayers) -> Labels:
    """Return the labels H x W (`size`) that `last_layers` makes of float32 scores K x h x w, cropped to the image.

    uint8, or uint16 above 256 classes.
    """
    ranges, side = [blocks.range_of(n) for n in size], blocks.stride_px
    starts = [blocks.offset_px - first * side for first, _ in ranges]
    with np.errstate(invalid="ignore"):  # of scores that are no numbers, which leave everything undecided
        grid = _Grid(scores, ranges)
        labels = grid.best.repeat(side, axis=0).repeat(side, axis=1)
        undecided = _compute_mixed(grid, blocks, labels)
    if MANY * len(undecided) > grid.best.size:
        labels, starts = last_layers(scores), [blocks.offset_px] * 2
    else:
        _compute_undecided(grid, blocks, labels, undecided, last_layers)
    (top, left), (height, width) = starts, size
    return np.ascontiguousarray(labels[top : top + height, left : left + width])


class _Grid:
    """The cells around the blocks of an image.

    `cells`, K x (rows + 1) x (columns + 1), are zero outside the map. `best` is the best class of the cell before each
    block, `mixed` the row and column of each block whose cells have not all the same, by more than `margin`.
    """

    def __init__(self, scores: Array, ranges: list[tuple[int, int]]) -> None:
        height, width = scores.shape[1:]
        rows, columns = (np.arange(first - 1, end) for first, end in ranges)
        self.cells = scores[:, rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
        self.margin = LEAD * max(scores.max(), -scores.min()) + LEAST_LEAD
        classes, leads = _two_best(self.cells)  # a cell outside decides nothing: it is as its neighbour
        self.cells[:, (rows < 0) | (rows >= height)] = 0
        self.cells[:, :, (columns < 0) | (columns >= width)] = 0
        clear = leads > self.margin
        self.best = classes[:-1, :-1]
        alike = clear[:-1, :-1]
        for i, j in CORNERS[1:]:
            there = (slice(i, classes.shape[0] - 1 + i), slice(j, classes.shape[1] - 1 + j))
            alike = alike & clear[there] & (classes[there] == self.best)
        self.mixed = np.argwhere(~alike)

    def corners(self, chosen: NDArray[np.intp]) -> list[Array]:
        """Return the four cells, K x n each, of n blocks n x 2."""
        rows, columns = chosen.T
        return [self.cells[:, rows + i, columns + j] for i, j in CORNERS]


def _two_best(planes: Array) -> tuple[Labels, Array]:
    """Return the first of the best classes of planes K x ..., and its lead over the others, not a number if a score is
    none."""
    best, second = planes[0].copy(), np.full(planes.shape[1:], -np.inf, planes.dtype)
    labels = np.zeros(planes.shape[1:], np.uint8 if len(planes) <= 256 else np.uint16)
    spare, better, number = np.empty_like(best), np.empty(best.shape, bool), np.empty_like(labels)
    for index, plane in enumerate(planes[1:], 1):
        np.greater(plane, best, out=better)
        np.maximum(labels, np.multiply(better, labels.dtype.type(index), out=number), out=labels)
        np.maximum(second, np.minimum(best, plane, out=spare), out=second)
        np.maximum(best, plane, out=best)
    return labels, np.subtract(best, second, out=spare)


def _compute_mixed(grid: _Grid, blocks: Blocks, labels: Labels) -> NDArray[np.intp]:
    """Put the labels of mixed blocks in their places; return those that are not decided, n x 2."""
    side, undecided = blocks.stride_px, []
    places = labels.reshape(grid.best.shape[0], side, grid.best.shape[1], side)
    at_once = max(1, PIXELS_AT_ONCE // side**2)
    for begin in range(0, len(grid.mixed), at_once):
        chosen = grid.mixed[begin : begin + at_once]
        cells = np.stack(grid.corners(chosen), axis=-1)
        found, leads = _two_best((cells.reshape(-1, 4) @ blocks.weights).reshape(*cells.shape[:2], side**2))
        places[chosen[:, 0], :, chosen[:, 1]] = found.reshape(-1, side, side)
        undecided.append(chosen[~(leads > grid.margin).all(axis=1)])
    return np.concatenate([np.empty((0, 2), np.intp), *undecided])


def _compute_undecided(
    grid: _Grid, blocks: Blocks, labels: Labels, undecided: NDArray[np.intp], last_layers: LastLayers
) -> None:
    """Put the labels of undecided blocks in their places, computed by the runtime from a row of their cells."""
    side = blocks.stride_px
    places = labels.reshape(grid.best.shape[0], side, grid.best.shape[1], side)
    for begin in range(0, len(undecided), UNDECIDED):
        chosen = undecided[begin : begin + UNDECIDED]
        row = np.zeros((len(grid.cells), 2, UNDECIDED, 2), grid.cells.dtype)
        for (i, j), cells in zip(CORNERS, grid.corners(chosen), strict=True):
            row[:, i, : len(chosen), j] = cells
        upsampled = last_layers(row.reshape(len(row), 2, 2 * UNDECIDED))
        between = upsampled[side : 2 * side, : 2 * UNDECIDED * side].reshape(side, UNDECIDED, 2, side)[:, :, 1]
        places[chosen[:, 0], :, chosen[:, 1]] = between[:, : len(chosen)].transpose(1, 0, 2)
