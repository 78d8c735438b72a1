"""`RUN/report.html`: the curves, settings and classes of a training, and the worst images of its last validation.

One HTML file that needs no other, of the parts of `fcnseg score --report`. Without Matplotlib it has no curves.
"""

from __future__ import annotations

import csv
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg import __version__
from fcnseg.errors import FcnsegError
from fcnseg.labels import LabelSpace
from fcnseg.scoring import measures
from fcnseg.scoring.measures import Tally
from fcnseg.scoring.report import page
from fcnseg.scoring.report.pictures import Example, draw_example
from fcnseg.training.plan import TrainPlan
from fcnseg.training.validation import ImageResult, Validation

TITLES = {"left": "Ground truth", "right": "Prediction", "wrong": "Errors", "photo": "Photograph"}

Row = Mapping[str, str]
"""A row of `log.csv`."""


@dataclass(frozen=True)
class ReportContent:
    """The content of a report beside the plan: rows of the log, the last validation by head, settings, a summary."""

    rows: Sequence[Row]
    validations: Mapping[str, Validation] = field(default_factory=dict)
    settings: Sequence[str] = ()
    state: str = ""


def write_training_report(plan: TrainPlan, content: ReportContent) -> None:
    """Write the report, whole or not at all."""
    has_charts = find_spec("matplotlib") is not None
    heads = [
        _head(plan, head.name, head.labels, content.validations[head.name], has_charts)
        for head in plan.recipe.heads
        if head.name in content.validations
    ]
    page.render(
        plan.out / "report.html",
        "training.html.j2",
        with_heat_maps=has_charts,
        title=f"Training: {plan.recipe.name}",
        summary=content.state,
        settings=content.settings,
        notes=[] if has_charts else ["There are no curves without Matplotlib: `pip install matplotlib` installs it."],
        charts=list(_charts(content.rows)) if has_charts else [],
        heads=heads,
        provenance=list(_provenance(plan)),
    )


def read_log(file: Path) -> list[Row]:
    """Return the rows of a `log.csv`, none if it is not there."""
    if not file.exists():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def _charts(rows: Sequence[Row]) -> Iterator[Any]:
    """Draw the curves that the log has, over the steps of all stages."""
    from fcnseg.scoring.report.charts import training_curve  # needs Matplotlib

    steps = _steps_of_all_stages(rows)

    def points(name: str, factor: float = 1.0) -> list[tuple[int, float]]:
        return [(x, factor * float(row[name])) for x, row in zip(steps, rows, strict=True) if row.get(name)]

    losses = {"training": points("loss"), "validation (cross-entropy)": points("validation_loss")}
    yield training_curve("Loss", losses, "loss")
    figures = {"mean IoU": points("mean_iu", 100), "pixel accuracy": points("pixel_accuracy", 100)}
    yield training_curve("Figures of the validation", figures, "%", top=100)
    yield training_curve("Learning rate", {"learning rate": points("lr")}, "learning rate")


def _steps_of_all_stages(rows: Sequence[Row]) -> list[int]:
    before, last, stage, steps = 0, 0, "", []
    for row in rows:
        if row["stage"] != stage:
            before, stage = before + last, row["stage"]
        last = int(row["step"])
        steps.append(before + last)
    return steps


def _head(plan: TrainPlan, name: str, space: LabelSpace, of: Validation, has_heat_map: bool) -> dict[str, Any]:
    """Return the values of the page's section about one head."""
    tally = Tally.of(of.counts)
    occurs = (tally.truth + tally.predicted) > 0
    note = "Each row is the ground truth of one class, and the classes its pixels were predicted as, in percent."
    tiles = [
        ("Mean IoU", page.percent(float(measures.mean_iu(tally))), ""),
        ("Pixel accuracy", page.percent(float(measures.pixel_accuracy(tally))), ""),
        ("Mean accuracy", page.percent(float(measures.mean_accuracy(tally))), ""),
        ("Frequency weighted IoU", page.percent(float(measures.frequency_weighted_iu(tally))), ""),
        ("Loss", f"{of.loss:.4g}", "mean cross-entropy of the labelled pixels"),
    ]
    columns = measures.class_iu(tally), measures.class_accuracy(tally), measures.class_precision(tally)
    rows = [
        [
            page.name_cell(i, space.names[i], space.colors[i]),
            *(page.share_cell(float(column[i])) for column in columns),
            page.count_cell(int(tally.truth[i])),
            page.count_cell(int(tally.predicted[i])),
        ]
        for i in np.flatnonzero(occurs).tolist()
    ]
    return {
        "name": name,
        "figures": tiles,
        "columns": ["class", "IoU, %", "accuracy, %", "precision, %", "pixels", "predicted"],
        "rows": rows,
        "absent": [space.names[i] for i in np.flatnonzero(~occurs).tolist()],
        "heat": page.heat_map("Confusion matrix", note, space.names, of.counts) if has_heat_map else None,
        "legend": [(space.names[i], page.css_color(space.colors[i])) for i in np.flatnonzero(occurs).tolist()],
        "examples": list(_examples(plan, name, space, of.worst)),
    }


def _examples(plan: TrainPlan, head: str, space: LabelSpace, worst: Sequence[ImageResult]) -> Iterator[Example]:
    for image in worst:
        try:
            sample = plan.validation[image.index]
        except FcnsegError:  # it has gone since
            continue
        truth, predicted = (labels.astype(np.int64) for labels in (sample.labels[head], image.predicted))
        codes = np.where(truth == space.ignore, -1, truth)
        note = f"mean IoU {page.percent(None if math.isnan(image.mean_iu) else image.mean_iu)}"
        photograph = sample.inputs.get("color")
        yield draw_example(TITLES, ("Worst:", sample.name, note), codes, predicted, space, photograph)


def _provenance(plan: TrainPlan) -> Iterator[tuple[str, str]]:
    for name in ("recipe", "data", "validation", "initial_weights", "seed"):
        if name in plan.settings:
            value = plan.settings[name]
            yield name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    for name, value in plan.settings.get("preset", {}).items():
        yield f"preset: {name}", str(value)
    yield "written", datetime.now(UTC).isoformat(timespec="seconds")
    yield "written by", f"fcnseg {__version__}, Python {platform.python_version()}, {platform.platform()}"
