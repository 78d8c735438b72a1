"""A score: its figures, the table of classes, the confusion matrix, the images left out; and its JSON and CSV files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.counting import Fault
from fcnseg.scoring.thresholds import ThresholdCurve

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What formulas begin with in spreadsheets, in full width too."""


@dataclass(frozen=True)
class ClassScore:
    """The figures of one class, 0..1; NaN where they do not exist (the class does not occur).

    `pixels` are in the ground truth, `predicted_pixels` in the prediction. `iu_interval` is the 95 % confidence
    interval of the IoU, None for a class that occurs in one image alone. `included`: it enters the means where it
    occurs. `boundary_counts` are the pixels of its boundary that are right, in the ground truth, and predicted.
    `precision` is the share of its predicted pixels that are right, `predicted_void_pixels` are those of its ground
    truth pixels that were predicted as void.
    """

    index: int
    name: str
    iu: float
    accuracy: float
    dice: float
    pixels: int
    predicted_pixels: int
    iu_interval: tuple[float, float] | None = None
    boundary_iu: float | None = None
    included: bool = True
    boundary_counts: tuple[int, int, int] | None = None
    precision: float = math.nan
    predicted_void_pixels: int = 0


ClassCounts = tuple[tuple[int, int, int, int], ...]
"""Of each class that occurs: its index, and its right, ground truth and predicted pixels."""


@dataclass(frozen=True)
class Band:
    """The figures of the pixels at most `width_px` from another label of the ground truth, 0..1."""

    width_px: int
    pixels: int
    pixel_accuracy: float
    mean_iu: float
    class_counts: ClassCounts = ()


@dataclass(frozen=True)
class ReliabilityBin:
    """Pixels whose confidence is above `low` and at most `high`: their mean confidence, and the share that is right."""

    low: float
    high: float
    pixels: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error, 0..1, and the bins of the reliability curve."""

    expected_error: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class ImageScore:
    """The figures of one image, 0..1; `mean_iu` and `mean_dice` are over the classes that occur in it."""

    key: str
    mean_iu: float
    pixel_accuracy: float
    pixels: int
    class_counts: ClassCounts = ()
    mean_dice: float = math.nan


@dataclass(frozen=True)
class Score:
    """The figures of one head over all its images, 0..1 (`kappa` -1..1), NaN where they do not exist.

    `intervals` maps figures to their 95 % confidence interval; one image alone has none. `confusion` is K x K, int64:
    rows ground truth, columns predicted. `absent` classes do not occur in the ground truth, `excluded_classes` are in
    no mean. `missing` have no prediction, `extra` no ground truth, `invalid` could not be compared, `all_void` have
    nothing that counts, `excluded_images` are left out by the data set's own evaluation. `image_scores` are in the
    order of their keys. `averaged_over` is the number of classes that each mean is over; `predicted_only` are those
    without a pixel in the ground truth, which enter with 0. `per_image` are means over the images of each class
    first (`measures.per_image_means`). `predicted_void_pixels` count, but were predicted as no class. `thresholds` is
    the curve of two classes whose probabilities were given. `warnings` say what is suspicious. `heads` holds the scores
    of all heads where there are several; this is then the first one's.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    frequency_weighted_iu: float
    mean_dice: float
    kappa: float
    images: int
    pixels: int
    void_pixels: int
    intervals: Mapping[str, tuple[float, float]]
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    absent: tuple[str, ...]
    excluded_classes: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    invalid: tuple[Fault, ...]
    all_void: tuple[str, ...]
    excluded_images: tuple[str, ...]
    boundary_iu: float | None
    bands: tuple[Band, ...]
    calibration: Calibration | None
    settings: Mapping[str, Any]
    averaged_over: Mapping[str, int] = field(default_factory=dict)
    predicted_only: tuple[str, ...] = ()
    per_image: Mapping[str, float] = field(default_factory=dict)
    predicted_void_pixels: int = 0
    thresholds: ThresholdCurve | None = None
    warnings: tuple[str, ...] = ()
    image_scores: tuple[ImageScore, ...] = field(repr=False, default=())
    heads: Mapping[str, Score] = field(default_factory=dict)

    @property
    def geometric_accuracy(self) -> float | None:
        """The pixel accuracy of SIFT Flow's geometric head, where that was scored."""
        head = self if self.settings.get("head") == "geometric" else self.heads.get("geometric")
        return head.pixel_accuracy if head else None

    @property
    def left_out(self) -> int:
        """Number of images that are not counted although they were given."""
        if self.heads:
            return sum(head.left_out for head in self.heads.values())
        return len(self.missing) + len(self.extra) + len(self.invalid) + len(self.all_void)

    @property
    def exit_code(self) -> int:
        """0 everything was counted, 3 some images were left out, as allowed."""
        return 3 if self.left_out else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of `--json`: the fields as numbers, texts, lists and dicts; NaN becomes None."""
        values: dict[str, Any] = {f.name: json_value(getattr(self, f.name)) for f in fields(self) if f.name != "heads"}
        if self.geometric_accuracy is not None:
            values["geometric_accuracy"] = self.geometric_accuracy
        if self.heads:
            values["heads"] = {name: head.as_dict() for name, head in self.heads.items()}
        return values


def json_value(value: Any) -> Any:
    """Return a value as JSON holds it: dataclasses become dicts, arrays lists, NaN None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: json_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: json_value(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [json_value(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def score_json(score: Score) -> str:
    """Return `Score.as_dict` as text."""
    return json.dumps(score.as_dict(), indent=1, allow_nan=False) + "\n"


def classes_csv(score: Score) -> str:
    """Return the table of classes, a row each; figures that do not exist are empty."""
    names = [f.name for f in fields(ClassScore) if f.name not in ("iu_interval", "boundary_counts")]
    rows = (
        [head.settings["head"], *(getattr(row, name) for name in names), *(row.iu_interval or (None, None))]
        for head in score.heads.values() or [score]
        for row in head.per_class
    )
    return _table(["head", *names, "iu_low", "iu_high"], rows)


def images_csv(score: Score) -> str:
    """Return the figures of the images, a row each."""
    names = [f.name for f in fields(ImageScore) if f.name != "class_counts"]
    rows = (
        [head.settings["head"], *(getattr(row, name) for name in names)]
        for head in score.heads.values() or [score]
        for row in head.image_scores
    )
    return _table(["head", *names], rows)


def _table(names: list[str], rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    for row in (names, *rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(map(_cell, row))  # with another, it would not quote a CR
        text.write(line.getvalue().removesuffix("\r\n") + "\n")
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return a value as spreadsheets may have it: nothing instead of NaN, and an apostrophe before a text that they
    would take for a formula."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if not isinstance(value, str) or not value.lstrip(" ").startswith(FORMULA_STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
