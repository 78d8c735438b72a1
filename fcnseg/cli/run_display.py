"""A run with its progress on standard error, and the lines it ends with."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict

from fcnseg.cli.console import err, out, shown
from fcnseg.cli.live import LiveReporter
from fcnseg.cli.progress import build_display
from fcnseg.cli.reporters import FAILURES_SHOWN, JsonReporter, PlainReporter, Reporter
from fcnseg.cli.wording import resized_line
from fcnseg.running.options import RunOptions
from fcnseg.running.run import run_with
from fcnseg.running.stage_times import bottleneck
from fcnseg.types import Summary

ADVICE_SECONDS = 5.0
"""Runs that take longer end with a line about their busiest stage."""


def run_and_show(options: RunOptions, *, quiet: bool, as_json: bool, json_logs: bool, verbose: int) -> int:
    """Run, show progress and summary, and return the exit code."""
    with ExitStack() as stack:
        reporter = stack.enter_context(_reporter(quiet, json_logs, verbose, stack))
        reporter.verbose = bool(verbose)
        summary = run_with(options, reporter.hooks())
        if isinstance(reporter, JsonReporter):
            reporter.end(summary)
    if not json_logs:
        for line in _last_lines(summary, options, quiet):
            err().print(line, markup=False)
    if as_json:
        values = {**asdict(summary), "exit_code": summary.exit_code, "resize_short": options.resize_short}
        out().print_json(json.dumps(values), ensure_ascii=True)
    return summary.exit_code


def _reporter(quiet: bool, json_logs: bool, verbose: int, stack: ExitStack) -> Reporter:
    """Return the reporter that suits standard error. The display of a build ends before the first image."""
    if json_logs:
        return JsonReporter()
    building = stack.enter_context(ExitStack())
    build = building.enter_context(build_display(quiet, verbose))
    if quiet:
        return Reporter(build, building.close)
    return (LiveReporter if err().is_terminal else PlainReporter)(build, building.close)


def _last_lines(summary: Summary, options: RunOptions, quiet: bool) -> list[str]:
    where = shown(str(options.out))
    lines = []
    new = summary.failed - summary.failed_before
    if new > FAILURES_SHOWN:
        lines.append(f"fcnseg: {new - FAILURES_SHOWN} more failed; `fcnseg status {where} --failures` lists them all")
    if summary.failed_before:
        lines.append(f"fcnseg: {summary.failed_before} failed in an earlier run; --retry-failed tries them again")
    whole = summary.done + summary.kept
    if summary.interrupted:
        lines.append(
            f"fcnseg: interrupted: {whole} of {summary.total} label maps are written and whole; "
            "the same command goes on from there"
        )
    elif summary.stopped:
        lines.append(f"fcnseg: error: stopped: {summary.stopped}; {whole} of {summary.total} are done and whole")
    elif not quiet:
        rate = summary.done / summary.seconds if summary.seconds else 0.0
        kept = f", {summary.kept:,} were there already" if summary.kept else ""
        failed = f", {summary.failed:,} failed" if summary.failed else ""
        maps = "label map" if summary.done == 1 else "label maps"
        lines.append(f"{summary.done:,} {maps} in {where}{kept}{failed} ({summary.seconds:.1f} s, {rate:.1f} images/s)")
        if options.resize_short:
            lines.append(resized_line(options.resize_short))
        if summary.done and summary.seconds > ADVICE_SECONDS:
            stage, advice = bottleneck(summary.stages)
            lines.append(f"busiest: {stage}, {summary.stages[stage].utilisation:.0%} of the time; {advice}")
    return lines
