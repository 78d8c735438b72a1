"""`fcnseg score`: compare predictions with ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcnseg.cli.comparison_options import (
    AnyPalette,
    Binary,
    Classes,
    ClassesOf,
    GtPattern,
    Ignore,
    ImageList,
    JsonFile,
    LabelMap,
    Labels,
    LatexFile,
    Logits,
    MarkdownFile,
    PairBy,
    Palette,
    Photographs,
    PredLabelMap,
    PredLabels,
    PredPattern,
    Processes,
    ReduceLabels,
    ReducePredLabels,
    check_outputs,
    write_output,
    write_tables,
)
from fcnseg.cli.config_file import Config
from fcnseg.cli.options import AsJson, JsonLogs, Quiet, StorageOption, Verbose
from fcnseg.cli.progress import busy, counted_progress, interruptible
from fcnseg.errors import require


@interruptible()
def score(
    predictions: Annotated[
        str,
        typer.Argument(
            metavar="PREDS", help="Label maps or probabilities: a folder, a file, FILE.h5, FILE.h5::/name, or a URL."
        ),
    ],
    truth: Annotated[str, typer.Argument(metavar="GT", help="Ground truth, in the same forms or as .mat files.")],
    model: ClassesOf = None,
    head: Annotated[
        str | None, typer.Option(metavar="HEAD", help="Score this head of a model with several.", show_default="all")
    ] = None,
    classes: Classes = None,
    binary: Binary = False,
    pair: PairBy = "auto",
    list_: ImageList = None,
    gt_pattern: GtPattern = None,
    pred_pattern: PredPattern = None,
    ignore: Ignore = None,
    labels: Labels = None,
    pred_labels: PredLabels = None,
    reduce_labels: ReduceLabels = False,
    reduce_pred_labels: ReducePredLabels = False,
    label_map: LabelMap = None,
    pred_label_map: PredLabelMap = None,
    logits: Logits = False,
    palette: Palette = None,
    any_palette: AnyPalette = False,
    boundary: Annotated[
        bool, typer.Option("--boundary", help="Also measure boundary IoU, and IoU in bands around boundaries.")
    ] = False,
    resamplings: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Bootstrap resamplings for the 95 % confidence intervals; 0 for none."),
    ] = 1000,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images without a prediction.")
    ] = False,
    allow_extra: Annotated[
        bool, typer.Option("--allow-extra", help="Leave out predictions without ground truth.")
    ] = False,
    allow_invalid: Annotated[
        bool, typer.Option("--allow-invalid", help="Leave out pairs that cannot be read or compared.")
    ] = False,
    allow_void: Annotated[
        bool, typer.Option("--allow-void", help="Leave out images whose ground truth is all void.")
    ] = False,
    json_file: JsonFile = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the table of classes as CSV; - is standard output."),
    ] = None,
    images_csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures of each image as CSV; - is standard output.")
    ] = None,
    latex: LatexFile = None,
    markdown: MarkdownFile = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with charts and pictures; implies --boundary."),
    ] = None,
    images: Photographs = None,
    num_parts: Annotated[
        int, typer.Option(min=1, metavar="N", help="Divide the images into this many parts, those of `fcnseg run` ...")
    ] = 1,
    part_id: Annotated[int, typer.Option(min=0, metavar="I", help="... and score only this one, counted from 0.")] = 0,
    counted: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json|DIR",
            help="Add the counts of an earlier score of some of the pairs, which are not read again (repeatable).",
        ),
    ] = None,
    workers: Processes = None,
    storage_option: StorageOption = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,
) -> None:
    """Compare label maps with ground truth: accuracy, IoU, and where they go wrong.

    Pixels are counted over all images and divided once; means are over the classes that occur. Nothing is left out
    silently: missing or surplus files, sizes that differ and labels out of range are errors (exit code 2) that name
    the files, unless an --allow option leaves them out (exit code 3).

    \b
    Examples:
      fcnseg score masks/ gt/
      fcnseg score masks/ SegmentationClass/ --model voc-fcn8s \\
        --list seg11valid.txt --json-file score.json
      fcnseg score masks/ gtFine/ --pred-pattern '{stem}_leftImg8bit.png' \\
        --gt-pattern '{stem}_gtFine_labelTrainIds.png'
      fcnseg score masks/ gt/ --num-parts 4 --part-id 0 --json-file parts/0.json
      fcnseg score masks/ gt/ --counted parts/
      fcnseg score masks/ gtFine/ --labels cityscapes \\
        --pred-labels cityscapes-train-ids \\
        --pred-pattern '{stem}_leftImg8bit.png' \\
        --gt-pattern '{stem}_gtFine_labelIds.png'
    """
    given = {**locals(), "list": list_, "storage_options": storage_option, "boundary": boundary or report is not None}
    from fcnseg.cli.score_table import show_left_out, show_score
    from fcnseg.scoring.options import ScoreOptions
    from fcnseg.scoring.result import classes_csv, score_json
    from fcnseg.scoring.result import images_csv as csv_of_images
    from fcnseg.scoring.score import score_with
    from fcnseg.scoring.tables import score_tables

    json_out = Path("-") if as_json else None
    files = {"--json": json_out, "--json-file": json_file, "--csv": csv_file, "--images-csv": images_csv}
    tables = {"--latex": latex, "--markdown": markdown}
    check_outputs({**files, **tables}, report, images)
    if report or boundary:
        require("scipy", *(["matplotlib"] if report else []))
    options = ScoreOptions.of(given)
    with counted_progress("scoring", quiet, verbose) as on_progress:
        result = score_with(predictions, truth, options, on_progress)
    for file, text_of in zip(files.values(), (score_json, score_json, classes_csv, csv_of_images), strict=True):
        if file:
            write_output(file, text_of(result))
    write_tables(score_tables(result), latex, markdown)
    if report:
        from fcnseg.scoring.report.score_report import write_report  # loads Matplotlib

        with busy("writing the report", quiet, verbose):
            write_report(report, result, predictions, truth, options, images)
    if not quiet and Path("-") not in (*files.values(), *tables.values()):
        show_score(result)
    if not quiet:
        show_left_out(result)
    raise typer.Exit(result.exit_code)
