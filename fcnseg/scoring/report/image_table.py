"""The table of all images of a page: data that its script sorts, searches and shows in portions, with thumbnails."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import LabelsError
from fcnseg.io.pairing import Pair
from fcnseg.labels import LabelSpace
from fcnseg.scoring.confusion import Map
from fcnseg.scoring.counting import Comparison
from fcnseg.scoring.label_encoding import read_classes
from fcnseg.scoring.report.pictures import WRONG, data_uri
from fcnseg.scoring.result import ClassCounts, ImageScore
from fcnseg.workers.pool import map_in_processes

THUMBNAILS = 2000
"""Number of images, from the first, that have a thumbnail in the page."""

THUMBNAIL_PX = 180
GAP_PX = 4

VOID_COLOR, RIGHT_COLOR = (24, 24, 24), (110, 110, 110)


@dataclass(frozen=True)
class ImageTable:
    """Rows of cells, a row an image; the kinds of columns are "text", "count", and "share" (0..1, None if
    unknown) or "fine" (a share with more decimals).

    `classes` are the names of classes and `class_rows` the share of right pixels (IoU) of each class that an image has,
    [index, share]; `thumbnails` are data URIs by row, and `thumbnail_note` says what they show.
    """

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]
    classes: tuple[str, ...] = ()
    class_rows: tuple[tuple[tuple[int, float], ...], ...] = ()
    thumbnails: tuple[str, ...] = field(default=(), repr=False)
    thumbnail_note: str = ""

    @property
    def data(self) -> dict[str, Any]:
        """The content of the table as the page's script reads it, without the thumbnails."""
        return {
            "columns": [{"title": title, "kind": kind} for title, kind in self.columns],
            "rows": self.rows,
            "classes": self.classes,
            "classRows": self.class_rows,
        }


def score_image_table(
    scores: Sequence[ImageScore], pairs: Mapping[str, Pair], how: Comparison, workers: int | None
) -> ImageTable:
    """Return the table of a score's images, the worst first."""
    ranked = sorted(scores, key=lambda image: (_or(image.mean_iu, -1.0), image.key))
    columns = ("image", "text"), ("mean IoU, %", "share"), ("mean Dice, %", "share"), ("pixel accuracy, %", "share")
    return ImageTable(
        "All images, the worst first",
        (*columns, ("pixels", "count")),
        tuple((i.key, *map(_share, (i.mean_iu, i.mean_dice, i.pixel_accuracy)), i.pixels) for i in ranked),
        how.truth.space.names,
        tuple(class_ius(image.class_counts) for image in ranked),
        _thumbnails([pairs[image.key] for image in ranked[:THUMBNAILS]], how, workers),
        "Ground truth, prediction, errors",
    )


def class_ius(counts: ClassCounts) -> tuple[tuple[int, float], ...]:
    """Return the index and the IoU, 0..1, of each class of an image."""
    return tuple((i, round(right / (truth + given - right), 4)) for i, right, truth, given in counts)


def worst_of_classes(scores: Sequence[ImageScore], names: Sequence[str], each: int = 3) -> list[tuple[str, str]]:
    """Return the name of each class in the ground truth with its images of lowest IoU, worst first, as a text."""
    found: dict[int, list[tuple[float, str]]] = {}
    for image in scores:
        for i, right, truth, given in image.class_counts:
            if truth:
                found.setdefault(i, []).append((right / (truth + given - right), image.key))
    return [
        (names[i], ", ".join(f"{key} ({100 * iu:.1f} %)" for iu, key in sorted(images)[:each]))
        for i, images in sorted(found.items())
    ]


def _share(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value


def _thumbnails(pairs: Sequence[Pair], how: Comparison, workers: int | None) -> tuple[str, ...]:
    """Draw the thumbnails of pairs, in their order; one that cannot be read any more is empty."""
    return tuple(map_in_processes(partial(draw_thumbnail, how=how), pairs, workers))


def draw_thumbnail(pair: Pair, how: Comparison) -> str:
    """Return a strip of ground truth, prediction and errors as a data URI."""
    try:
        truth, predicted = read_classes(pair.truth, how.truth), read_classes(pair.prediction, how.prediction)
    except LabelsError:
        return ""
    truth, predicted = _smaller(truth), _smaller(predicted)
    gap = np.full((len(truth), GAP_PX, 3), 255, np.uint8)
    errors = np.full((*truth.shape, 3), RIGHT_COLOR, np.uint8)
    errors[truth < 0] = VOID_COLOR
    errors[(truth != predicted) & (truth >= 0)] = WRONG
    views = [_drawn(codes, how.truth.space) for codes in (truth, predicted)]
    return data_uri(Image.fromarray(np.hstack([views[0], gap, views[1], gap, errors])), "png")


def _smaller(codes: Map) -> Map:
    """Return every nth row and column, so that the longer side is at most THUMBNAIL_PX."""
    step = -(-max(codes.shape) // THUMBNAIL_PX)
    return codes[step // 2 :: step, step // 2 :: step] if min(codes.shape) > step else codes[::step, ::step]


def _drawn(codes: Map, space: LabelSpace) -> NDArray[np.uint8]:
    colors = np.array([*space.colors, VOID_COLOR], np.uint8)
    drawn: NDArray[np.uint8] = colors[np.where(codes < 0, space.classes, codes)]
    return drawn
