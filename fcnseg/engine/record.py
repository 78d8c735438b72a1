"""The record beside a built engine: what it was built from, its hash, and its verification, as sealed JSON.

An engine file is code that runs with the user's rights. `read_trusted_record` accepts one only if its record was
sealed on this machine (with a key that never leaves the user's data folder) and its bytes are the recorded ones;
everything else is refused before a runtime library sees it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fcnseg.engine.identity import EngineIdentity
from fcnseg.errors import EngineError, OutputError
from fcnseg.io.atomic import PART, whole_file
from fcnseg.io.hashing import file_sha256
from fcnseg.io.user_folders import data_folder
from fcnseg.types import Verification

FORMAT = 2
"""The number of this form of records; those of another form are refused, and their engines built again."""


@dataclass(frozen=True)
class EngineRecord:
    """The record of a built engine.

    `file` is the name of the engine file beside it, `graph_sha256` the hash of the ONNX graph without its numbers.
    `model_source` and `weights_source` are the recipe and the weights it was built from. `verification` is None where
    no device could run the engine; `note` gives the reason.
    """

    identity: EngineIdentity
    file: str
    file_sha256: str
    file_bytes: int
    graph_sha256: str
    verification: Verification | None
    versions: Mapping[str, str]
    built: str
    build_seconds: float
    model_source: str
    weights_source: str
    note: str = ""


def record_path(engine: Path) -> Path:
    """Return the path of the record of an engine file."""
    return engine.with_name(engine.name + ".json")


def write_record(engine: Path, record: EngineRecord) -> None:
    """Seal a record and write it beside its engine."""
    body = asdict(replace(record, file=engine.name))
    text = {"format": FORMAT, **body, "seal": _seal(body)}
    with whole_file(record_path(engine)) as file:
        file.write(json.dumps(text, indent=2).encode())


def read_record(engine: Path) -> EngineRecord:
    """Read the record of an engine file. Raises EngineError if there is none or this machine did not write it."""
    path = record_path(engine)
    rebuild = "build it here with `fcnseg build-engine`"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineError(f"{engine} has no record ({path.name}) beside it and is not trusted; {rebuild}") from error
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}; {rebuild}") from error
    try:
        seal, form = body.pop("seal"), body.pop("format")
        if form != FORMAT:
            raise EngineError(f"{path} was written by another version of fcnseg; {rebuild}")
        if not hmac.compare_digest(seal, _seal(body)):
            raise EngineError(f"{path} was not written on this machine, or was edited; {rebuild}")
        return _parse(body)
    except (AttributeError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is no engine record: {error}; {rebuild}") from error


def read_trusted_record(engine: Path) -> EngineRecord:
    """Read the record of an engine file whose bytes are the recorded ones. Raises EngineError if they are not."""
    record = read_record(engine)
    rebuild = "build it again with `fcnseg build-engine --force`"
    try:
        size = engine.stat().st_size
        if size != record.file_bytes:
            raise EngineError(f"{engine} has {size} bytes instead of the recorded {record.file_bytes}; {rebuild}")
        digest = file_sha256(engine)
    except OSError as error:
        raise EngineError(f"{engine} cannot be read: {error.strerror}; {rebuild}") from error
    if digest != record.file_sha256:
        raise EngineError(f"{engine} was changed since it was built; {rebuild}")
    return record


def _parse(body: dict[str, Any]) -> EngineRecord:
    verification = body["verification"]
    if verification:
        verification = Verification(**{**verification, "cases": tuple(verification["cases"])})
    identity = EngineIdentity.from_json(body["identity"])
    return EngineRecord(**{**body, "identity": identity, "verification": verification})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _seal(body: Mapping[str, Any]) -> str:
    return hmac.new(_key(), _canonical(body), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """Return the secret of this machine, made at first use, readable by its owner alone."""
    path = data_folder() / "engine-key"
    if path.is_file():
        return path.read_bytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=PART) as file:  # readable by the owner alone
            file.write(secrets.token_bytes(32))
            file.flush()
            with suppress(FileExistsError):  # another process was first: its key counts
                os.link(file.name, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; set FCNSEG_HOME to a folder of yours") from error
    return path.read_bytes()
