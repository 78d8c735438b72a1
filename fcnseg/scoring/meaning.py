"""What the values of a map mean: the class of each, void, or nothing that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.scoring.confusion import Counts, Map
from fcnseg.scoring.conventions import CONTEXT, CONTEXT_LABEL_COUNT, CONTEXT_LABELS, COUNTED_FROM_ONE
from fcnseg.scoring.reading import RawMap

VOID, FOREIGN = -1, -2
"""Codes beside the classes 0 to K - 1: does not count; is no class."""

Decode = Callable[[Counts], Counts]
"""Codes of values, an array of the same shape."""


@dataclass(frozen=True)
class Meaning:
    """How the values of one side are read.

    `void` are values that do not count. `table` gives the class (or VOID) of each value that may occur; without it
    values are classes, or with `reduced` classes counted from 1 (0 is void), or with `binary` 0 and 255 (or 1).
    `colors` gives the class (or VOID) of each colour of RGB maps. `checked`: whether the palettes of indexed images
    must be those of the label space. `conventional`: whether the variables of `.mat` files say how they are read.
    """

    space: LabelSpace
    void: frozenset[int] = frozenset()
    table: Mapping[int, int] | None = None
    reduced: bool = False
    binary: bool = False
    colors: Mapping[Color, int] = field(default_factory=dict)
    checked: bool = True
    conventional: bool = False

    def interpret(self, raw: RawMap) -> tuple[Map, Decode]:
        """The values of a map, H x W, and what tells their codes.

        Raises LabelsError for colours that no class has, and for probabilities of another number of classes.
        """
        if raw.kind == "colors":
            return self._from_colors(raw.values), self._plain
        if raw.kind == "probabilities":
            check_probabilities(raw.values, self.space.classes)
            return raw.values.argmax(0), self._plain
        if self.conventional and raw.variable in COUNTED_FROM_ONE:
            return raw.values, self._counted_from_one
        if self.conventional and raw.variable == CONTEXT and self._context is not None:
            return raw.values, lambda values: _looked_up(self._context or {}, values)
        return raw.values, self._code

    def _code(self, values: Counts) -> Counts:
        if self.table is not None:
            codes = _looked_up(self.table, values)
        elif self.reduced:
            codes = self._counted_from_one(values)
        elif self.binary:
            codes = _looked_up({0: 0, 1: 1, 255: 1}, values)
        else:
            codes = np.where((values >= 0) & (values < self.space.classes), values, FOREIGN)
        for value in self.void:
            codes[values == value] = VOID
        return codes

    def _plain(self, values: Counts) -> Counts:
        return np.where(values < self.space.classes, values, VOID)

    def _counted_from_one(self, values: Counts) -> Counts:
        codes = np.where(values <= self.space.classes, values - 1, FOREIGN)
        for value in self.void:
            codes[values == value] = VOID
        codes[values <= 0] = VOID
        return codes

    @cached_property
    def uncounted(self) -> frozenset[int]:
        """Classes that cannot occur because their values were said to be void."""
        values = np.array(sorted(self.void), np.int64)
        whole = Meaning(self.space, frozenset(), self.table, self.reduced, self.binary)
        return frozenset(int(code) for code in whole._code(values) if code >= 0)

    @cached_property
    def _context(self) -> dict[int, int] | None:
        """PASCAL-Context's 459 labels as the classes of this space, if it has that data set's names."""
        background, *names = self.space.names
        if background != "background" or not names or any(name not in CONTEXT_LABELS for name in names):
            return None
        table = dict.fromkeys(range(CONTEXT_LABEL_COUNT + 1), 0)
        return table | {CONTEXT_LABELS[name]: i for i, name in enumerate(names, 1)}

    # ------------------------------------------------------------------ colours

    @cached_property
    def _color_table(self) -> Map:
        """By the 24 bits of a colour: its class, K for void, K + 1 for none."""
        classes = self.space.classes
        table: Map = np.full(1 << 24, classes + 1, np.uint8 if classes < 255 else np.uint16)
        for color, code in self.colors.items():
            table[_packed(np.array(color, np.uint32))] = classes if code == VOID or code in self.void else code
        return table

    def _from_colors(self, pixels: NDArray[np.uint8]) -> Map:
        packed = _packed(pixels.astype(np.uint32))
        labels: Map = self._color_table[packed]
        foreign = labels > self.space.classes
        if foreign.any():
            found, counts = np.unique(packed[foreign], return_counts=True)
            first = int(found[counts.argmax()])
            color = (first >> 16, first >> 8 & 255, first & 255)
            grey = len(set(color)) == 1 and (pixels == pixels[..., :1]).all()
            hint = (
                "; it is grey: save it with one channel if its levels are labels"
                if grey
                else "; --palette FILE gives other colours"
            )
            raise LabelsError(
                f"has {len(found)} colour{'s' * (len(found) > 1)} that no class has, on {int(foreign.sum())} pixels, "
                f"the commonest {color}{hint}"
            )
        return labels

    def check_palette(self, palette: tuple[Color, ...], values: Counts) -> None:
        """Whether an indexed image shows the labels it has in the colours of the classes; LabelsError if not."""
        if not palette or not self.checked or self.table or self.reduced or self.binary:
            return
        used = np.unique(values[values < min(self.space.classes, len(palette))]).tolist()
        if all(palette[v] == (v, v, v) for v in used):  # a grey ramp says nothing
            return
        for value in used:
            color = palette[value]
            if color != self.space.colors[value]:
                of = f", the colour of {self.space.names[i]}" if (i := _index(self.space.colors, color)) >= 0 else ""
                raise LabelsError(
                    f"draws label {value} in {color}{of}, but {self.space.names[value]} is "
                    f"{self.space.colors[value]}; --any-palette goes by the labels alone"
                )


def color_codes(space: LabelSpace) -> dict[Color, int]:
    """The code of each colour that a label space has; void has the VOC devkit's colour of its value."""
    codes = {voc_color(space.ignore): VOID} if space.ignore < 256 else {}
    return codes | {color: i for i, color in reversed(list(enumerate(space.colors)))}


def check_probabilities(values: NDArray[Any], classes: int) -> None:
    """Whether floats are probabilities K x H x W. Raises LabelsError that says what they are instead."""
    if len(values) != classes:
        raise LabelsError(f"holds probabilities of {len(values)} classes, expected {classes}")
    if not np.isfinite(values).all():
        raise LabelsError("holds probabilities that are not finite")
    if values.min() < 0 or values.max() > 1.001 or abs(values.sum(0, dtype=np.float64) - 1).max() > 0.02:
        raise LabelsError(
            f"holds values from {values.min():.4g} to {values.max():.4g}; probabilities are 0 to 1, with sum 1"
        )


def _packed(colors: NDArray[np.uint32]) -> NDArray[np.uint32]:
    red, green, blue = colors[..., 0], colors[..., 1], colors[..., 2]
    return (red << np.uint32(16)) | (green << np.uint32(8)) | blue


def _looked_up(table: Mapping[int, int], values: Counts) -> Counts:
    return np.array([table.get(int(v), FOREIGN) for v in values.ravel()], np.int64).reshape(values.shape)


def _index(colors: tuple[Color, ...], color: Color) -> int:
    return colors.index(color) if color in colors else -1
