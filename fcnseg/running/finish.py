"""The end of a run: HDF5 files are assembled, then the counts, the legend and the record are written."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from fcnseg.engine.hardware import cpu_name
from fcnseg.engine.record import read_record
from fcnseg.errors import OutputError
from fcnseg.io.atomic import write_whole
from fcnseg.io.buckets import shown_options
from fcnseg.io.overlays import legend
from fcnseg.labels import LabelSpace
from fcnseg.running.intact import absolute_path, is_there, recorded_volumes
from fcnseg.running.outputs import Outputs
from fcnseg.running.records import record_file
from fcnseg.running.stage_times import bottleneck
from fcnseg.running.table_files import write_tables
from fcnseg.types import EngineInfo, Ledger, Source, Summary
from fcnseg.workers.limits import usable_cores


def finish(
    info: EngineInfo, source: Source, outputs: Outputs, ledger: Ledger, summary: Summary, on_note: Callable[[str], None]
) -> None:
    """Finish the outputs of a run and write its record.

    If it was interrupted or stopped, HDF5 files have to wait; tables hold what is done.
    """
    whole = not (summary.interrupted or summary.stopped)
    if whole and outputs.hdf5_files:
        from fcnseg.running.assembly import assemble  # h5py: not for runs that write folders

        assemble(info, source, outputs, ledger, on_note)
    write_tables(info, source, outputs, ledger, on_note)
    if whole and summary.done:  # what was kept was looked at just now
        check_outputs(ledger)
    ledger.note(ended={"done": summary.done + summary.kept, "failed": summary.failed} if whole else None)
    write_legend(outputs.records, info)
    write_record(info, outputs, summary)


def check_outputs(ledger: Ledger) -> None:
    """Raise OutputError if outputs that are recorded as done are gone."""
    volumes = tuple(staging + os.sep for staging in recorded_volumes(ledger))
    gone = [
        output.path
        for output in (*recorded_volumes(ledger).values(), *chain.from_iterable(ledger.outputs()))
        if not output.path.startswith(volumes) and not is_there(ledger.folder, output)
    ]
    if gone:
        raise OutputError(
            f"outputs that were written are gone or have another size ({len(gone):,}, the first of them "
            f"{absolute_path(ledger.folder, gone[0])}): something removed or changed them; run the same command again"
        )


def write_legend(folder: Path, info: EngineInfo) -> None:
    """Write `classes.json` and `legend.png` (of several heads, `legend-<head>.png`) for users of the label maps.

    `classes.json` holds the index, name and colour of every class, and the value of void, by head.
    """
    write_whole(folder / "classes.json", [json.dumps(described_classes(info.heads), indent=1).encode()])
    for head, space in info.heads.items():
        png = io.BytesIO()
        legend(space).save(png, "PNG")
        write_whole(folder / (f"legend-{head}.png" if len(info.heads) > 1 else "legend.png"), [png.getvalue()])


def described_classes(heads: Mapping[str, LabelSpace]) -> dict[str, Any]:
    """Return the index, name and colour of every class, and the value of void, by head."""
    return {
        head: {
            "ignore": space.ignore,
            "classes": [
                {"index": i, "name": name, "color": color}
                for i, (name, color) in enumerate(zip(space.names, space.colors, strict=True))
            ],
        }
        for head, space in heads.items()
    }


def described_engine(info: EngineInfo) -> dict[str, Any]:
    """Return the engine as records hold it: of each head the names of its classes."""
    engine = asdict(info)
    return {**engine, "heads": {name: list(space["names"]) for name, space in engine["heads"].items()}}


def write_record(info: EngineInfo, outputs: Outputs, summary: Summary) -> None:
    """Write `run.json`: options, the engine with its record, the host, counts, stage times, and first failures."""
    engine, options = described_engine(info), outputs.options
    if info.file:
        engine["sidecar"] = asdict(read_record(info.file))
    stage, advice = bottleneck(summary.stages)
    host = {"name": platform.node(), "system": platform.platform(), "processor": cpu_name(), "cores": usable_cores()}
    record = {
        "settings": {**asdict(options), "storage_options": shown_options(options.storage_options)},
        "engine": engine,
        "host": host,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "summary": asdict(summary),
        "images_per_second": summary.done / summary.seconds if summary.seconds else 0.0,
        "bottleneck": {"stage": stage, "advice": advice},
    }
    file = record_file(outputs.records, outputs.part)
    write_whole(file, [json.dumps(record, indent=2, default=str).encode()])
