"""Encodings of label maps: the class of each label value or colour, or void; and label maps read by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.conventions import CONTEXT, CONTEXT_LABEL_COUNT, CONTEXT_LABELS
from fcnseg.io.label_maps import read_map
from fcnseg.io.raw_map import MapLocation, RawMap, naming
from fcnseg.labels import Color, LabelSpace
from fcnseg.scoring.class_planes import (
    class_planes,
    foreground_probabilities,
    is_one_hot,
    labels_of_one_hot,
    probabilities_of,
)
from fcnseg.scoring.codes import FOREIGN, VOID, CodeTable, check_range, codes_of
from fcnseg.scoring.colors import check_palette, color_table, labels_from_colors
from fcnseg.scoring.confusion import Counts, Map


@dataclass(frozen=True)
class ClassMap:
    """The values of a map, H x W, and the table of their codes.

    `confidence` is the probability of each label, H x W, and `foreground` that of the second of two classes, where the
    map holds probabilities. `soft`: it holds others than 0 and 1.
    """

    values: Map
    table: CodeTable
    confidence: NDArray[Any] | None = None
    foreground: NDArray[Any] | None = None
    soft: bool = False


@dataclass(frozen=True)
class LabelEncoding:
    """Rules by which the values of the label maps of one side are read.

    `void` are values that do not count, besides the label space's own, unless that is given a class. `table` gives the
    class (or VOID) of each value that may occur. Without it values are classes, or with `reduced` classes counted from
    1 (0 is void), or with `binary` 0 and 255 (or 1). `colors` gives the class (or VOID) of each
    colour of RGB maps. `checked`: the palettes of indexed images must be those of the label space.
    `conventional`: the variable of a `.mat` file may say how it is read; in `one_based` variables classes count
    from 1, and the given values are void. `logits`: floats are scores before softmax. `colors_given`: the colours are
    the user's or a data set's own, so that void among them is meant.
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
    logits: bool = False
    colors_given: bool = False

    def interpret(self, raw: RawMap) -> ClassMap:
        """Return the values of a map, and their codes.

        Raises LabelsError for colours that no class has, for planes of another number of classes, for floats that are
        no probabilities, and for planes where `table` gives the classes of labels.
        """
        if raw.kind == "labels" and not (self.binary and raw.floats and {*np.unique(raw.values)} <= {0, 1}):
            return ClassMap(raw.values, self.code_table(raw.variable), raw.confidence)
        if raw.kind in ("labels", "fractions"):
            return self._interpret_fractions(raw)
        classes = self.space.classes
        one_hot = raw.kind == "planes" or (raw.kind == "colors" and classes == 3 and _is_one_hot_color(raw.values))
        if raw.kind == "colors" and not one_hot:
            if self.colors_given or (self.table is None and not self.reduced):
                return ClassMap(labels_from_colors(raw.values, self._color_table, classes), self._classes_and_void)
            raise LabelsError("has colours; --label-map and --reduce-labels are for labels, use --palette")
        if self.table is not None:
            raise LabelsError("holds planes of classes; --label-map, --pred-label-map and --labels are for label maps")
        planes = class_planes(raw.values, classes)
        if one_hot and not self.logits:
            return ClassMap(labels_of_one_hot(planes), self._classes_and_void)
        return self._of_probabilities(probabilities_of(planes, self.logits))

    def _interpret_fractions(self, raw: RawMap) -> ClassMap:
        """Read floats H x W as the probabilities of the second of two classes."""
        values = raw.values
        if self.space.classes != 2 or (not self.binary and self.table is not None):
            raise LabelsError(
                f"holds {values.dtype} fractions H x W, {values.min():.4g} to {values.max():.4g}; label maps must be "
                "whole numbers, and --binary reads foreground probabilities"
            )
        return self._of_probabilities(foreground_probabilities(values, self.logits))

    def _of_probabilities(self, planes: NDArray[Any]) -> ClassMap:
        foreground = planes[1] if len(planes) == 2 else None
        return ClassMap(
            planes.argmax(0), self._classes_and_void, planes.max(0), foreground, soft=not is_one_hot(planes)
        )

    def abstains(self, raw: RawMap, values: Counts) -> NDArray[np.bool_]:
        """Tell which values of a prediction are void because the user or a data set says so, and not by the recipe."""
        if raw.kind in ("colors", "planes"):
            return np.full(values.shape, self.colors_given)
        if self.table is not None:
            own = {value for value, code in self.table.items() if code == VOID}
        else:
            own = {0} if self.reduced else set()
        return np.isin(values, [*own, *self.void])

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
            if (context := context_codes(self.space.names)) and not self.reduced:
                tables[CONTEXT] = CodeTable(context, f"labels of PASCAL-Context are 0 to {CONTEXT_LABEL_COUNT}")
        return tables

    # ------------------------------------------------------------------ colours

    @cached_property
    def _classes_and_void(self) -> CodeTable:
        classes = self.space.classes
        return CodeTable({classes: VOID, **{i: i for i in range(classes)}}, "")

    @cached_property
    def _color_table(self) -> Map:
        colors = {color: VOID if code in self.void else code for color, code in self.colors.items()}
        return color_table(colors, self.space.classes)

    def check_palette(self, palette: tuple[Color, ...], values: Counts) -> None:
        """Raise LabelsError if an indexed image shows a label in another colour than that of its class."""
        if palette and self.checked and not (self.table or self.reduced or self.binary):
            check_palette(palette, values, self.space)


