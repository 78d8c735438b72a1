"""Encodings of label maps: the class of each label value or colour, or void."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.conventions import CONTEXT, CONTEXT_LABEL_COUNT, CONTEXT_LABELS
from fcnseg.io.raw_map import RawMap
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.scoring.confusion import Counts, Map, strips

VOID, FOREIGN = -1, -2
"""Codes beside the classes 0 to K - 1: pixels that do not count, and values of no class."""


@dataclass(frozen=True)
class CodeTable:
    """The code (class or VOID) of each value that may occur; all others are FOREIGN.

    `expected` describes those values in errors; `plain`: they are the classes themselves.
    """

    codes: Mapping[int, int]
    expected: str
    plain: bool = False

    def __call__(self, values: Map) -> Counts:
        """Return the codes of values, in the same shape."""
        keys, codes = self._sorted
        positions = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
        return np.where(keys[positions] == values, codes[positions], FOREIGN)

    @cached_property
    def _sorted(self) -> tuple[Counts, Counts]:
        keys = sorted(self.codes)
        return np.array(keys, np.int64), np.array([self.codes[key] for key in keys], np.int64)

    def without(self, void: frozenset[int]) -> CodeTable:
        """Return the same table with these values void."""
        return CodeTable({**self.codes, **dict.fromkeys(void, VOID)}, self.expected, self.plain)

    @property
    def class_values(self) -> dict[int, int]:
        """The class of each value that is one."""
        return {value: code for value, code in self.codes.items() if code >= 0}


@dataclass(frozen=True)
class LabelEncoding:
    """Rules by which the values of the label maps of one side are read.

    `void` are values that do not count, besides the label space's own, unless that is given a class. `table` gives the
    class (or VOID) of each value that may occur. Without it values are classes, or with `reduced` classes counted from
    1 (0 is void), or with `binary` 0 and 255 (or 1). `colors` gives the class (or VOID) of each
    colour of RGB maps. `checked`: the palettes of indexed images must be those of the label space.
    `conventional`: the variable of a `.mat` file may say how it is read; in `one_based` variables classes count
    from 1, and the given values are void.
    """

    space: LabelSpace
    void: frozenset[int] = frozenset()
    table: Mapping[int, int] | None = None
    reduced: bool = False
    binary: bool = False
    colors: Mapping[Color, int] = field(default_factory=dict)
    checked: bool = True
    conventional: bool = False
    one_based: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def interpret(self, raw: RawMap) -> tuple[Map, CodeTable]:
        """Return the values of a map, H x W, and their codes.

        Raises LabelsError for colours that no class has, for probabilities of another number of classes, and for
        probabilities where `table` gives the classes of labels.
        """
        if raw.kind == "labels":
            return raw.values, self.code_table(raw.variable)
        if raw.kind == "colors":
            if self.table is not None or self.reduced:
                raise LabelsError("has colours; --label-map and --reduce-labels are for labels, use --palette")
            return self._from_colors(raw.values), self._classes_and_void
        if self.table is not None:
            raise LabelsError("holds probabilities; --pred-label-map is for label maps")
        check_probabilities(raw.values, self.space.classes)
        return raw.values.argmax(0), self._classes_and_void

    def code_table(self, variable: str = "") -> CodeTable:
        """Return the codes of labels: those of that variable of a `.mat` file, if it has a convention."""
        return self._tables.get(variable, self._tables[""])

    def uncounted(self, variable: str = "") -> frozenset[int]:
        """Return the classes that cannot occur because all their values are in `void`."""
        before = self._before_void.get(variable, self._before_void[""])
        return frozenset({*before.class_values.values()} - {*self.code_table(variable).class_values.values()})

    @cached_property
    def _tables(self) -> dict[str, CodeTable]:
        void = self.void - {self.space.ignore}
        return {variable: table.without(void) for variable, table in self._before_void.items()}

    @cached_property
    def _before_void(self) -> dict[str, CodeTable]:
        """The tables by variable ("" for all others), without the values in `void`."""
        classes, own = self.space.classes, {self.space.ignore: VOID}
        if self.table is not None:
            table = CodeTable({**own, **self.table}, "the label map has no class for it")
        elif self.reduced:
            table = _one_based(own, classes)
        elif self.binary:
            table = CodeTable({0: 0, 1: 1, 255: 1}, "masks hold 0 and 255 (or 1)")
        else:
            table = CodeTable({**own, **{i: i for i in range(classes)}}, f"labels are 0 to {classes - 1}", plain=True)
        tables = {"": table}
        if self.conventional:
            for variable, void in self.one_based.items():
                tables[variable] = _one_based(own | dict.fromkeys(void, VOID), classes)
            if (context := self._context()) and not self.reduced:
                tables[CONTEXT] = CodeTable(context, f"labels of PASCAL-Context are 0 to {CONTEXT_LABEL_COUNT}")
        return tables

    def _context(self) -> dict[int, int] | None:
        """Return the codes of PASCAL-Context's 459 labels, if the classes have that data set's names."""
        background, *names = self.space.names
        if background != "background" or not names or any(name not in CONTEXT_LABELS for name in names):
            return None
        table = dict.fromkeys(range(CONTEXT_LABEL_COUNT + 1), 0)
        return table | {CONTEXT_LABELS[name]: i for i, name in enumerate(names, 1)}

    # ------------------------------------------------------------------ colours

    @cached_property
    def _classes_and_void(self) -> CodeTable:
        classes = self.space.classes
        return CodeTable({classes: VOID, **{i: i for i in range(classes)}}, "")

    @cached_property
    def _color_table(self) -> Map:
        """The class of each 24-bit colour, K for void, K + 1 for none."""
        classes = self.space.classes
        table: Map = np.full(1 << 24, classes + 1, np.uint8 if classes < 255 else np.uint16)
        for color, code in self.colors.items():
            table[_packed(np.array(color, np.uint32))] = classes if code == VOID or code in self.void else code
        return table

    def _from_colors(self, pixels: NDArray[np.uint8]) -> Map:
        labels: Map = np.empty(pixels.shape[:2], self._color_table.dtype)
        foreign = Counter[int]()
        for rows in strips(labels):
            packed = _packed(pixels[rows].astype(np.uint32))
            labels[rows] = self._color_table[packed]
            strays, counts = np.unique(packed[labels[rows] > self.space.classes], return_counts=True)
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

    def check_palette(self, palette: tuple[Color, ...], values: Counts) -> None:
        """Raise LabelsError if an indexed image shows a label in another colour than that of its class."""
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
    """Return the code of each colour that one class alone has; void has the VOC devkit's colour of its value."""
    codes = [(color, i) for i, color in enumerate(space.colors)]
    codes += [(voc_color(space.ignore), VOID)] if space.ignore < 256 else []
    times = Counter(color for color, _ in codes)
    return {color: code for color, code in codes if times[color] == 1}


def check_probabilities(values: NDArray[Any], classes: int) -> None:
    """Raise LabelsError for floats that are not the probabilities of so many classes, K x H x W."""
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


def _one_based(void: Mapping[int, int], classes: int) -> CodeTable:
    codes = {0: VOID, **void, **{i + 1: i for i in range(classes)}}
    return CodeTable(codes, f"labels are 1 to {classes}, and 0 for void")


def _unpacked(color: int) -> Color:
    return color >> 16, color >> 8 & 255, color & 255


def _index(colors: tuple[Color, ...], color: Color) -> int:
    return colors.index(color) if color in colors else -1
