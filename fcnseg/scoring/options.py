"""Options of `score` and `diff`: classes, pairing, label values, and what may be left out."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from fcnseg.errors import SettingsError
from fcnseg.io.buckets import parse_storage_options
from fcnseg.io.lists import read_columns
from fcnseg.io.pairing import PairingOptions
from fcnseg.labels import LabelSpace
from fcnseg.scoring.intervals import RESAMPLINGS
from fcnseg.scoring.label_encoding import LabelEncoding
from fcnseg.scoring.label_options import LabelOptions, contradiction
from fcnseg.scoring.labelling import Labelling, find_labelling

StrPath = str | os.PathLike[str]

Progress = Callable[[int, int], None]
"""Called with how many pairs are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Options of all comparisons of label maps.

    Classes: of `model` (a shipped recipe's name or a TOML file), of `classes` (how many, or a file of names), or
    background and foreground with `binary` (masks of 0 and 255); by default of the run that wrote the predictions.
    `head` chooses one of several heads.

    Pairs: `pair` is "path", "stem" or "auto"; `list` a file of the images to compare; `gt_pattern` and `pred_pattern`
    are patterns of file names, e.g. "{stem}_gtFine_labelIds.png". `allow_missing` leaves out images without partner.

    Values of ground truth: `labels` is the name of a data set that they are of; `ignore` do not count, besides the
    recipe's; `reduce_labels` takes 0 as void and counts classes from 1; `label_map` is a file with the classes of label
    values. Those of predictions: `pred_labels`, `reduce_pred_labels` and `pred_label_map` likewise, where void is a
    prediction of no class; `logits`: floats are scores before softmax (with `binary` before the sigmoid). Of both:
    `palette` is a file for colours, `any_palette` does not compare palettes with the classes' colours.

    `workers`: number of processes, as many as pay off if None. `storage_options` are for label maps behind URLs, as
    `fcnseg run` takes them.
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
    labels: str | None = None
    pred_labels: str | None = None
    reduce_labels: bool = False
    reduce_pred_labels: bool = False
    label_map: Path | None = None
    pred_label_map: Path | None = None
    logits: bool = False
    palette: Path | None = None
    any_palette: bool = False
    workers: int | None = None
    storage_options: Mapping[str, str] | None = None

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
        truth = contradiction(self.labels, self.binary, self.label_map, self.reduce_labels)
        predictions = self.pred_labels, self.binary, self.pred_label_map, self.reduce_pred_labels
        predicted = contradiction(*predictions, of="pred-")
        return (
            (bool(truth), truth),
            (bool(predicted) and not (truth and self.binary), predicted),
            (self.workers is not None and self.workers < 1, f"workers is {self.workers}; it is 1 or more"),
        )

    @property
    def truth_options(self) -> LabelOptions:
        """The options of ground truth."""
        return LabelOptions(
            labels=self.labels,
            ignore=self.ignore,
            reduce_labels=self.reduce_labels,
            label_map=self.label_map,
            palette=self.palette,
            binary=self.binary,
        )

    @property
    def prediction_options(self) -> LabelOptions:
        """The options of predictions."""
        return LabelOptions(
            labels=self.pred_labels,
            reduce_labels=self.reduce_pred_labels,
            label_map=self.pred_label_map,
            palette=self.palette,
            binary=self.binary,
            logits=self.logits,
        )

    @property
    def predictions_renumbered(self) -> bool:
        """Tell if the values of predictions are not those that the run recorded."""
        return bool(self.pred_label_map or self.pred_labels or self.reduce_pred_labels)

    def labelling(self, predictions: str) -> Labelling:
        """Return the classes to compare. Raises SettingsError as `find_labelling`."""
        return find_labelling(
            self.model, self.classes, self.binary, predictions, self.labels or self.pred_labels, self.storage_options
        )

    def pairing(self, **others: Any) -> PairingOptions:
        """Return the options of pairing. Raises SettingsError for a list that cannot be read."""
        columns = read_columns(self.list) if self.list else ()
        how = {
            "allow_missing": self.allow_missing,
            "storage_options": self.storage_options,
            "truth_names": {image: labels for image, labels in columns if labels},
            **others,
        }
        names = tuple(image for image, _ in columns) or None
        return PairingOptions(self.pair, names, self.gt_pattern, self.pred_pattern, **how)

    def encodings(
        self, space: LabelSpace, labelling: Labelling, recorded: bool = False
    ) -> tuple[LabelEncoding, LabelEncoding]:
        """Return the encodings of ground truth and of predictions with the classes of a head.

        `recorded`: a run left a record of its classes beside the predictions, so that their values are the classes.
        Raises SettingsError for files that cannot be read, and for a value that is both ignored and a class.
        """
        checked = labelling.colored and not self.any_palette
        truth = self.truth_options.encoding(space, labelling.dataset, labelling.own, checked=checked)
        own = None if recorded else labelling.own
        return truth, self.prediction_options.prediction_encoding(space, own, checked=checked)


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
    **dict.fromkeys(("model", "classes", "truth", "labels", "pred_labels"), _optional(str)),
    **dict.fromkeys(("list", "label_map", "pred_label_map", "palette"), _optional(Path)),
    "ignore": lambda value: tuple(value or ()),
    "storage_options": lambda value: parse_storage_options(value) if isinstance(value, list) else value,
    "counted": _paths,
}
