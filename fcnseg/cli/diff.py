"""`fcnseg diff`: what changed between two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.console import err, out, shown
from fcnseg.cli.options import Config, Quiet

if TYPE_CHECKING:
    from fcnseg.scoring.diff import Diff, DiffOptions

IMAGES_SHOWN = 10


def diff(
    before: Annotated[str, typer.Argument(metavar="RUN_A", help="Label maps of the first run: a folder, or FILE.h5.")],
    after: Annotated[str, typer.Argument(metavar="RUN_B", help="Those of the second run, of the same images.")],
    gt: Annotated[str | None, typer.Option(metavar="GT", help="Ground truth: tells which changes helped.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Whose classes: a name or a recipe FILE.toml.", show_default="that of the second run"
        ),
    ] = None,
    head: Annotated[str | None, typer.Option(help="Compare this head of a model of several.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="N|FILE", help="So many classes, or their names, one a line; instead of --model."),
    ] = None,
    pair: Annotated[
        str, typer.Option(metavar="auto|path|stem", help="What must agree: relative paths, or only file names.")
    ] = "auto",
    gt_pattern: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="How ground truth is named, e.g. '{stem}_gtFine_labelIds.png'."),
    ] = None,
    ignore: Annotated[
        list[int] | None,
        typer.Option(help="A value of ground truth that does not count (repeatable).", show_default="the recipe's"),
    ] = None,
    reduce_labels: Annotated[
        bool, typer.Option("--reduce-labels", help="Ground truth counts classes from 1; 0 is void.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images that only one of the runs has.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON; - is standard output.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with charts and pictures.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The photographs, for the report.", show_default="those of the second run"),
    ] = None,
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

    if images and not report:
        raise SettingsError("--images shows photographs in the report; give --report FILE.html too")
    if gt is None and (gt_pattern or ignore or reduce_labels):
        raise SettingsError("--gt-pattern, --ignore and --reduce-labels are about ground truth; give --gt too")
    options = DiffOptions(model, head, classes, pair, gt, gt_pattern, tuple(ignore or ()), reduce_labels, allow_missing)
    result = _compared(before, after, options, quiet)
    if json_file:
        _write_json(result, json_file)
    if report:
        from fcnseg.scoring.diff_report import write_diff_report

        write_diff_report(report, result, before, after, options, images)
    if not quiet and json_file != Path("-"):
        _show(result)
    for what, keys in (("first", result.only_before), ("second", result.only_after)):
        if keys and not quiet:
            names = shown(", ".join(keys[:5])) + (" ..." if len(keys) > 5 else "")
            err().print(f"left out: {len(keys)} only in the {what} run: {names}", markup=False)
    raise typer.Exit(result.exit_code)


def _compared(before: str, after: str, options: DiffOptions, quiet: bool) -> Diff:
    from fcnseg.cli.score import counted_progress
    from fcnseg.scoring.diff import diff as compare

    with counted_progress("comparing", quiet) as on_progress:
        return compare(before, after, options, on_progress)


def _write_json(result: Diff, file: Path) -> None:
    from fcnseg.files import whole_file

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
