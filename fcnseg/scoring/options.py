"""Options of `score` and `diff`: classes, pairing, label values, and what may be left out."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from fcnseg.errors import SettingsError
from fcnseg.io.conventions import one_based_variables
from fcnseg.io.lists import read_names
from fcnseg.io.pairing import PairingOptions
from fcnseg.labels import Color, LabelSpace
from fcnseg.scoring.colors import color_codes
from fcnseg.scoring.intervals import RESAMPLINGS
from fcnseg.scoring.label_encoding import LabelEncoding
from fcnseg.scoring.label_files import read_label_map, read_palette
from fcnseg.scoring.labelling import Labelling, find_labelling

StrPath = str | os.PathLike[str]

Progress = Callable[[int, int], None]
"""Called with how many pairs are done, and of how many."""

MASK_COLORS: dict[Color, int] = {(0, 0, 0): 0, (1, 1, 1): 1, (255, 255, 255): 1}
"""Masks of 0 and 255 (or 1) that were saved as RGB."""


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Options of all comparisons of label maps.

    Classes: of `model` (a shipped recipe's name or a TOML file), of `classes` (how many, or a file of names), or
    background and foreground with `binary` (masks of 0 and 255); by default of the run that wrote the predictions.
    `head` chooses one of several heads.

    Pairs: `pair` is "path", "stem" or "auto"; `list` a file of the images to compare; `gt_pattern` and `pred_pattern`
    are patterns of file names, e.g. "{stem}_gtFine_labelIds.png". `allow_missing` leaves out images without partner.

    Values: `ignore` do not count in ground truth, besides the recipe's; `reduce_labels` takes 0 as void and counts
    classes from 1; `label_map` and `pred_label_map` are files with the classes of label values in ground truth and in
    predictions, `palette` one for colours. `any_palette` does not compare palettes with the classes' colours.

    `workers`: number of processes, as many as pay off if None.
    """

    model: str | None = None
    head: str | None = None
    classes: str | None = None
    binary: bool = False
    pair: str = "auto"
    list: Path | None = None
    gt_pattern: str | None = None
    pred_pattern: str | None = None
    allow_missing: bool = False
    ignore: tuple[int, ...] = ()
    reduce_labels: bool = False
    label_map: Path | None = None
    pred_label_map: Path | None = None
    palette: Path | None = None
    any_palette: bool = False
    workers: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Make options of the values that have the names of fields, in the forms that `score` and `diff` take them."""
        own = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**{name: _CONVERTERS[name](v) if name in _CONVERTERS else v for name, v in own.items()})

    def __post_init__(self) -> None:
        faults = [fault for wrong, fault in self._checks() if wrong]
        if faults:
            raise SettingsError("; ".join(faults))

    def _checks(self) -> tuple[tuple[bool, str], ...]:
        """Return each possible fault, after whether the options have it."""
        return (
            (
                self.reduce_labels + self.binary + (self.label_map is not None) > 1,
                "reduce-labels, binary and label-map each say how values are read; give one of them",
            ),
            (
                self.binary and self.pred_label_map is not None,
                "binary and pred-label-map each say how predictions are read; give one of them",
            ),
            (self.workers is not None and self.workers < 1, f"workers is {self.workers}; it is 1 or more"),
        )

    def labelling(self, predictions: str) -> Labelling:
        """Return the classes to compare. Raises SettingsError as `find_labelling`."""
        return find_labelling(self.model, self.classes, self.binary, predictions)

    def pairing(self, **others: Any) -> PairingOptions:
        """Return the options of pairing. Raises SettingsError for a list that cannot be read."""
        names = read_names(self.list) if self.list else None
        return PairingOptions(
            self.pair, names, self.gt_pattern, self.pred_pattern, **{"allow_missing": self.allow_missing, **others}
        )

    def encodings(self, space: LabelSpace, colored: bool) -> tuple[LabelEncoding, LabelEncoding]:
        """Return the encodings of ground truth and of predictions; `colored`: the colours of classes are known.

        Raises SettingsError for files that cannot be read, and for a value that is both ignored and a class.
        """
        colors = read_palette(self.palette, space) if self.palette else color_codes(space)
        both: dict[str, Any] = {
            "binary": self.binary,
            "colors": colors | MASK_COLORS if self.binary else colors,
            "checked": colored and not self.any_palette,
        }
        table = read_label_map(self.label_map, space) if self.label_map else None
        truth = LabelEncoding(
            space,
            frozenset(self.ignore),
            table,
            self.reduce_labels,
            conventional=not (table or self.binary),
            one_based=one_based_variables(space),
            **both,
        )
        if space.ignore in self.ignore and space.ignore in truth.code_table().class_values:
            raise SettingsError(f"{space.ignore} is both a class and ignored in ground truth; leave one of them away")
        table = read_label_map(self.pred_label_map, space) if self.pred_label_map else None
        return truth, LabelEncoding(space, table=table, **both)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(ComparisonOptions):
    """Options of a score, besides `ComparisonOptions`.

    `num_parts` and `part_id`: only that part of the images, from 0. Parts are those of the run that wrote the
    predictions, as long as its ledger is beside them; otherwise images are divided by the names of their pairs.
    `counted` are JSON files of earlier scores of some of the pairs, whose counts are taken as they are. `boundary` also
    measures boundary IoU and bands. `resamplings` are those of the confidence intervals, 0 for none. `allow_extra`,
    `allow_invalid` and `allow_void` leave out what would be an error otherwise: predictions without ground truth, pairs
    that cannot be compared, and ground truth that is all void.
    """

    num_parts: int = 1
    part_id: int = 0
    counted: tuple[Path, ...] = ()
    boundary: bool = False
    resamplings: int = RESAMPLINGS
    allow_extra: bool = False
    allow_invalid: bool = False
    allow_void: bool = False

    def _checks(self) -> tuple[tuple[bool, str], ...]:
        return (
            *super()._checks(),
            (not 0 <= self.part_id < self.num_parts, f"part-id is {self.part_id}; it is from 0 to num-parts - 1"),
            (self.resamplings < 0, f"resamplings is {self.resamplings}; it is 0 or more"),
        )


@dataclass(frozen=True, kw_only=True)
class DiffOptions(ComparisonOptions):
    """Options of a difference, besides `ComparisonOptions`: `truth` is ground truth, which judges the changes."""

    truth: str | None = None


def _optional(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else kind(value)


def _paths(value: StrPath | Iterable[StrPath] | None) -> tuple[Path, ...]:
    return (Path(value),) if isinstance(value, str | os.PathLike) else tuple(map(Path, value or ()))


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("model", "classes", "truth"), _optional(str)),
    **dict.fromkeys(("list", "label_map", "pred_label_map", "palette"), _optional(Path)),
    "ignore": lambda value: tuple(value or ()),
    "counted": _paths,
}
