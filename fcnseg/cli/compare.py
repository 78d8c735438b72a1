"""`fcnseg compare`: several runs against one ground truth, in one table."""

from __future__ import annotations

import json
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
    PredLabelMap,
    PredLabels,
    PredPattern,
    Processes,
    ReduceLabels,
    ReducePredLabels,
    ReportFile,
    check_outputs,
    write_output,
    write_tables,
)
from fcnseg.cli.config_file import Config
from fcnseg.cli.options import AsJson, JsonLogs, Quiet, StorageOption, Verbose
from fcnseg.cli.progress import busy, counted_progress, interruptible


@interruptible()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Label maps of each run: a folder, a file, FILE.h5, or a URL.")
    ],
    gt: Annotated[str, typer.Option(metavar="GT", help="Ground truth of the images.")],
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Name of a run in the tables (repeatable, in their order).", show_default="by its path"
        ),
    ] = None,
    model: ClassesOf = None,
    head: Annotated[str | None, typer.Option(metavar="HEAD", help="Compare this head of a model with several.")] = None,
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
    resamplings: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Bootstrap resamplings for the 95 % confidence intervals; 0 for none."),
    ] = 1000,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images that no run has a prediction of.")
    ] = False,
    allow_extra: Annotated[
        bool, typer.Option("--allow-extra", help="Leave out predictions without ground truth.")
    ] = False,
    allow_void: Annotated[
        bool, typer.Option("--allow-void", help="Leave out images whose ground truth is all void.")
    ] = False,
    json_file: JsonFile = None,
    latex: LatexFile = None,
    markdown: MarkdownFile = None,
    report: ReportFile = None,
    workers: Processes = None,
    storage_option: StorageOption = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,
) -> None:
    """Compare several runs with one ground truth: their figures, and the IoU of every class, in one table.

    The runs must be of the same images. The difference of each run from the first has a confidence interval over the
    same resampled images.

    \b
    Examples:
      fcnseg compare masks-32s/ masks-16s/ masks-8s/ --gt gt/
      fcnseg compare a/ b/ c/ --gt gt/ --report runs.html --latex runs.tex
    """
    given = {**locals(), "list": list_, "storage_options": storage_option}
    from fcnseg.cli.score_table import show_compared
    from fcnseg.scoring.compare import compare_with
    from fcnseg.scoring.options import ScoreOptions
    from fcnseg.scoring.tables import compared_tables

    json_out = Path("-") if as_json else None
    files = {"--json": json_out, "--json-file": json_file, "--latex": latex, "--markdown": markdown}
    check_outputs(files, report, None)
    options = ScoreOptions.of(given)
    with counted_progress("scoring", quiet, verbose) as on_progress:
        result = compare_with(runs, gt, options, tuple(name or ()), on_progress)
    for file in filter(None, (json_out, json_file)):
        write_output(file, json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n")
    write_tables(compared_tables(result), latex, markdown)
    if report:
        from fcnseg.scoring.report.compare_report import write_compare_report  # loads Jinja

        with busy("writing the report", quiet, verbose):
            write_compare_report(report, result, runs, gt, options.storage_options)
    show_compared(result, quiet or Path("-") in files.values(), quiet)
    raise typer.Exit(result.exit_code)
