"""`fcnseg status`: the progress of the run of an output folder, in all its parts."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.console import out, shown
from fcnseg.cli.options import AsJson, StorageOption
from fcnseg.cli.progress import busy, interruptible
from fcnseg.cli.wording import left_out_line, resized_line

if TYPE_CHECKING:
    from fcnseg.running.part_status import PartStatus, ShardsStatus


@interruptible()
def status(
    place: Annotated[str, typer.Argument(metavar="OUT", help="What `fcnseg run` had as --out.")],
    failures: Annotated[bool, typer.Option("--failures", help="List every failed input with its reason.")] = False,
    storage_option: StorageOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a run: what is done, failed or left, in which part, and whether a run is at work.

    Label maps are looked at: one that was removed or changed since is left to be done. The exit code is 0 only if
    every input of every part is done, 3 if some failed or are left.
    """
    from fcnseg.io.buckets import parse_storage_options
    from fcnseg.running.status import read_status

    with busy("looking at the outputs"):
        found = read_status(place, parse_storage_options(storage_option or ()))
    parts, shards = found.parts, found.shards
    whole = all(part.whole for part in parts)
    if as_json:
        values = {
            "whole": whole,
            "parts": [{**asdict(part), "missing": part.missing} for part in parts],
            "left_out": dict(found.left_out),
            "resize_short": found.resize_short,
            **({"shards": asdict(shards)} if shards else {}),
            **({"failures": [asdict(failure) for failure in found.failures()]} if failures else {}),
        }
        out().print_json(json.dumps(values), ensure_ascii=True)
    else:
        for part in parts:
            out().print(_line(part, len(parts)), markup=False)
        if shards:
            out().print(_shards_line(shards), markup=False)
        if found.resize_short:
            out().print(resized_line(found.resize_short), markup=False)
        if found.left_out:
            out().print(left_out_line(found.left_out), markup=False)
        if failures:
            for failure in found.failures():
                out().print(f"{shown(failure.key)}: {failure.stage}: {shown(failure.reason)}", markup=False)
        if len(parts) > 1:
            done, inputs = sum(p.done for p in parts), sum(p.inputs or 0 for p in parts)
            out().print(f"{'whole' if whole else 'not whole'}: {done:,} of {inputs:,} inputs are done", markup=False)
    raise typer.Exit(0 if whole else 3)


def _shards_line(shards: ShardsStatus) -> str:
    drivers = f", driven by {' and '.join(shards.drivers)}" if shards.drivers else ""
    return f"{shards.done:,} of {shards.total:,} shards are done{drivers}"


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
