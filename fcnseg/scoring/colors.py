"""Colours of label maps: RGB images as labels, and the palettes of indexed images."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.confusion import Counts, Map, strips


def color_codes(space: LabelSpace) -> dict[Color, int]:
    """Return the code of each colour that one class alone has; void has the VOC devkit's colour of its value."""
    codes = [(color, i) for i, color in enumerate(space.colors)]
    codes += [(voc_color(space.ignore), VOID)] if space.ignore < 256 else []
    times = Counter(color for color, _ in codes)
    return {color: code for color, code in codes if times[color] == 1}


def color_table(colors: Mapping[Color, int], classes: int) -> Map:
    """Return the label of each of the 2^24 colours, from their codes: K for void, K + 1 for colours without a code."""
    table: Map = np.full(1 << 24, classes + 1, np.uint8 if classes < 255 else np.uint16)
    for color, code in colors.items():
        table[_packed(np.array(color, np.uint32))] = classes if code == VOID else code
    return table


def labels_from_colors(pixels: NDArray[np.uint8], table: Map, classes: int) -> Map:
    """Translate RGB pixels, H x W x 3, by a `color_table`. Raises LabelsError for colours that no class has."""
    labels: Map = np.empty(pixels.shape[:2], table.dtype)
    foreign = Counter[int]()
    for rows in strips(labels):
        packed = _packed(pixels[rows].astype(np.uint32))
        labels[rows] = table[packed]
        strays, counts = np.unique(packed[labels[rows] > classes], return_counts=True)
        foreign.update(dict(zip(strays.tolist(), counts.tolist(), strict=True)))
    if foreign:
        color = _unpacked(max(foreign, key=lambda c: (foreign[c], -c)))
        grey = len(set(color)) == 1 and (pixels == pixels[..., :1]).all()
        hint = "--palette FILE gives other colours"
        raise LabelsError(
            f"has {len(foreign)} colour{'s' * (len(foreign) > 1)} that no one class has, on {foreign.total()} "
            f"pixels, the commonest {color}; "
            + ("it is grey: save it with one channel if its levels are labels" if grey else hint)
        )
    return labels


def check_palette(palette: tuple[Color, ...], values: Counts, space: LabelSpace) -> None:
    """Raise LabelsError if the palette of an indexed image shows one of its labels in a colour not of its class."""
    used = np.unique(values[values < min(space.classes, len(palette))]).tolist()
    if all(palette[v] == (v, v, v) for v in used):  # a grey ramp says nothing
        return
    for value in used:
        color = palette[value]
        if color != space.colors[value]:
            owner = space.colors.index(color) if color in space.colors else None
            of = "" if owner is None else f", the colour of {space.names[owner]}"
            raise LabelsError(
                f"draws label {value} in {color}{of}, but {space.names[value]} is {space.colors[value]}; "
                "--any-palette goes by the labels alone"
            )


def _packed(colors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    red, green, blue = colors[..., 0], colors[..., 1], colors[..., 2]
    return (red << np.uint32(16)) | (green << np.uint32(8)) | blue


def _unpacked(color: int) -> Color:
    return color >> 16, color >> 8 & 255, color & 255
