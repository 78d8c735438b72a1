"""`fcnseg diff`: compare the label maps of two runs."""

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
    Logits,
    PairBy,
    Palette,
    Photographs,
    PredLabelMap,
    PredLabels,
    PredPattern,
    Processes,
    ReduceLabels,
    ReducePredLabels,
    ReportFile,
    check_outputs,
    write_output,
)
from fcnseg.cli.config_file import Config
from fcnseg.cli.options import AsJson, JsonLogs, Quiet, StorageOption, Verbose
from fcnseg.cli.progress import busy, counted_progress, interruptible
from fcnseg.errors import SettingsError, require


@interruptible()
def diff(
    before: Annotated[
        str, typer.Argument(metavar="RUN_A", help="Label maps of the first run: a folder, FILE.h5, or a URL.")
    ],
    after: Annotated[str, typer.Argument(metavar="RUN_B", help="Label maps of the second run, of the same images.")],
    gt: Annotated[
        str | None, typer.Option(metavar="GT", help="Ground truth, which tells the changes that helped.")
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
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images that only one of the runs has.")
    ] = False,
    json_file: JsonFile = None,
    report: ReportFile = None,
    images: Photographs = None,
    workers: Processes = None,
    storage_option: StorageOption = None,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,
) -> None:
    """Compare the label maps of two runs: of another engine, precision or version.

    Images that changed most come first. With --gt it tells whether the changes helped. Images that only one run has
    are an error, unless --allow-missing leaves them out (exit code 3).

    \b
    Examples:
      fcnseg diff masks-fp32/ masks-int8/
      fcnseg diff masks-old/ masks-new/ --gt gt/ --report changes.html
    """
    given = {**locals(), "list": list_, "storage_options": storage_option, "truth": gt}
    from fcnseg.cli.score_table import show_diff, show_unmatched
    from fcnseg.scoring.diff import diff_with
    from fcnseg.scoring.options import DiffOptions

    check_outputs({"--json": Path("-") if as_json else None, "--json-file": json_file}, report, images)
    if report:
        require("matplotlib", "scipy")
    if gt is None and (gt_pattern or ignore or labels or reduce_labels or label_map):
        raise SettingsError(
            "--gt-pattern, --ignore, --labels, --reduce-labels and --label-map are about ground truth; give --gt"
        )
    options = DiffOptions.of(given)
    with counted_progress("comparing", quiet, verbose) as on_progress:
        result = diff_with(before, after, options, on_progress)
    for file in (Path("-") if as_json else None, json_file):
        if file:
            write_output(file, json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n")
    if report:
        from fcnseg.scoring.report.diff_report import write_diff_report  # loads Matplotlib

        with busy("writing the report", quiet, verbose):
            write_diff_report(report, result, before, after, options, images)
    if not quiet and not as_json:
        show_diff(result)
    if not quiet:
        show_unmatched(result)
    raise typer.Exit(result.exit_code)