def context_codes(classes: Sequence[str]) -> dict[int, int] | None:
    """Return the codes of PASCAL-Context's 459 labels, if classes have its names, after background; else None."""
    background, *names = classes
    if background != "background" or not names or any(name not in CONTEXT_LABELS for name in names):
        return None
    table = dict.fromkeys(range(CONTEXT_LABEL_COUNT + 1), 0)
    return table | {CONTEXT_LABELS[name]: i for i, name in enumerate(names, 1)}


def _is_one_hot_color(pixels: NDArray[np.uint8]) -> bool:
    """Tell if pixels H x W x 3 are one-hot labels of three classes: so dark and pure are no colours."""
    return bool(pixels.max() == 1 and (pixels.sum(2) == 1).all())


def _one_based(void: Mapping[int, int], classes: int) -> CodeTable:
    codes = {0: VOID, **void, **{i + 1: i for i in range(classes)}}
    return CodeTable(codes, f"labels are 1 to {classes}, and 0 for void")


def read_classes(location: MapLocation, encoding: LabelEncoding) -> Map:
    """Read one map as codes, H x W: classes or VOID. Raises LabelsError for what cannot be read or is no class."""
    read = read_class_map(location, encoding)
    codes = codes_of(read.values, read.table)
    if (foreign := codes == FOREIGN).any():
        distinct, counts = np.unique(read.values[foreign], return_counts=True)
        check_range(location, distinct, np.ones(distinct.shape, bool), counts, read.table, {})
    return codes


def read_class_map(location: MapLocation, encoding: LabelEncoding) -> ClassMap:
    """Read one map. Raises LabelsError for what cannot be read, and for a palette that is not of the classes."""
    raw = read_map(location)
    with naming(location):
        read = encoding.interpret(raw)
        if raw.palette:
            encoding.check_palette(raw.palette, np.flatnonzero(np.bincount(read.values.ravel())))
    return read


def check_sizes(shapes: Mapping[Any, tuple[int, ...]], advice: str = "") -> None:
    """Raise LabelsError unless all shapes H x W are equal; keys are the files, `advice` ends the message."""
    (first, shape), *others = shapes.items()
    for other, other_shape in others:
        if other_shape != shape:
            turned = "; one of them is turned" if other_shape == shape[::-1] else ""
            (height, width), (other_height, other_width) = shape, other_shape
            sizes = f"{first} is {width} x {height}, but {other} {other_width} x {other_height} px"
            raise LabelsError(f"{sizes}{turned}{advice}")
