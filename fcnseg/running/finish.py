"""The end of a run: HDF5 files assembled, the tally noted, the record written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fcnseg.running.options import RunOptions
from fcnseg.running.outputs import Outputs
from fcnseg.types import EngineInfo, Summary

if TYPE_CHECKING:
    from fcnseg.running.ledger import Ledger
    from fcnseg.types import Source


def finish(
    options: RunOptions, info: EngineInfo, source: Source, outputs: Outputs, ledger: Ledger, summary: Summary
) -> None:
    """If everything ended: assemble HDF5 files, and note the tally. Then the record, and the legend."""
    from fcnseg.running.sinks import write_legend

    if not (summary.interrupted or summary.stopped):
        if outputs.volumes:
            assemble(source, outputs, ledger)
        ledger.note(ended={"done": summary.done + summary.kept, "failed": summary.failed})
    write_legend(outputs.records, info)
    write_record(options, info, outputs, summary)


def assemble(source: Source, outputs: Outputs, ledger: Ledger) -> None:
    """Make the HDF5 files of a run from what its sinks staged, unless they are whole and hold just that. One process
    at a time does."""
    from filelock import FileLock

    from fcnseg.io.atomic import new_digest
    from fcnseg.running.volumes import Entry
    from fcnseg.types import Reference

    def entries() -> Iterator[Entry]:
        for found in source:
            if isinstance(found, Reference):
                yield Entry(found.key, found.stem, getattr(found.location, "number", None))

    with FileLock(outputs.records / "assembling"):
        failed = {failure.key: failure.reason for failure in ledger.failures()}
        missing, digest = {}, new_digest()
        for found in source:
            if found.key in failed:
                missing[found.key] = failed[found.key]
            digest.update(os.fsencode(f"{found.key}\0{missing.get(found.key, '')}\0"))
        content, known = digest.hexdigest(), ledger.fact("contents") or {}
        intact = ledger.intact_volumes()
        for volume in outputs.volumes:
            staged = ledger.relative(volume.staged)
            keep = staged + os.sep in intact
            if not keep or volume.has_staged or known.get(staged) != content:
                ledger.note_volume(volume.staged, volume.assemble(entries, missing, keep=keep), content)
                volume.discard_staged()


def write_record(options: RunOptions, info: EngineInfo, outputs: Outputs, summary: Summary) -> None:
    """`run.json`: the resolved settings, the engine with its record, the host, counts, stages, and first failures."""
    import json
    import platform
    from dataclasses import asdict
    from datetime import UTC, datetime

    from fcnseg.engine.hardware import cpu_name
    from fcnseg.engine.record import read_record
    from fcnseg.io.atomic import whole_file
    from fcnseg.running.stage_times import bottleneck

    engine = asdict(info)
    engine["heads"] = {name: list(space["names"]) for name, space in engine["heads"].items()}
    if info.file:
        engine["sidecar"] = asdict(read_record(info.file))
    stage, advice = bottleneck(summary.stages)
    host = {"name": platform.node(), "system": platform.platform(), "processor": cpu_name(), "cores": os.cpu_count()}
    record = {
        "settings": asdict(options),
        "engine": engine,
        "host": host,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "summary": asdict(summary),
        "images_per_second": summary.done / summary.seconds if summary.seconds else 0.0,
        "bottleneck": {"stage": stage, "advice": advice},
    }
    with whole_file(outputs.records / f"run{outputs.part.name}.json") as file:
        file.write(json.dumps(record, indent=2, default=str).encode())
