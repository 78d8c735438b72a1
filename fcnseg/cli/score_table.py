"""Scores and differences as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from fcnseg.cli.console import err, out, say, shown
from fcnseg.scoring.compare import Compared
from fcnseg.scoring.diff_result import Diff
from fcnseg.scoring.result import Score
from fcnseg.scoring.tables import averaged_over, compared_tables

KEYS_SHOWN = 5
"""Number of the images that were left out that are named."""

CHANGES_SHOWN = 10
"""Number of the images that changed that are listed."""

SHARES = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IoU",
    "frequency_weighted_iu": "frequency weighted IoU",
    "mean_dice": "mean Dice (F1)",
}

PER_IMAGE = {"mean_iu": "per-image mean IoU", "mean_dice": "per-image mean Dice"}


def show_score(score: Score) -> None:
    """Print the figures and classes of every head on standard output."""
    for name, head in (score.heads or {"": score}).items():
        if name:
            out().print(f"\n{name}", style="bold", markup=False)
        out().print(_figures(head))
        out().print()
        out().print(_classes(head))
        for band in head.bands:
            line = f"within {band.width_px} px of a boundary: mean IoU {_percent(band.mean_iu)}"
            out().print(f"{line}, pixel accuracy {_percent(band.pixel_accuracy)}", markup=False)
        if head.predicted_only:
            names = ", ".join(map(shown, head.predicted_only))
            out().print(f"predicted, but not in the ground truth (in the means with 0): {names}", markup=False)
        if head.absent:
            out().print(f"not in the ground truth: {', '.join(map(shown, head.absent))}", markup=False)
        if head.excluded_classes:
            out().print(f"in no mean: {', '.join(map(shown, head.excluded_classes))}", markup=False)


def show_left_out(score: Score, run: str = "") -> None:
    """Name on standard error the images that do not count, and what is suspicious; `run` is whose, if of several."""
    for name, head in (score.heads or {run: score}).items():
        show_warnings(head.warnings, name)
        for reason, keys in (
            ("without a prediction", head.missing),
            ("without ground truth", head.extra),
            ("that cannot be compared", tuple(fault.key for fault in head.invalid)),
            ("all void", head.all_void),
            ("that the data set's evaluation leaves out", head.excluded_images),
        ):
            _say_left_out(f" of {name}" if name else "", reason, keys)


def show_warnings(warnings: Sequence[str], head: str = "") -> None:
    """Print warnings on standard error; `head` is whose they are, if there are several."""
    for warning in warnings:
        err().print(f"fcnseg: warning: {f'{head}: ' if head else ''}{shown(warning)}", markup=False)


def show_diff(diff: Diff) -> None:
    """Print the changed pixels, images and classes on standard output."""
    unchanged = f"{diff.identical_images:,} of {len(diff.images):,} images are unchanged"
    share = 100 * (1 - diff.agreement) if diff.pixels else 0.0
    out().print(f"{diff.changed:,} of {diff.pixels:,} pixels changed ({share:.3f} %); {unchanged}", markup=False)
    if diff.truth:
        truth, iu, accuracy = diff.truth, diff.truth.mean_iu, diff.truth.pixel_accuracy
        out().print(f"{truth.helped:,} became right, {truth.hurt:,} became wrong, {truth.neither:,} stayed wrong")
        for title, name, (first, second) in (
            ("mean IoU", "mean_iu", iu),
            ("pixel accuracy", "pixel_accuracy", accuracy),
        ):
            change = f"{title} {100 * first:.2f} % before, {100 * second:.2f} % after"
            out().print(f"{change}{_difference(truth.intervals.get(name))}", markup=False)
    changed = [image for image in diff.images if image.changed]
    if not changed:
        return
    table = _table("image", "changed %", "pixels", *(("helped", "hurt") if diff.truth else ()))
    for image in changed[:CHANGES_SHOWN]:
        judged = [f"{image.helped:,}", f"{image.hurt:,}"] if image.helped is not None else []
        table.add_row(shown(image.key), f"{100 * image.share:.3f}", f"{image.changed:,}", *judged)
    out().print(table)
    table = _table("class", "before", "after", "lost", "gained", *(("IoU % before", "after") if diff.truth else ()))
    for row in diff.per_class:
        if row.lost or row.gained:
            ius = [f"{100 * iu:.2f}" for iu in (row.iu_before, row.iu_after) if iu is not None]
            counts = (row.pixels_before, row.pixels_after, row.lost, row.gained)
            table.add_row(f"{row.index} {shown(row.name)}", *(f"{n:,}" for n in counts), *ius)
    out().print()
    out().print(table)


def show_compared(compared: Compared, without_tables: bool, quiet: bool) -> None:
    """Print the tables of runs on standard output, and what was left out or is suspicious on standard error."""
    for number, table in enumerate([] if without_tables else compared_tables(compared)):
        if number:
            out().print()
        drawn = _table(table.columns[0], *table.columns[1:])
        for i, row in enumerate(table.rows):
            cells = [Text(shown(cell), "bold" if (i, j) in table.best else "") for j, cell in enumerate(row)]
            drawn.add_row(*cells)
        out().print(drawn)
    for run in () if quiet else compared.runs:
        show_left_out(run.score, run.name)


def show_unmatched(diff: Diff) -> None:
    """Name on standard error the images that only one of the runs has, and what is suspicious."""
    show_warnings(diff.warnings)
    for run, keys in (("first", diff.only_before), ("second", diff.only_after)):
        _say_left_out("", f"only in the {run} run", keys)


def _say_left_out(head: str, reason: str, keys: Sequence[str]) -> None:
    if keys:
        names = shown(", ".join(keys[:KEYS_SHOWN])) + (" ..." if len(keys) > KEYS_SHOWN else "")
        say(f"left out{head}: {len(keys)} {reason}: {names}")


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for title in numbers:
        table.add_column(title, justify="right")
    return table


def _figures(score: Score) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, title in SHARES.items():
        interval = _range(score.intervals.get(name))
        over = averaged_over(score, name)
        table.add_row(title, f"{_percent(getattr(score, name))} %", interval, f"mean over {over}" * bool(over))
    low, high = score.intervals.get("kappa", (float("nan"),) * 2)
    kappa = "-" if score.kappa != score.kappa else f"{score.kappa:.4f}"
    table.add_row("Cohen's kappa", kappa, "" if low != low else f"{low:.4f} to {high:.4f}")
    if score.boundary_iu is not None:
        table.add_row("boundary IoU", f"{_percent(score.boundary_iu)} %", "")
    if score.calibration:
        table.add_row("calibration error", f"{_percent(score.calibration.expected_error)} %", "")
    if score.thresholds:
        table.add_row("average precision", f"{_percent(score.thresholds.average_precision)} %", "")
    for name, title in PER_IMAGE.items():
        table.add_row(title, f"{_percent(score.per_image[name])} %", "", "mean over images first, then over classes")
    table.add_row("images", f"{score.images:,}", "", _pixel_counts(score))
    return table


def _pixel_counts(score: Score) -> str:
    counts = f"{score.pixels:,} pixels count, {score.void_pixels:,} are void"
    misses = f", {score.predicted_void_pixels:,} are predicted as void, which misses them"
    return counts + misses * (score.predicted_void_pixels > 0)


def _classes(score: Score) -> Table:
    table = _table("class", "IoU %", "95 %", "accuracy %", "precision %", "Dice %", "pixels")
    for row in score.per_class:
        if row.pixels or row.predicted_pixels:
            figures = [_percent(row.iu), _range(row.iu_interval), _percent(row.accuracy)]
            figures += [_percent(row.precision), _percent(row.dice)]
            table.add_row(f"{row.index} {shown(row.name)}", *figures, f"{row.pixels:,}")
    return table


def _difference(interval: tuple[float, float] | None) -> str:
    if interval is None or interval[0] != interval[0]:
        return ""
    low, high = (100 * end for end in interval)
    return f"; the difference is {low:+.2f} to {high:+.2f} (95 %, over the same resampled images)"


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"


def _range(interval: tuple[float, float] | None) -> str:
    return f"{_percent(interval[0])} to {_percent(interval[1])}" if interval and interval[0] == interval[0] else ""
