"""`fcnseg status`: the progress of the run of an output folder, in all its parts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.console import out, shown
from fcnseg.cli.options import AsJson
from fcnseg.cli.progress import busy, interruptible
from fcnseg.cli.wording import left_out_line

if TYPE_CHECKING:
    from fcnseg.running.status import PartStatus


@interruptible()
def status(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="What `fcnseg run` had as --out.")],
    failures: Annotated[bool, typer.Option("--failures", help="List every failed input with its reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a run: what is done, failed or left, in which part, and whether a run is at work.

    Label maps are looked at: one that was removed or changed since is left to be done. The exit code is 0 only if
    every input of every part is done, 3 if some failed or are left.
    """
    from fcnseg.running.status import failures as failures_of
    from fcnseg.running.status import left_out
    from fcnseg.running.status import status as status_of

    with busy("looking at the outputs"):
        parts = status_of(folder)
    files = left_out(folder)
    whole = all(part.whole for part in parts)
    if as_json:
        listed = [asdict(failure) for failure in failures_of(folder)] if failures else None
        values = {
            "whole": whole,
            "parts": [{**asdict(part), "missing": part.missing} for part in parts],
            "left_out": files,
            **({"failures": listed} if failures else {}),
        }
        out().print_json(json.dumps(values), ensure_ascii=True)
    else:
        for part in parts:
            out().print(_line(part, len(parts)), markup=False)
        if files:
            out().print(left_out_line(files), markup=False)
        if failures:
            for failure in failures_of(folder):
                out().print(f"{shown(failure.key)}: {failure.stage}: {shown(failure.reason)}", markup=False)
        if len(parts) > 1:
            done, inputs = sum(p.done for p in parts), sum(p.inputs or 0 for p in parts)
            out().print(f"{'whole' if whole else 'not whole'}: {done:,} of {inputs:,} inputs are done", markup=False)
    raise typer.Exit(0 if whole else 3)


def _line(part: PartStatus, parts: int) -> str:
    name = f"part {part.index} of {parts}: " if parts > 1 else ""
    inputs = "?" if part.inputs is None else f"{part.inputs:,}"
    if not part.started:
        return f"{name}not started, {inputs} inputs (run it with --num-parts {parts} --part-id {part.index})"
    words = [f"{part.done:,} of {inputs} inputs are done"]
    if part.failed:
        words.append(f"{part.failed:,} failed")
    if part.running:
        words.append(f"{part.running:,} being done")
    if part.missing:
        words.append(f"{part.missing:,} {'not done yet' if part.at_work else 'left'}")
    if not part.assembled:
        words.append(f"the HDF5 file is not written{' yet' if part.at_work else ''}")
    if part.at_work:
        words.append("a run is at work")
    elif not part.ended:
        words.append("the last run did not end: the same command goes on")
    return name + ", ".join(words)
