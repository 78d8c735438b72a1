"""What the numbers in a label map mean: class names, colours, and the value that marks void."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

Color = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSpace:
    """The classes of one head: label `i` is `names[i]`, drawn in `colors[i]` (RGB 0..255); `ignore` marks void."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore: int = 255

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    @cached_property
    def palette(self) -> bytes:
        """The 256 RGB triples of an indexed PNG: the classes' colours, then VOC's for the values between."""
        colors = [*self.colors, *(voc_color(i) for i in range(len(self.colors), 256))][:256]
        return bytes(channel for color in colors for channel in color)


def voc_color(index: int) -> Color:
    """The colour of label `index` (0..255) in the PASCAL VOC devkit: its bits dealt out to R, G and B in turn."""
    rgb = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            rgb[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return rgb[0], rgb[1], rgb[2]
