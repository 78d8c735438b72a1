"""The meaning of the values in a label map: class names, colours, and the value that marks void."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

Color = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSpace:
    """The classes of one head. Label `i` is `names[i]`, drawn in `colors[i]` (RGB 0..255); `ignore` marks void."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore: int = 255

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    @cached_property
    def palette(self) -> bytes:
        """The 256 RGB triples of an indexed PNG: the classes' colours, then VOC's for the values between."""
        colors = [*self.colors, *(voc_color(i) for i in range(len(self.colors), 256))][:256]
        return bytes(channel for color in colors for channel in color)


def voc_color(index: int) -> Color:
    """Return the colour of label `index` (0..255) in the PASCAL VOC devkit.

    The bits of the label, lowest first, go to R, G and B in turn and fill each channel from its highest bit.
    """
    rgb = [0, 0, 0]
    for triple in range(8):
        for channel in range(3):
            rgb[channel] |= (index >> (3 * triple + channel) & 1) << (7 - triple)
    return rgb[0], rgb[1], rgb[2]
