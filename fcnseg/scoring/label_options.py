"""Options that say what the values of label maps mean, the same for `score`, `diff`, `compare`, `view` and `train`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcnseg.errors import SettingsError
from fcnseg.io.conventions import convention_of, one_based_variables
from fcnseg.labels import Color, LabelSpace
from fcnseg.scoring.class_files import DatasetClasses
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.colors import color_codes
from fcnseg.scoring.label_encoding import LabelEncoding
from fcnseg.scoring.label_files import is_only_void, read_label_map, read_palette
from fcnseg.scoring.named_labels import named_labels

MASK_COLORS: dict[Color, int] = {(0, 0, 0): 0, (1, 1, 1): 1, (255, 255, 255): 1}
"""Masks of 0 and 255 (or 1) that were saved as RGB."""


def contradiction(labels: str | None, binary: bool, label_map: Path | None, reduced: bool, of: str = "") -> str:
    """Return what is wrong with options that all say how values are read, empty unless there are two or more.

    `of` stands before "labels" and "label-map" in the names of options.
    """
    if (labels is not None) + binary + (label_map is not None) + reduced < 2:
        return ""
    return f"{of}labels, binary, {of}label-map and reduce-{of}labels each say how values are read; give one of them"


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Options of one side's label maps.

    `labels` is the name of a data set whose values and colours they have. `ignore` are values that do not count,
    besides the recipe's; `reduce_labels` takes 0 as void and counts classes from 1; `label_map` is a file with the
    classes of label values, `palette` one for colours; `binary`: masks of 0 and 255; `logits`: floats are scores before
    softmax, or before the sigmoid.
    """

    labels: str | None = None
    ignore: tuple[int, ...] = ()
    reduce_labels: bool = False
    label_map: Path | None = None
    palette: Path | None = None
    binary: bool = False
    logits: bool = False

    def __post_init__(self) -> None:
        if fault := contradiction(self.labels, self.binary, self.label_map, self.reduce_labels):
            raise SettingsError(fault)

    @property
    def given(self) -> bool:
        """Tell if any option differs from its default."""
        return self != type(self)()

    def encoding(
        self,
        space: LabelSpace,
        dataset: str = "",
        own: DatasetClasses | None = None,
        *,
        checked: bool = False,
    ) -> LabelEncoding:
        """Return the encoding of ground truth with these classes; `dataset` is that of their recipe.

        `own` are the classes of a file, whose values and colours hold where no option gives others. `checked`: palettes
        must show the classes' colours. Raises SettingsError for files that cannot be read, and for a value that is both
        ignored and a class.
        """
        table, colors = self._codes(space, own)
        encoding = LabelEncoding(
            space,
            frozenset({*self.ignore, *(() if table or self.binary else convention_of(dataset).void)}),
            table,
            self.reduce_labels,
            self.binary,
            conventional=not (table or self.binary),
            one_based=one_based_variables(space),
            **self._common(colors, space, checked),
        )
        if space.ignore in self.ignore and space.ignore in encoding.code_table().class_values:
            raise SettingsError(f"{space.ignore} is both a class and ignored in ground truth; leave one of them away")
        return encoding

    def prediction_encoding(
        self, space: LabelSpace, own: DatasetClasses | None = None, *, checked: bool = False
    ) -> LabelEncoding:
        """Return the encoding of predictions with these classes. The arguments and errors are those of `encoding`."""
        table, colors = self._codes(space, own)
        void: frozenset[int] = frozenset(self.ignore)
        if self.label_map and table is not None and is_only_void(table):
            void, table = frozenset(table), None
        return LabelEncoding(
            space, void, table, self.reduce_labels, self.binary, **self._common(colors, space, checked)
        )

    def applied(self, encoding: LabelEncoding, dataset: str = "") -> LabelEncoding:
        """Return the encoding of a data set's label maps, with these options instead of its own as far as given."""
        if not self.given:
            return encoding
        if self == LabelOptions(ignore=self.ignore):
            return replace(encoding, void=encoding.void | {*self.ignore})
        own = self.encoding(encoding.space, dataset)
        return replace(own, void=own.void | {encoding.space.ignore})

    def _codes(
        self, space: LabelSpace, own: DatasetClasses | None
    ) -> tuple[Mapping[int, int] | None, dict[Color, int]]:
        """Return the codes of values, None if they are the classes themselves, and those of colours, empty if they are
        the label space's."""
        table: Mapping[int, int] | None = None
        colors: dict[Color, int] = {}
        if own and own.colored:
            colors = color_codes(space)
            if own.void_color is not None and own.void_color not in space.colors:
                colors[own.void_color] = VOID
        if own and not (self.binary or self.reduce_labels):
            table = own.values
        if self.labels:
            table, colors = named_labels(self.labels).encode(space)
        if self.label_map:
            table = read_label_map(self.label_map, space)
        if self.palette:
            colors = read_palette(self.palette, space)
        return table, colors

    def _common(self, colors: dict[Color, int], space: LabelSpace, checked: bool) -> dict[str, Any]:
        given = bool(colors)
        colors = colors or color_codes(space)
        return {
            "colors": colors | MASK_COLORS if self.binary else colors,
            "checked": checked,
            "logits": self.logits,
            "colors_given": given,
        }
