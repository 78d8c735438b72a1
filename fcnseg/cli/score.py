"""`fcnseg score`: predictions compared with ground truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.console import err, out, shown
from fcnseg.cli.options import (
    AnyPalette,
    Binary,
    Classes,
    Config,
    GtPattern,
    Ignore,
    ImageList,
    JsonFile,
    Labelled,
    LabelMap,
    Pairing,
    Palette,
    Photographs,
    PredLabelMap,
    PredPattern,
    Processes,
    Quiet,
    ReduceLabels,
    check_outputs,
)
from fcnseg.cli.progress import counted_progress, interruptible

if TYPE_CHECKING:
    from fcnseg.scoring.result import Score
    from fcnseg.scoring.score import ScoreOptions


@interruptible()
def score(
    predictions: Annotated[
        str,
        typer.Argument(
            metavar="PREDS", help="Label maps or probabilities: a folder, a file, or FILE.h5, FILE.h5::/name."
        ),
    ],
    truth: Annotated[str, typer.Argument(metavar="GT", help="Ground truth: the same, also .mat files.")],
    model: Labelled = None,
    head: Annotated[str | None, typer.Option(help="Score this head of a model of several.", show_default="all")] = None,
    classes: Classes = None,
    binary: Binary = False,
    pair: Pairing = "auto",
    list_: ImageList = None,
    gt_pattern: GtPattern = None,
    pred_pattern: PredPattern = None,
    ignore: Ignore = None,
    reduce_labels: ReduceLabels = False,
    label_map: LabelMap = None,
    pred_label_map: PredLabelMap = None,
    palette: Palette = None,
    any_palette: AnyPalette = False,
    boundary: Annotated[
        bool, typer.Option("--boundary", help="Also boundary IU, and the figures in bands around boundaries.")
    ] = False,
    resamplings: Annotated[int, typer.Option(min=0, help="Resamplings for the 95 % intervals; 0: none.")] = 1000,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images without a prediction.")
    ] = False,
    allow_extra: Annotated[
        bool, typer.Option("--allow-extra", help="Leave out predictions without ground truth.")
    ] = False,
    allow_invalid: Annotated[
        bool, typer.Option("--allow-invalid", help="Leave out pairs that cannot be read or compared.")
    ] = False,
    allow_void: Annotated[bool, typer.Option("--allow-void", help="Leave out ground truth that is all void.")] = False,
    json_file: JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the table of classes; - is standard output.")
    ] = None,
    images_csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures of each image; - is standard output.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with charts and pictures; implies --boundary."),
    ] = None,
    images: Photographs = None,
    num_parts: Annotated[int, typer.Option(min=1, help="Split the pairs into so many parts ...")] = 1,
    part_id: Annotated[int, typer.Option(min=0, help="... and score this one, counted from 0.")] = 0,
    counted: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json|DIR",
            help="What --json wrote of some of the pairs, which are not read again (repeatable).",
        ),
    ] = None,
    workers: Processes = None,
    config: Config = None,  # noqa: ARG001 - read before all others
    quiet: Quiet = False,
) -> None:
    """Compare label maps with ground truth: accuracy, IU, and where they go wrong.

    Counts are summed over all images and divided once; means are over the classes that occur. Nothing is left out
    silently: missing or surplus files, sizes that differ and labels out of range are errors (exit code 2) that name
    the files, unless an --allow option leaves them out (exit code 3).

    \b
    Examples:
      fcnseg score masks/ gt/
      fcnseg score masks/ SegmentationClass/ --model voc-fcn8s \\
        --list seg11valid.txt --json score.json
      fcnseg score masks/ gtFine/ --pred-pattern '{stem}_leftImg8bit.png' \\
        --gt-pattern '{stem}_gtFine_labelTrainIds.png'
      fcnseg score masks/ gt/ --num-parts 4 --part-id 0 --json parts/0.json
      fcnseg score masks/ gt/ --counted parts/
    """
    from fcnseg.scoring.score import ScoreOptions

    files = {"--json": json_file, "--csv": csv_file, "--images-csv": images_csv}
    check_outputs(files, report, images)
    options = ScoreOptions(
        model=model,
        head=head,
        classes=classes,
        binary=binary,
        pair=pair,
        list=list_,
        gt_pattern=gt_pattern,
        pred_pattern=pred_pattern,
        num_parts=num_parts,
        part_id=part_id,
        counted=tuple(counted or ()),
        ignore=tuple(ignore or ()),
        reduce_labels=reduce_labels,
        label_map=label_map,
        pred_label_map=pred_label_map,
        palette=palette,
        any_palette=any_palette,
        boundary=boundary or report is not None,
        resamplings=resamplings,
        allow_missing=allow_missing,
        allow_extra=allow_extra,
        allow_invalid=allow_invalid,
        allow_void=allow_void,
        workers=workers,
    )
    result = _scored(predictions, truth, options, quiet)
    _write(result, files)
    if report:
        from fcnseg.scoring.report.score_report import write_report

        write_report(report, result, predictions, truth, options, images)
    if not quiet and Path("-") not in files.values():
        _show(result)
    if not quiet:
        _say_left_out(result)
    raise typer.Exit(result.exit_code)


def _scored(predictions: str, truth: str, options: ScoreOptions, quiet: bool) -> Score:
    from fcnseg.scoring.score import score_with

    with counted_progress("scoring", quiet) as on_progress:
        return score_with(predictions, truth, options, on_progress)


def _write(result: Score, files: dict[str, Path | None]) -> None:
    from fcnseg.io.atomic import whole_file
    from fcnseg.scoring.writing import classes_csv, images_csv, score_json

    writers: dict[str, Callable[[Score], str]] = {
        "--json": score_json,
        "--csv": classes_csv,
        "--images-csv": images_csv,
    }
    for name, file in files.items():
        if file == Path("-"):
            typer.echo(writers[name](result), nl=False)
        elif file:
            with whole_file(file) as opened:
                opened.write(writers[name](result).encode(errors="backslashreplace"))


# ---------------------------------------------------------------------- terminal


FIGURES = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IU",
    "frequency_weighted_iu": "frequency weighted IU",
    "mean_dice": "mean Dice (F1)",
    "kappa": "Cohen's kappa",
}


def _show(result: Score) -> None:
    for name, head in (result.heads or {"": result}).items():
        if name:
            out().print(f"\n{name}", style="bold", markup=False)
        _show_head(head)


def _show_head(result: Score) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, title in FIGURES.items():
        value, interval = getattr(result, name), result.intervals.get(name)
        if name == "kappa":
            bounds = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval and interval[0] == interval[0] else ""
            table.add_row(title, "-" if value != value else f"{value:.4f}", bounds)
        else:
            table.add_row(title, f"{_percent(value)} %", _range(interval))
    if result.boundary_iu is not None:
        table.add_row("boundary IU", f"{_percent(result.boundary_iu)} %", "")
    if result.calibration:
        table.add_row("calibration error", f"{_percent(result.calibration.expected_error)} %", "")
    table.add_row("images", f"{result.images:,}", f"{result.pixels:,} pixels count, {result.void_pixels:,} are void")
    out().print(table)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for title in ("IU %", "95 %", "accuracy %", "Dice %", "pixels"):
        table.add_column(title, justify="right")
    for row in result.per_class:
        if row.pixels or row.predicted_pixels:
            figures = [_percent(row.iu), _range(row.iu_interval), _percent(row.accuracy), _percent(row.dice)]
            table.add_row(f"{row.index} {shown(row.name)}", *figures, f"{row.pixels:,}")
    out().print()
    out().print(table)
    for band in result.bands:
        line = f"within {band.width_px} px of a boundary: mean IU {_percent(band.mean_iu)}"
        out().print(f"{line}, pixel accuracy {_percent(band.pixel_accuracy)}", markup=False)
    if result.absent:
        out().print(f"not in the ground truth: {', '.join(map(shown, result.absent))}", markup=False)
    if result.excluded_classes:
        out().print(f"in no mean: {', '.join(map(shown, result.excluded_classes))}", markup=False)


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"


def _range(interval: tuple[float, float] | None) -> str:
    return f"{_percent(interval[0])} to {_percent(interval[1])}" if interval and interval[0] == interval[0] else ""


def _say_left_out(result: Score) -> None:
    for name, head in (result.heads or {"": result}).items():
        invalid = tuple(fault.key for fault in head.invalid)
        for what, keys in (
            ("without a prediction", head.missing),
            ("without ground truth", head.extra),
            ("that cannot be compared", invalid),
            ("all void", head.all_void),
            ("that the data set's evaluation leaves out", head.excluded_images),
        ):
            if keys:
                of = f" of {name}" if name else ""
                err().print(f"left out{of}: {len(keys)} {what}: {shown(', '.join(keys[:5]))}"
                    + (" ..." if len(keys) > 5 else ""), markup=False)  # fmt: skip
