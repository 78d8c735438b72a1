"""The records of HHA images: a ledger as that of a run, and a file that says how they were made."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fcnseg import __version__
from fcnseg.errors import OutputError, SettingsError
from fcnseg.hha.camera import Camera
from fcnseg.io.atomic import make_durable_folder, write_whole
from fcnseg.io.names import HHA_RECORD, RECORDS
from fcnseg.io.parts import Part
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.records import LEDGERS, PLAN, ledger_file
from fcnseg.running.resume import differences, refuse_writers, remove_recorded
from fcnseg.types import Ledger, Summary


@dataclass(frozen=True)
class HhaOptions:
    """Options of encoding: see `DepthMaps` for `source`, `raw` and `scale`.

    `workers` depth maps are encoded at once, each by a process (None: as many as cores, if that pays off). `overwrite`
    starts over, `retry_failed` tries again what failed in earlier calls.
    """

    source: str | Path
    camera: Camera
    out: Path
    raw: str | Path | None = None
    scale: float | None = None
    workers: int | None = None
    overwrite: bool = False
    retry_failed: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that an HHA image follows from, apart from its depth, by the names of the options."""
        camera = {name: value for name, value in asdict(self.camera).items() if value is not None}
        shown = ", ".join(f"{name} {value}" for name, value in camera.items())
        return {"command": "hha", "camera": shown, "raw": "given" if self.raw else None, "depth-scale": self.scale}


@contextmanager
def open_ledger(options: HhaOptions, on_note: Callable[[str], None]) -> Iterator[Ledger]:
    """Open the ledger among the records of the output folder, new or of an earlier call.

    Raises SettingsError if that had other settings and has encoded anything, or for the records of a run.
    """
    out, records = options.out, options.out / RECORDS
    file = ledger_file(records, Part())
    recorded, done = _recorded(file)
    others = (records / PLAN).exists() or any(path != file for path in records.glob(LEDGERS))
    if others or (recorded and recorded.get("command") != "hha") or records.is_symlink():
        raise SettingsError(f"{out} holds the records of `fcnseg run`; give another --out")
    if options.overwrite or (recorded not in ({}, options.settings) and not done):
        refuse_writers(records, out)
        if file.exists():
            remove_recorded(file, out, lambda path: out.resolve() in Path(path).resolve().parents, on_note)
    write_record(options, None)
    with SqliteLedger(file, out) as ledger, ledger.new_claimant():
        if changed := differences(ledger.agree(settings=options.settings)["settings"], options.settings):
            raise SettingsError(
                f"{out} was made with other settings: {changed}; use the same, another --out, or --overwrite to start "
                "over"
            )
        yield ledger


def _recorded(file: Path) -> tuple[dict[str, Any], int]:
    """Return the settings that a ledger holds, and the number of inputs done."""
    if not file.exists():
        return {}, 0
    with SqliteLedger(file, file.parent, reading=True) as ledger:
        return ledger.fact("settings") or {}, ledger.counts().get("done", 0)


def write_record(options: HhaOptions, summary: Summary | None) -> None:
    """Write the options, and the summary once there is one. Raises OutputError."""
    record = {"settings": asdict(options), "fcnseg": __version__, "summary": summary and asdict(summary)}
    records = options.out / RECORDS
    try:
        make_durable_folder(records)
        write_whole(records / HHA_RECORD, [json.dumps(record, indent=2, default=str).encode()])
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise OutputError(f"{options.out} cannot be written to: {reason}; choose another --out") from error
