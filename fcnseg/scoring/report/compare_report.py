"""Report of several runs: one HTML file that needs no other."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fcnseg.io.run_records import run_record
from fcnseg.scoring.compare import Compared, ScoredRun
from fcnseg.scoring.report import page
from fcnseg.scoring.report.image_table import ImageTable, class_ius
from fcnseg.scoring.report.page import Cell
from fcnseg.scoring.tables import FIGURES, averaged_over, latex, markdown
from fcnseg.scoring.tables import compared_tables as text_tables


def write_compare_report(
    file: Path,
    compared: Compared,
    runs: Sequence[str],
    truth: str,
    storage_options: Mapping[str, str] | None = None,
) -> None:
    """Write the page of several runs, whole or not at all. The arguments are those of the comparison."""
    records = [run_record(run, storage_options) for run in runs]
    first = compared.runs[0].score
    warnings = [f"{run.name}: {warning}" for run in compared.runs for warning in run.score.warnings]
    columns, rows, absent = _classes(compared)
    tables = text_tables(compared)
    page.render(
        file,
        "compare.html.j2",
        with_heat_maps=False,
        title=f"{len(runs)} runs compared",
        summary=f"{', '.join(run.name for run in compared.runs)}, each against {truth}",
        warnings=warnings,
        notes=[
            f"Over the same {first.images:,} images; {first.pixels:,} pixels count, {first.void_pixels:,} are void."
        ],
        run_columns=[
            "run",
            *(f"{title}, %" for title in FIGURES.values()),
            "kappa",
            "mean over",
            "minus the first, 95 %",
        ],
        run_rows=[_run(run, number) for number, run in enumerate(compared.runs)],
        columns=columns,
        rows=rows,
        absent=absent,
        images=_images(compared),
        texts=[("LaTeX", latex(tables)), ("Markdown", markdown(tables))],
        provenance=[
            *chain.from_iterable(map(_provenance, compared.runs, runs, records)),
            *page.comparison(first.settings, {"truth": "ground truth"}, left_out=("predictions",)),
        ],
    )


def _provenance(run: ScoredRun, path: str, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(f"{run.name}: predictions", path), *page.provenance(record, f"{run.name}: ")]


def _run(run: ScoredRun, number: int) -> list[Cell]:
    score = run.score
    interval = run.differences.get("mean_iu")
    difference = "" if interval is None or interval[0] != interval[0] else f"{page.signed(interval)}"
    return [
        Cell(run.name, number),
        *(page.share_cell(getattr(score, figure), 2) for figure in FIGURES),
        Cell("–") if score.kappa != score.kappa else Cell(f"{score.kappa:.4f}", score.kappa),
        Cell(averaged_over(score, "mean_iu")),
        Cell(difference or "–", interval[0] if difference and interval else ""),
    ]


def _classes(compared: Compared) -> tuple[list[str], list[list[Cell]], list[str]]:
    """Return the titles and rows of the classes' table, and the classes that do not occur at all."""
    scores = [run.score for run in compared.runs]
    columns = ["class", *(f"{run.name}, %" for run in compared.runs), "best minus worst", "pixels"]
    rows, absent = [], []
    for i, row in enumerate(scores[0].per_class):
        if not any(score.per_class[i].pixels or score.per_class[i].predicted_pixels for score in scores):
            absent.append(row.name)
            continue
        ius = [score.per_class[i].iu for score in scores]
        known = [iu for iu in ius if iu == iu]
        spread = max(known) - min(known)
        rows.append(
            [
                Cell(f"{row.index} {row.name}", row.index),
                *(page.share_cell(iu, 2) for iu in ius),
                Cell(f"{100 * spread:.2f}", spread),
                page.count_cell(row.pixels),
            ]
        )
    return columns, rows, absent


def _images(compared: Compared) -> ImageTable:
    """Return the table of images, beginning with those on which the runs differ most."""
    scores = [run.score for run in compared.runs]
    rows = []
    for images in zip(*(score.image_scores for score in scores), strict=True):
        ius = [image.mean_iu for image in images]
        known = [iu for iu in ius if iu == iu]
        spread = round(max(known) - min(known), 5) if known else 0.0
        shares = (None if iu != iu else round(iu, 5) for iu in ius)
        rows.append(((images[0].key, *shares, spread), class_ius(images[0].class_counts)))
    rows.sort(key=lambda row: (-row[0][-1], row[0][0]))
    titles = [(f"{run.name}, %", "fine") for run in compared.runs]
    return ImageTable(
        "Mean IoU of all images, the largest differences first",
        (("image", "text"), *titles, ("difference", "fine")),
        tuple(row for row, _ in rows),
    )
