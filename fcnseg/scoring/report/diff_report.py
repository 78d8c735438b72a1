"""Report of the difference of two runs: one HTML file that needs no other."""

from pathlib import Path

from fcnseg.io.photographs import Photographs
from fcnseg.io.run_records import run_record
from fcnseg.scoring.diff import DiffTask, plan_diff
from fcnseg.scoring.diff_result import Diff
from fcnseg.scoring.label_encoding import read_classes
from fcnseg.scoring.options import DiffOptions
from fcnseg.scoring.report import page
from fcnseg.scoring.report.charts import Chart, histogram
from fcnseg.scoring.report.image_table import ImageTable
from fcnseg.scoring.report.page import Cell
from fcnseg.scoring.report.pictures import Example, draw_example

EXAMPLES = 9

TITLES = {"left": "Before", "right": "After", "wrong": "Changes", "photo": "Photograph"}


def write_diff_report(
    file: Path, diff: Diff, before: str, after: str, options: DiffOptions, images: str | Path | None = None
) -> None:
    """Write the report of a difference, whole or not at all.

    The arguments are those of `diff`; `images` are the photographs (whatever `fcnseg run` takes), by default those of
    the later run. Raises SettingsError if photographs that were named are not there.
    """
    record = run_record(after, options.storage_options)
    task = plan_diff(before, after, options)
    with Photographs.of(images, record, options.storage_options) as photographs:
        examples = _examples(diff, task, photographs)
    space = task.head.labels
    columns, rows = _classes(diff, task)
    page.render(
        file,
        "diff.html.j2",
        title="What changed",
        summary=f"from {before} to {after}",
        figures=_figures(diff),
        left_out=[
            *diff.warnings,
            *(
                f"Left out: {len(keys)} {what}: {', '.join(keys[:20])}"
                for what, keys in (("only before", diff.only_before), ("only after", diff.only_after))
                if keys
            ),
        ],
        columns=columns,
        rows=rows,
        absent=[row.name for row in diff.per_class if not (row.pixels_before or row.pixels_after)],
        heat=page.heat_map(
            "From class to class", "Each row is one class before, and the classes of its pixels after, in percent.",
            space.names, diff.transitions,
        ),
        entries=page.largest_entries(diff.transitions, space.names),
        chart=_chart(diff),
        image_table=_image_table(diff),
        legend=[(name, page.css_color(color)) for name, color in zip(space.names, space.colors, strict=True)],
        examples=examples,
        provenance=[
            *page.provenance(run_record(before, options.storage_options), "before: "),
            *page.provenance(record, "after: "),
            *page.comparison(diff.settings, {"before": "before", "after": "after", "truth": "ground truth"}),
        ],
    )  # fmt: skip


def _chart(diff: Diff) -> Chart:
    shares = [image.share for image in diff.images]
    return histogram("Changed pixels over the images", shares, "changed pixels", max(shares, default=0) or 1.0)


def _share(value: float) -> str:
    """Return a share, which may be small, in percent."""
    return f"{100 * value:.3g} %"


def _figures(diff: Diff) -> list[tuple[str, str, str]]:
    tiles = [
        ("Changed pixels", _share(diff.changed / max(1, diff.pixels)), f"{diff.changed:,} of {diff.pixels:,}"),
        ("Unchanged images", f"{diff.identical_images:,}", f"of {len(diff.images):,}"),
    ]
    if diff.truth:
        truth = diff.truth
        tiles += [
            (
                "Mean IoU",
                page.percent(truth.mean_iu[1], 2),
                f"before {page.percent(truth.mean_iu[0], 2)}{_difference(truth.intervals.get('mean_iu'))}",
            ),
            (
                "Pixel accuracy",
                page.percent(truth.pixel_accuracy[1], 2),
                f"before {page.percent(truth.pixel_accuracy[0], 2)}"
                f"{_difference(truth.intervals.get('pixel_accuracy'))}",
            ),
            ("Helped", f"{truth.helped:,}", "pixels became right"),
            ("Hurt", f"{truth.hurt:,}", f"pixels became wrong; {truth.neither:,} stayed wrong"),
        ]
    return tiles


def _difference(interval: tuple[float, float] | None) -> str:
    if interval is None or interval[0] != interval[0]:
        return ""
    return f"; difference 95 %: {100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def _classes(diff: Diff, task: DiffTask) -> tuple[list[str], list[list[Cell]]]:
    columns = ["class", "agreement IoU, %", "pixels before", "pixels after", "lost", "gained"]
    columns += ["IoU before, %", "IoU after, %", "change"] if diff.truth else []
    rows = []
    for row in diff.per_class:
        if not (row.pixels_before or row.pixels_after):
            continue
        cells = [
            page.name_cell(row.index, row.name, task.head.labels.colors[row.index]),
            page.share_cell(row.agreement_iu, 2),
            *(page.count_cell(n) for n in (row.pixels_before, row.pixels_after, row.lost, row.gained)),
        ]
        if row.iu_before is not None and row.iu_after is not None:
            change = row.iu_after - row.iu_before
            cells += [page.share_cell(iu, 2) for iu in (row.iu_before, row.iu_after)]
            cells.append(Cell(f"{100 * change:+.2f}", change) if change == change else Cell("–"))
        rows.append(cells)
    return columns, rows


def _image_table(diff: Diff) -> ImageTable:
    judged = (("became right", "count"), ("became wrong", "count")) if diff.truth else ()
    return ImageTable(
        "Changes by image, the largest first",
        (("image", "text"), ("changed, %", "fine"), ("changed", "count"), *judged),
        tuple(
            (image.key, round(image.share, 6), image.changed, *((image.helped, image.hurt) if judged else ()))
            for image in diff.images
        ),
    )


def _examples(diff: Diff, task: DiffTask, photographs: Photographs) -> list[Example]:
    versions = {image.key: image for image in task.images}
    examples = []
    for image in diff.images[:EXAMPLES]:
        places = versions[image.key]
        before, after = (read_classes(place, task.comparison.prediction) for place in (places.before, places.after))
        note = f"{_share(image.share)} of the pixels changed"
        if image.helped is not None:
            note += f", {image.helped:,} became right, {image.hurt:,} wrong"
        photograph = photographs.find(image.key, *after.shape)
        examples.append(draw_example(TITLES, ("", image.key, note), before, after, task.head.labels, photograph))
    return examples
