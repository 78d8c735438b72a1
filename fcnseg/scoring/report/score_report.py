"""Report of a score: one HTML file that needs no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcnseg.io.photographs import Photographs
from fcnseg.io.run_records import run_record
from fcnseg.labels import LabelSpace
from fcnseg.scoring.label_encoding import read_classes
from fcnseg.scoring.options import ScoreOptions
from fcnseg.scoring.report import page
from fcnseg.scoring.report.charts import Chart, band_curve, histogram, reliability_curve
from fcnseg.scoring.report.page import Cell
from fcnseg.scoring.report.pictures import Example, draw_example
from fcnseg.scoring.result import ImageScore, Score
from fcnseg.scoring.score import Task, plan

EXAMPLES_EACH = 3
"""Number of the worst, the median and the best images that are shown."""

TITLES = {"left": "Ground truth", "right": "Prediction", "wrong": "Errors", "photo": "Photograph"}


def write_report(
    file: Path, score: Score, predictions: str, truth: str, options: ScoreOptions, images: Path | None = None
) -> None:
    """Write the report of a score, whole or not at all.

    The arguments are those of the score; `images` are the photographs (whatever `fcnseg run` takes), by default those
    of the run which made the predictions. Raises SettingsError if photographs that were named are not there.
    """
    record = run_record(predictions)
    with Photographs.of(images, record) as photographs:
        heads = [
            _head(score.heads.get(task.head.name, score), task, photographs, len(score.heads) > 1)
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


def _head(score: Score, task: Task, photographs: Photographs, several: bool) -> dict[str, Any]:
    """Return the values that the page's section about one head shows."""
    space = task.head.labels
    columns, rows = _classes(score, space)
    note = "Each row is the ground truth of one class, and the classes its pixels were predicted as, in percent."
    return {
        "name": task.head.name,
        "figures": _figures(score),
        "left_out": _left_out(score),
        "notes": _notes(score),
        "columns": columns,
        "rows": rows,
        "heat": page.heat_map("Confusion matrix", note, space.names, score.confusion),
        "confused": page.largest_entries(score.confusion, space.names),
        "charts": _charts(score, f", {task.head.name}" if several else ""),
        "legend": [(name, page.css_color(color)) for name, color in zip(space.names, space.colors, strict=True)],
        "examples": _examples(score, task, photographs),
    }


def _charts(score: Score, of: str) -> list[Chart]:
    """Draw the charts. Their titles are all different: the ids of the drawings are made of them."""
    charts = [histogram(f"Mean IoU over the images{of}", [s.mean_iu for s in score.image_scores], "mean IoU")]
    if score.bands:
        charts.append(band_curve(f"IoU and accuracy near boundaries{of}", score.bands))
    if score.calibration:
        charts.append(reliability_curve(f"Calibration{of}", score.calibration))
    return charts


def _figures(score: Score) -> list[tuple[str, str, str]]:
    named = {
        "mean_iu": "Mean IoU",
        "pixel_accuracy": "Pixel accuracy",
        "mean_accuracy": "Mean accuracy",
        "frequency_weighted_iu": "Frequency weighted IoU",
        "mean_dice": "Mean Dice (F1)",
    }
    tiles = [(t, page.percent(getattr(score, n)), _interval(score.intervals.get(n))) for n, t in named.items()]
    tiles.append(("Cohen's kappa", "–" if score.kappa != score.kappa else f"{score.kappa:.3f}", ""))
    if score.boundary_iu is not None:
        tiles.append(("Boundary IoU", page.percent(score.boundary_iu), "within 2 % of the diagonal"))
    if score.calibration:
        tiles.append(("Calibration error", page.percent(score.calibration.expected_error), "expected (ECE), 15 bins"))
    tiles.append(("Images", f"{score.images:,}", f"{score.pixels:,} pixels count"))
    return tiles


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
        f"Left out: {len(keys)} {what}: {', '.join(keys[:20])}{' ...' if len(keys) > 20 else ''}"
        for what, keys in named.items()
        if keys
    ]


def _notes(score: Score) -> list[str]:
    notes = ["Means are over the classes that occur."]
    if score.absent:
        notes.append(f"Not in the ground truth: {', '.join(score.absent)}.")
    if score.excluded_classes:
        notes.append(f"In no mean: {', '.join(score.excluded_classes)}.")
    if score.excluded_images:
        notes.append(f"Left out by the data set's own evaluation: {', '.join(score.excluded_images)}.")
    return notes


def _classes(score: Score, space: LabelSpace) -> tuple[list[str], list[list[Cell]]]:
    boundary = score.boundary_iu is not None
    intervals = bool(score.intervals)
    columns = ["class", "IoU, %", *(["95 %"] * intervals), "accuracy, %", "Dice, %"]
    columns += [*(["boundary IoU, %"] * boundary), "pixels", "predicted"]
    rows = []
    for row in score.per_class:
        cells = [page.name_cell(row.index, row.name, space.colors[row.index]), page.share_cell(row.iu)]
        if intervals:
            text = page.span(row.iu_interval)
            cells.append(Cell(text or "–", row.iu_interval[0] if text and row.iu_interval else ""))
        cells += [page.share_cell(row.accuracy), page.share_cell(row.dice)]
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
