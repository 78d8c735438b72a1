"""The record of a sharded run: its settings and its engine, agreed on once, and its end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fcnseg.engine.options import EngineOptions
from fcnseg.errors import NoObjectError, ObjectExistsError, SourceError
from fcnseg.io.buckets import Bucket
from fcnseg.io.names import RECORDS
from fcnseg.io.overlays import legend
from fcnseg.running.finish import described_classes, described_engine
from fcnseg.running.options import RunOptions
from fcnseg.running.resume import check_agreement
from fcnseg.running.sharded.places import RUN, SUMMARY
from fcnseg.running.sharded.worker import WorkerReport
from fcnseg.running.stage_times import bottleneck
from fcnseg.types import EngineInfo, Summary

VERSION = 1
"""The number of this form of records."""


@dataclass(frozen=True)
class RunRecord:
    """The settings that labels follow from, and the places of the inputs, the device and the libraries."""

    settings: Mapping[str, Any]
    machine: Mapping[str, Any]

    def resolved(self, options: EngineOptions) -> EngineOptions:
        """Return the options of an engine with the backend and precision of the run, where these were left open."""
        if options.engine:
            return options
        backend = self.settings["backend"] if options.backend == "auto" else options.backend
        precision = self.settings["precision"] if options.precision == "auto" else options.precision
        return replace(options, backend=backend, precision=precision)


def read_run(bucket: Bucket) -> RunRecord | None:
    """Return the record of the run of an output; None if there is none. Raises SourceError for one of another form."""
    try:
        known = json.loads(bucket.get(RUN))
        if known.get("version") != VERSION:
            raise SourceError(f"{bucket.url_of(RUN)} is of another version of fcnseg; start over with --overwrite")
        return RunRecord(known["settings"], known["machine"])
    except NoObjectError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(f"{bucket.url_of(RUN)} is damaged; start over with --overwrite") from error


def agree(
    bucket: Bucket,
    options: RunOptions,
    report: WorkerReport,
    places: Mapping[str, str],
    moved: Callable[[], bool],
    on_note: Callable[[str], None],
) -> RunRecord:
    """Record the settings of this run, if it is the first; else raise SettingsError if the recorded ones differ.

    `places` are those of the inputs; `moved` tells whether these are the ones of before, in another place.
    """
    record = RunRecord(report.settings, {**places, **report.environment})
    try:
        bucket.put(RUN, _content(record, report), create_only=True)
        return record
    except ObjectExistsError:
        before = read_run(bucket)
    if before is None:  # removed just now
        return agree(bucket, options, report, places, moved, on_note)
    changed = check_agreement(options, asdict(before), record.settings, record.machine, moved)
    if changed:
        on_note(f"going on although {changed}")
        bucket.put(RUN, _content(record, report))
    return record


def _content(record: RunRecord, report: WorkerReport) -> bytes:
    values = {
        "version": VERSION,
        **asdict(record),
        "engine": described_engine(report.info),
        "host": report.host,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(values, indent=1, default=str).encode()


def write_end(bucket: Bucket, info: EngineInfo, summary: Summary) -> None:
    """Write the summary of a run, and the classes and their legend for users of the label maps."""
    stage, advice = bottleneck(summary.stages) if summary.stages else ("", "")
    values = {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "summary": asdict(summary),
        "images_per_second": summary.done / summary.seconds if summary.seconds else 0.0,
        "bottleneck": {"stage": stage, "advice": advice},
    }
    bucket.put(SUMMARY, json.dumps(values, indent=1, default=str).encode())
    bucket.put(f"{RECORDS}/classes.json", json.dumps(described_classes(info.heads), indent=1).encode())
    for head, space in info.heads.items():
        png = io.BytesIO()
        legend(space).save(png, "PNG")
        bucket.put(f"{RECORDS}/" + (f"legend-{head}.png" if len(info.heads) > 1 else "legend.png"), png.getvalue())
