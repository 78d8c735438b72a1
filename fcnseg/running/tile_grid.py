"""Where an image is cut into tiles so that no score changes.

Tiles overlap by the network's halo, begin at multiples of its step, and end at the image's borders exactly: there
the network sees the same border as in the whole image. All tiles of an image are equal, so that an engine that
compiles by shape does so once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import inf

from fcnseg.models.halo import Halo


@dataclass(frozen=True)
class Cut:
    """A tile along one axis: it takes the pixels `start` to before `end`, and gives the labels of `first` to before
    `last`."""

    start: int
    end: int
    first: int
    last: int

    @property
    def pixels(self) -> slice:
        """What it takes, of the image."""
        return slice(self.start, self.end)

    @property
    def labels(self) -> slice:
        """What it gives, of the image."""
        return slice(self.first, self.last)

    @property
    def kept(self) -> slice:
        """What it gives, of itself."""
        return slice(self.first - self.start, self.last - self.start)


Tile = tuple[Cut, Cut]
"""A tile's rows and columns."""


def smallest_side(seen: Halo) -> int:
    """The side in px that tiles can have whatever an image's size."""
    return seen.before_px + seen.after_px + 2 * seen.step_px - 1


def cut_image(
    size: tuple[int, int], seen: Halo, largest: tuple[float, float] = (inf, inf), most_px: float = inf
) -> tuple[Tile, ...]:
    """The tiles, row by row, of an image of that height and width: those with the least pixels in all, each no larger
    than `largest` (height, width) and of no more than `most_px` pixels. Empty if there are none that small."""
    choices = [
        (height * down * width * across, down * across, height, width)
        for height, down in _sides(size[0], seen)
        for width, across in _sides(size[1], seen)
        if height <= largest[0] and width <= largest[1] and height * width <= most_px
    ]
    if not choices:
        return ()
    *_, height, width = min(choices)
    return tuple(product(cut_axis(size[0], height, seen), cut_axis(size[1], width, seen)))


def _sides(size: int, seen: Halo) -> Iterator[tuple[int, int]]:
    """The useful sides of tiles that cut an axis of `size` px, longest first, and how many of each cover it."""
    yield size, 1
    room = (size - seen.before_px - seen.after_px) // seen.step_px
    for tiles in range(2, room + 1):
        # the last of them starts at step m, and none may start further from the one before than its own length less
        # the halo: ceil(m / (tiles - 1)) <= room - m
        side = size - seen.step_px * ((tiles - 1) * (room // tiles) + max(0, room % tiles - 1))
        if _count(size, side, seen) == tiles:
            yield side, tiles


def _count(size: int, side: int, seen: Halo) -> int:
    """How many tiles of that side cover an axis."""
    advance = (side - seen.before_px - seen.after_px) // seen.step_px
    return 1 - (side - size) // seen.step_px // advance


def cut_axis(size: int, side: int, seen: Halo) -> tuple[Cut, ...]:
    """As few tiles of `side` px as cover an axis of `size` px; the rest of the axis is a multiple of the step."""
    if side == size:
        return (Cut(0, size, 0, size),)
    steps, last = (size - side) // seen.step_px, _count(size, side, seen) - 1
    starts = [seen.step_px * (steps * i // last) for i in range(last + 1)]
    edges = [0, *(start + seen.before_px for start in starts[1:]), size]
    return tuple(Cut(start, start + side, *kept) for start, kept in zip(starts, pairwise(edges), strict=True))
