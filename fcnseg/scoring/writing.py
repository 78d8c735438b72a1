"""Scores as files: JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from fcnseg.scoring.result import ClassScore, ImageScore, Score


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
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([None if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows)
    return text.getvalue()
