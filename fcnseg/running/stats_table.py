"""Statistics of label maps as a table, CSV or Parquet: a row for each image, with the pixels of each class."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from fcnseg.io.names import plain
from fcnseg.io.png import strips
from fcnseg.io.suffixes import has_suffix
from fcnseg.labels import LabelSpace
from fcnseg.running.class_choice import Heads
from fcnseg.running.worklist import chunks
from fcnseg.types import Frame, Labels, Prediction, Probabilities

VOID = "void"

ROWS_AT_ONCE = 4096
"""The rows of a group of a Parquet file."""


class StatsTable:
    """Rows of `key`, `width`, `height`, and of each head `pixels/CLASS` and `share/CLASS` for its classes and for void.

    With `confidence`, also the mean over all pixels of the highest probability. Models of several heads have
    `pixels/HEAD/CLASS`. Shares are of the image's pixels.
    """

    def __init__(self, name: str, heads: Heads, confidence: bool = False) -> None:
        self.name, self.heads, self.confidence = name, heads, confidence
        self._types: dict[str, type] = {"key": str, "width": int, "height": int}
        for head, space in heads.items():
            prefix = f"{head}/" if len(heads) > 1 else ""
            names = [f"{prefix}{name}" for name in column_names(space)]
            self._types |= {f"pixels/{name}": int for name in names} | {f"share/{name}": float for name in names}
            if confidence:
                self._types[f"confidence/{head}" if prefix else "confidence"] = float

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._types)

    def entry(self, frame: Frame, prediction: Prediction) -> bytes:
        """Return the size, the pixels of each class and of void by head, and the mean confidences, as JSON."""
        height, width = frame.size
        pixels = [class_pixels(prediction.labels[head], space) for head, space in self.heads.items()]
        sure = []
        if self.confidence:
            assert prediction.probabilities is not None  # the engine was asked for them
            sure = [mean_confidence(prediction.probabilities[head]) for head in self.heads]
        return json.dumps([width, height, pixels, sure], separators=(",", ":")).encode()

    def write(self, file: BinaryIO, entries: Iterable[tuple[str, bytes]]) -> None:
        """Write the rows, in the form that the name of the file asks for."""
        rows = (self._row(key, entry) for key, entry in entries)
        if has_suffix(self.name, ".parquet"):
            self._write_parquet(file, rows)
            return
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(rows)
        text.detach()

    def _row(self, key: str, entry: bytes) -> list[Any]:
        width, height, pixels, sure = json.loads(entry)
        row = [plain(key), width, height]
        for number, counts in enumerate(pixels):
            row += [*counts, *(count / (width * height) for count in counts), *sure[number : number + 1]]
        return row

    def _write_parquet(self, file: BinaryIO, rows: Iterator[list[Any]]) -> None:
        import pyarrow as pa  # an extra
        import pyarrow.parquet as pq

        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        schema = pa.schema([(name, types[kind]) for name, kind in self._types.items()])
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for group in chunks(rows, ROWS_AT_ONCE):
                columns = zip(zip(*group, strict=True), schema.types, strict=True)
                writer.write_table(pa.table([pa.array(values, kind) for values, kind in columns], schema=schema))


def column_names(space: LabelSpace) -> list[str]:
    """Return a name for each class and for void, last; those that are alike have their labels behind."""
    names = [*space.names, VOID]
    labels = [*range(space.classes), space.ignore]
    return [f"{name} ({label})" if names.count(name) > 1 else name for name, label in zip(names, labels, strict=True)]


def class_pixels(labels: Labels, space: LabelSpace) -> list[int]:
    """Return the pixels of each class, and last those in no class."""
    counts = np.zeros(space.classes + 1, np.int64)
    for strip in strips(labels, 8):
        counts += np.bincount(np.minimum(strip, space.classes).ravel(), minlength=space.classes + 1)
    return [int(count) for count in counts]


def mean_confidence(probabilities: Probabilities) -> float:
    """Return the mean over all pixels of the highest of K x H x W probabilities."""
    total = sum(float(row.max(axis=0).sum(dtype=np.float64)) for row in np.moveaxis(probabilities, 1, 0))
    _, height, width = probabilities.shape
    return total / int(height * width)


def stats_bytes(heads: Heads) -> int:
    """Return the fewest bytes of an image in a table, or about: numbers of classes that do not occur are short."""
    return 8 + 4 * sum(space.classes for space in heads.values())
