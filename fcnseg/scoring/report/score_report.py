"""Report of a score: one HTML file that needs no other."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.io.photographs import Photographs
from fcnseg.io.run_records import run_record
from fcnseg.labels import LabelSpace
from fcnseg.scoring.label_encoding import read_classes
from fcnseg.scoring.options import ScoreOptions
from fcnseg.scoring.report import page
from fcnseg.scoring.report.charts import (
    Chart,
    band_curve,
    histogram,
    precision_recall_curve,
    reliability_curve,
    threshold_curve,
)
from fcnseg.scoring.report.image_table import score_image_table, worst_of_classes
from fcnseg.scoring.report.page import Cell
from fcnseg.scoring.report.pictures import Example, draw_example
from fcnseg.scoring.result import ClassScore, ImageScore, Score
from fcnseg.scoring.score import Task, plan
from fcnseg.scoring.tables import averaged_over

EXAMPLES_EACH = 3
"""Number of the worst, the median and the best images that are shown."""

TITLES = {"left": "Ground truth", "right": "Prediction", "wrong": "Errors", "photo": "Photograph"}


def write_report(
    file: Path, score: Score, predictions: str, truth: str, options: ScoreOptions, images: str | Path | None = None
) -> None:
    """Write the report of a score, whole or not at all.

    The arguments are those of the score; `images` are the photographs (whatever `fcnseg run` takes), by default those
    of the run which made the predictions. Raises SettingsError if photographs that were named are not there.
    """
    record = run_record(predictions, options.storage_options)
    with Photographs.of(images, record, options.storage_options) as photographs:
        heads = [
            _head(score.heads.get(task.head.name, score), task, photographs, len(score.heads) > 1, options.workers)
            for task in plan(predictions, truth, options)
        ]
    page.render(
        file,
        "score.html.j2",
        title=f"Segmentation score: {score.settings['model'] or 'labels'}",
        summary=f"{predictions} compared with {truth}",
        heads=heads,
        provenance=[
            *page.provenance(record),
            *page.comparison(score.settings, {"predictions": "predictions", "truth": "ground truth"}),
        ],
    )


def _head(score: Score, task: Task, photographs: Photographs, several: bool, workers: int | None) -> dict[str, Any]:
    """Return the values that the page's section about one head shows."""
    space = task.head.labels
    columns, rows = _classes(score, space)
    counts = np.column_stack([score.confusion, [row.predicted_void_pixels for row in score.per_class]])
    pairs = {pair.key: pair for pair in task.pairing.pairs}
    note = "Each row is the ground truth of one class, and the classes its pixels were predicted as, in percent."
    return {
        "name": task.head.name,
        "figures": _figures(score),
        "left_out": _left_out(score),
        "notes": _notes(score),
        "columns": columns,
        "rows": rows,
        "absent": [row.name for row in score.per_class if not _occurs(row)],
        "heat": page.heat_map("Confusion matrix", note, space.names, counts),
        "confused": page.largest_entries(counts, space.names),
        "worst": worst_of_classes(score.image_scores, space.names),
        "images": score_image_table(score.image_scores, pairs, task.comparison, workers),
        "charts": _charts(score, f", {task.head.name}" if several else ""),
        "legend": [(row.name, page.css_color(space.colors[row.index])) for row in score.per_class if _occurs(row)],
        "examples": _examples(score, task, photographs),
    }


def _charts(score: Score, of: str) -> list[Chart]:
    """Draw the charts. Their titles are all different: the ids of the drawings are made of them."""
    charts = [histogram(f"Mean IoU over the images{of}", [s.mean_iu for s in score.image_scores], "mean IoU")]
    if score.bands:
        charts.append(band_curve(f"IoU and accuracy near boundaries{of}", score.bands))
    if score.calibration:
        charts.append(reliability_curve(f"Calibration{of}", score.calibration))
    if score.thresholds:
        charts.append(threshold_curve(f"Figures by threshold{of}", score.thresholds))
        charts.append(precision_recall_curve(f"Precision and recall{of}", score.thresholds))
    return charts


def _figures(score: Score) -> list[tuple[str, str, str]]:
    named = {
        "mean_iu": "Mean IoU",
        "pixel_accuracy": "Pixel accuracy",
        "mean_accuracy": "Mean accuracy",
        "frequency_weighted_iu": "Frequency weighted IoU",
        "mean_dice": "Mean Dice (F1)",
    }
    tiles = [(t, page.percent(getattr(score, n)), _note(score, n)) for n, t in named.items()]
    low, high = score.intervals.get("kappa", (math.nan, math.nan))
    interval = "" if math.isnan(low) else f"95 %: {low:.3f} to {high:.3f}"
    tiles.append(("Cohen's kappa", "–" if score.kappa != score.kappa else f"{score.kappa:.3f}", interval))
    tiles.append(("Per-image mean IoU", page.percent(score.per_image["mean_iu"]), "over images, then over classes"))
    tiles.append(("Per-image mean Dice", page.percent(score.per_image["mean_dice"]), "over images, then over classes"))
    if score.boundary_iu is not None:
        tiles.append(("Boundary IoU", page.percent(score.boundary_iu), "within 2 % of the diagonal"))
    if score.calibration:
        tiles.append(("Calibration error", page.percent(score.calibration.expected_error), "expected (ECE), 15 bins"))
    if score.thresholds:
        tiles.append(("Average precision", page.percent(score.thresholds.average_precision), "over 101 thresholds"))
    if score.predicted_void_pixels:
        tiles.append(("Predicted as void", f"{score.predicted_void_pixels:,}", "pixels, counted as misses"))
    tiles.append(("Images", f"{score.images:,}", f"{score.pixels:,} pixels count, {score.void_pixels:,} are void"))
    return tiles


