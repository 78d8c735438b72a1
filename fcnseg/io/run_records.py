"""Records that a run leaves beside its outputs: `run.json`, and ledgers with a row for each image."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from fcnseg.errors import NoObjectError, SettingsError
from fcnseg.io.buckets import open_store
from fcnseg.io.names import RECORDS, stem_of
from fcnseg.io.urls import is_url, split_url


def record_folders(predictions: str) -> tuple[Path, ...]:
    """Return where a run's records may be: in the output folder, beside an HDF5 file, or above the folder of a head."""
    if is_url(predictions):  # no ledgers are kept there
        return ()
    source = Path(predictions.partition("::")[0])
    return source / RECORDS, source.parent / f".{source.name}{RECORDS}", source.parent / RECORDS


def run_record(predictions: str, storage_options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the `run.json` of the run that wrote these predictions, empty if there is none."""
    if is_url(predictions):
        return _remote_record(predictions, storage_options or {})
    for folder in record_folders(predictions):
        for file in sorted(folder.glob("run*.json")):
            with suppress(OSError):
                if record := _record_of(file.read_bytes()):
                    return record
    return {}


def _remote_record(url: str, options: Mapping[str, str]) -> dict[str, Any]:
    for folder in (url, split_url(url)[0]):  # the latter: above the folder of a head
        with suppress(NoObjectError):
            if record := _record_of(open_store(folder, options).get(f"{RECORDS}/run.json")):
                return record
    return {}


def _record_of(content: bytes) -> dict[str, Any]:
    """Return the record that a file holds, empty if it is none."""
    try:
        record = json.loads(content)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("engine"), dict) else {}


def recorded_keys(predictions: str) -> Iterator[str]:
    """Yield the keys of all images in the ledgers of the run that wrote these predictions; none without ledgers.

    Raises SettingsError for a ledger that cannot be read.
    """
    ledgers = next(filter(None, (sorted(folder.glob("ledger*.sqlite")) for folder in record_folders(predictions))), [])
    for file in ledgers:
        try:
            with closing(connect_for_reading(file)) as database:
                yield from (os.fsdecode(key) for (key,) in database.execute("SELECT key FROM images ORDER BY key"))
        except sqlite3.Error as error:
            raise SettingsError(
                f"the ledger {file} cannot be read: {error}; parts are told by it, score without --num-parts"
            ) from error


def key_lookup(predictions: str, pattern: str | None = None) -> Callable[[str], str]:
    """Return a function from the name of a label map (relative path, or file name, without suffix) to its image's key.

    Keys are those in the run's ledgers. An image that these lack is taken to have the suffix that most images have.
    Without ledgers a name is its own key. `pattern` says how label maps are named, as in `PairingOptions`.
    """
    keys = {stem_of(key): key for key in recorded_keys(predictions)}
    if not keys:
        return lambda name: name
    file_names = Counter(_file_name(stem) for stem in keys)
    by_name = {_file_name(stem): key for stem, key in keys.items() if file_names[_file_name(stem)] == 1} | keys
    ((suffix, _),) = Counter(key.removeprefix(stem) for stem, key in keys.items()).most_common(1)

    def key_of(name: str) -> str:
        stem = stem_of(pattern.replace("{stem}", name)) if pattern else name
        return by_name.get(stem, f"{stem}{suffix}")

    return key_of


def _file_name(stem: str) -> str:
    return stem.rpartition("/")[2]


def connect_for_reading(file: Path) -> sqlite3.Connection:
    """Open a ledger where nothing may be written.

    SQLite would create the files of a write-ahead log. If the log holds nothing, the database is declared immutable.
    """
    log = file.with_name(f"{file.name}-wal")
    immutable = "" if log.exists() and log.stat().st_size else "&immutable=1"
    uri = f"{file.absolute().as_uri()}?mode=ro{immutable}"
    return sqlite3.connect(uri, timeout=5, isolation_level=None, check_same_thread=False, uri=True)
