"""Tiles of images, cut so that no score changes.

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
    """A tile along one axis: it takes pixels `start` to before `end`, and gives labels `first` to before `last`."""

    start: int
    end: int
    first: int
    last: int

    @property
    def pixels(self) -> slice:
        """The pixels that the tile takes, in the image."""
        return slice(self.start, self.end)

    @property
    def labels(self) -> slice:
        """The labels that the tile gives, in the image."""
        return slice(self.first, self.last)

    @property
    def kept(self) -> slice:
        """The labels that the tile gives, in the tile."""
        return slice(self.first - self.start, self.last - self.start)


Tile = tuple[Cut, Cut]
"""A tile's rows and columns."""


def smallest_side(halo: Halo) -> int:
    """Return the smallest side of tiles, px, that suits images of every size."""
    return halo.before_px + halo.after_px + 2 * halo.step_px - 1


def cut_image(
    size: tuple[int, int], halo: Halo, largest: tuple[float, float] = (inf, inf), most_px: float = inf
) -> tuple[Tile, ...]:
    """Return the tiles of an image of that height and width, row by row: those with the fewest pixels in all.

    Each is no larger than `largest` (height, width) and has no more than `most_px` pixels. Empty if none is that small.
    """
    choices = [
        (height * down * width * across, down * across, height, width)
        for height, down in _sides(size[0], halo)
        for width, across in _sides(size[1], halo)
        if height <= largest[0] and width <= largest[1] and height * width <= most_px
    ]
    if not choices:
        return ()
    *_, height, width = min(choices)
    return tuple(product(cut_axis(size[0], height, halo), cut_axis(size[1], width, halo)))


def _sides(size: int, halo: Halo) -> Iterator[tuple[int, int]]:
    """Yield the useful sides of tiles along an axis of `size` px, longest first, and the number that covers it."""
    yield size, 1
    if size % halo.side_px:
        return
    room = (size - halo.before_px - halo.after_px) // halo.step_px
    for tiles in range(2, room + 1):
        # the last of them starts at step m, and none may start further from the one before than its own length less
        # the halo: ceil(m / (tiles - 1)) <= room - m
        side = size - halo.step_px * ((tiles - 1) * (room // tiles) + max(0, room % tiles - 1))
        if _count(size, side, halo) == tiles:
            yield side, tiles


def _count(size: int, side: int, halo: Halo) -> int:
    """Return the number of tiles of that side that cover an axis."""
    advance = (side - halo.before_px - halo.after_px) // halo.step_px
    return 1 - (side - size) // halo.step_px // advance


def cut_axis(size: int, side: int, halo: Halo) -> tuple[Cut, ...]:
    """Return the fewest tiles of `side` px that cover an axis of `size` px; the rest is a multiple of the step."""
    if side == size:
        return (Cut(0, size, 0, size),)
    steps, last = (size - side) // halo.step_px, _count(size, side, halo) - 1
    starts = [halo.step_px * (steps * i // last) for i in range(last + 1)]
    edges = [0, *(start + halo.before_px for start in starts[1:]), size]
    return tuple(Cut(start, start + side, *kept) for start, kept in zip(starts, pairwise(edges), strict=True))