def _note(score: Score, figure: str) -> str:
    """Return the interval of a figure, and the classes that it is the mean over."""
    over = averaged_over(score, figure)
    return "; ".join(filter(None, (_interval(score.intervals.get(figure)), f"mean over {over}" if over else "")))


def _occurs(row: ClassScore) -> bool:
    return bool(row.pixels or row.predicted_pixels)


def _interval(interval: tuple[float, float] | None) -> str:
    text = page.span(interval)
    return f"95 %: {text}" if text else ""


def _left_out(score: Score) -> list[str]:
    named: dict[str, Sequence[str]] = {
        "without a prediction": score.missing,
        "without ground truth": score.extra,
        "that could not be compared": [f"{fault.key} ({fault.reason})" for fault in score.invalid],
        "whose ground truth is all void": score.all_void,
    }
    return [
        *score.warnings,
        *_left_out_lines(named),
    ]


def _left_out_lines(named: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"Left out: {len(keys)} {what}: {', '.join(keys[:20])}{' ...' if len(keys) > 20 else ''}"
        for what, keys in named.items()
        if keys
    ]


def _notes(score: Score) -> list[str]:
    over = averaged_over(score, "mean_iu")
    notes = [f"Means are over the classes that occur; that of IoU is over {over}."]
    if score.predicted_only:
        notes.append(
            f"Predicted, but not in the ground truth (in the means with 0): {', '.join(score.predicted_only)}."
        )
    if score.absent:
        notes.append(f"Not in the ground truth: {len(score.absent)} of {len(score.per_class)} classes.")
    if score.excluded_classes:
        notes.append(f"In no mean: {', '.join(score.excluded_classes)}.")
    if score.excluded_images:
        notes.append(f"Left out by the data set's own evaluation: {', '.join(score.excluded_images)}.")
    return notes


def _classes(score: Score, space: LabelSpace) -> tuple[list[str], list[list[Cell]]]:
    boundary = score.boundary_iu is not None
    intervals = bool(score.intervals)
    columns = ["class", "IoU, %", *(["95 %"] * intervals), "accuracy, %", "precision, %", "Dice, %"]
    columns += [*(["boundary IoU, %"] * boundary), "pixels", "predicted"]
    rows = []
    for row in filter(_occurs, score.per_class):
        cells = [page.name_cell(row.index, row.name, space.colors[row.index]), page.share_cell(row.iu)]
        if intervals:
            text = page.span(row.iu_interval)
            cells.append(Cell(text or "–", row.iu_interval[0] if text and row.iu_interval else ""))
        cells += [page.share_cell(figure) for figure in (row.accuracy, row.precision, row.dice)]
        if boundary:
            cells.append(page.share_cell(float("nan") if row.boundary_iu is None else row.boundary_iu))
        rows.append([*cells, page.count_cell(row.pixels), page.count_cell(row.predicted_pixels)])
    return columns, rows


def _examples(score: Score, task: Task, photographs: Photographs) -> list[Example]:
    pairs = {pair.key: pair for pair in task.pairing.pairs}
    examples = []
    for title, image in _selected(score.image_scores):
        pair = pairs[image.key]
        truth = read_classes(pair.truth, task.comparison.truth)
        predicted = read_classes(pair.prediction, task.comparison.prediction)
        note = f"mean IoU {page.percent(image.mean_iu)}, pixel accuracy {page.percent(image.pixel_accuracy)}"
        photograph = photographs.find(image.key, *truth.shape)
        caption = (title, image.key, note)
        examples.append(draw_example(TITLES, caption, truth, predicted, task.head.labels, photograph))
    return examples


def _selected(scores: Sequence[ImageScore]) -> list[tuple[str, ImageScore]]:
    """Return the worst, median and best images by mean IoU, each once."""
    ranked = sorted(scores, key=lambda s: (s.mean_iu if s.mean_iu == s.mean_iu else -1.0, s.key))
    middle = max(0, len(ranked) // 2 - EXAMPLES_EACH // 2)
    groups = (
        ("Worst:", ranked[:EXAMPLES_EACH]),
        ("Best:", ranked[::-1][:EXAMPLES_EACH]),
        ("Median:", ranked[middle : middle + EXAMPLES_EACH]),
    )
    selected: dict[str, tuple[str, ImageScore]] = {}
    for title, group in groups:
        for image in group:
            selected.setdefault(image.key, (title, image))
    order = {title: number for number, title in enumerate(("Worst:", "Median:", "Best:"))}
    return sorted(selected.values(), key=lambda entry: order[entry[0]])
