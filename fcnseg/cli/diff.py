"""`fcnseg diff`: what changed between two runs."""

from __future__ import annotations

import json
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
    Report,
    check_outputs,
)
from fcnseg.cli.progress import counted_progress, interruptible

if TYPE_CHECKING:
    from fcnseg.scoring.diff import DiffOptions
    from fcnseg.scoring.diff_result import Diff

IMAGES_SHOWN = 10


@interruptible()
def diff(
    before: Annotated[str, typer.Argument(metavar="RUN_A", help="Label maps of the first run: a folder, or FILE.h5.")],
    after: Annotated[str, typer.Argument(metavar="RUN_B", help="Those of the second run, of the same images.")],
    gt: Annotated[str | None, typer.Option(metavar="GT", help="Ground truth: tells which changes helped.")] = None,
    model: Labelled = None,
    head: Annotated[str | None, typer.Option(help="Compare this head of a model of several.")] = None,
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
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images that only one of the runs has.")
    ] = False,
    json_file: JsonFile = None,
    report: Report = None,
    images: Photographs = None,
    workers: Processes = None,
    config: Config = None,  # noqa: ARG001 - read before all others
    quiet: Quiet = False,
) -> None:
    """Say which labels changed from one run to another: with another engine, precision or version.

    Images that changed most come first. With --gt it says whether the changes helped. Images that only one run has
    are an error, unless --allow-missing leaves them out (exit code 3).

    \b
    Examples:
      fcnseg diff masks-fp32/ masks-int8/
      fcnseg diff masks-old/ masks-new/ --gt gt/ --report changes.html
    """
    from fcnseg.errors import SettingsError
    from fcnseg.scoring.diff import DiffOptions

    check_outputs({"--json": json_file}, report, images)
    if gt is None and (gt_pattern or ignore or reduce_labels or label_map):
        raise SettingsError("--gt-pattern, --ignore, --reduce-labels and --label-map are about ground truth; give --gt")
    options = DiffOptions(
        truth=gt,
        model=model,
        head=head,
        classes=classes,
        binary=binary,
        pair=pair,
        list=list_,
        gt_pattern=gt_pattern,
        pred_pattern=pred_pattern,
        ignore=tuple(ignore or ()),
        reduce_labels=reduce_labels,
        label_map=label_map,
        pred_label_map=pred_label_map,
        palette=palette,
        any_palette=any_palette,
        allow_missing=allow_missing,
        workers=workers,
    )
    result = _compared(before, after, options, quiet)
    if json_file:
        _write_json(result, json_file)
    if report:
        from fcnseg.scoring.report.diff_report import write_diff_report

        write_diff_report(report, result, before, after, options, images)
    if not quiet and json_file != Path("-"):
        _show(result)
    for what, keys in (("first", result.only_before), ("second", result.only_after)):
        if keys and not quiet:
            names = shown(", ".join(keys[:5])) + (" ..." if len(keys) > 5 else "")
            err().print(f"left out: {len(keys)} only in the {what} run: {names}", markup=False)
    raise typer.Exit(result.exit_code)


def _compared(before: str, after: str, options: DiffOptions, quiet: bool) -> Diff:
    from fcnseg.scoring.diff import diff_with

    with counted_progress("comparing", quiet) as on_progress:
        return diff_with(before, after, options, on_progress)


def _write_json(result: Diff, file: Path) -> None:
    from fcnseg.io.atomic import whole_file

    text = json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n"
    if file == Path("-"):
        typer.echo(text, nl=False)
    else:
        with whole_file(file) as opened:
            opened.write(text.encode())


def _show(result: Diff) -> None:
    from rich.table import Table

    same = f"{result.identical_images:,} of {len(result.images):,} images are unchanged"
    share = 100 * (1 - result.agreement) if result.pixels else 0.0
    out().print(f"{result.changed:,} of {result.pixels:,} pixels changed ({share:.3f} %); {same}", markup=False)
    if result.truth:
        found = result.truth
        mean_iu, accuracy = found.mean_iu, found.pixel_accuracy
        out().print(f"{found.helped:,} became right, {found.hurt:,} became wrong, {found.neither:,} stayed wrong")
        out().print(f"mean IU {100 * mean_iu[0]:.2f} % before, {100 * mean_iu[1]:.2f} % after")
        out().print(f"pixel accuracy {100 * accuracy[0]:.2f} % before, {100 * accuracy[1]:.2f} % after")
    changed = [image for image in result.images if image.changed]
    if not changed:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("image")
    for title in ("changed %", "pixels", *(("helped", "hurt") if result.truth else ())):
        table.add_column(title, justify="right")
    for image in changed[:IMAGES_SHOWN]:
        judged = [f"{image.helped:,}", f"{image.hurt:,}"] if image.helped is not None else []
        table.add_row(shown(image.key), f"{100 * image.share:.3f}", f"{image.changed:,}", *judged)
    out().print(table)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for title in ("before", "after", "lost", "gained", *(("IU % before", "after") if result.truth else ())):
        table.add_column(title, justify="right")
    for row in result.per_class:
        if row.lost or row.gained:
            ius = [f"{100 * iu:.2f}" for iu in (row.iu_before, row.iu_after) if iu is not None]
            counts = (row.pixels_before, row.pixels_after, row.lost, row.gained)
            table.add_row(f"{row.index} {shown(row.name)}", *(f"{n:,}" for n in counts), *ius)
    out().print()
    out().print(table)
