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
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from fcnseg.engine.identity import EngineIdentity
from fcnseg.errors import EngineError, OutputError
from fcnseg.io.atomic import PART, whole_file
from fcnseg.io.hashing import file_sha256, file_state, open_file_sha256
from fcnseg.io.user_folders import key_file
from fcnseg.types import Verification

KEY_BYTES = 32

FORMAT = 2
"""The number of this form of records; those of another form are refused, and their engines built again."""


@dataclass(frozen=True)
class EngineRecord:
    """The record of a built engine.

    `file` is the name of the engine file beside it, `graph_sha256` the hash of the ONNX graph without its numbers.
    `versions` are those of fcnseg and the library, and of what was chosen among several: `graph` and `kernels`.
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


def kernel_file(engine: Path) -> Path:
    """Return the path of the kernels that a library has compiled for an engine where it ran."""
    return engine.with_name(engine.name + ".kernels")


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
        _check_owner(engine)
        digest = file_sha256(engine)
    except OSError as error:
        raise EngineError(f"{engine} cannot be read: {error.strerror}; {rebuild}") from error
    if digest != record.file_sha256:
        raise EngineError(f"{engine} was changed since it was built; {rebuild}")
    return record


@contextmanager
def open_engine_file(engine: Path, sha256: str) -> Iterator[BufferedReader]:
    """Open an engine file whose bytes have that hash; what is read from it in the block are these very bytes.

    Raises EngineError if they are others, cannot be read, or were overwritten before the end of the block.
    """
    rebuild = "build it again with `fcnseg build-engine --force`"
    changed = EngineError(f"{engine} was changed since it was built; {rebuild}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(engine.open("rb"))
            state = file_state(file.fileno())
            digest = open_file_sha256(file)
        except OSError as error:
            raise EngineError(f"{engine} cannot be read: {error.strerror}; {rebuild}") from error
        if digest != sha256:
            raise changed
        try:
            yield file
        finally:
            file.seek(0)
            if file_state(file.fileno()) != state and open_file_sha256(file) != sha256:  # a lost name changes it too
                raise changed


def write_sealed(path: Path, content: bytes) -> None:
    """Write what a library wants back at its next start, sealed, so that only this machine's own is handed to it.

    One that cannot be written is left out.
    """
    with suppress(OSError, OutputError), whole_file(path) as file:
        file.write(hmac.digest(_key(), content, "sha256") + content)


def read_sealed(path: Path) -> bytes:
    """Return what `write_sealed` wrote there; nothing if there is nothing, or nothing of this machine's own."""
    with suppress(OSError, OutputError):
        whole, key_is_shared = path.read_bytes(), bool(key_file().stat().st_mode & 0o077)
        seal, content = whole[:32], whole[32:]
        if not key_is_shared and hmac.compare_digest(seal, hmac.digest(_key(), content, "sha256")):
            return content
    return b""


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
    """Return the secret of this machine, made at first use, readable by its owner alone.

    Raises OutputError for a key that others may have written or read. One that root has made readable, so that engines
    in an image serve all of its users, is accepted: see `_check_owner`.
    """
    path = key_file()
    try:
        if not os.path.lexists(path):
            _make_key(path)
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise _refused(path, "is no regular file")
        with path.open("rb") as file:
            status, key = os.fstat(file.fileno()), file.read(KEY_BYTES + 1)
    except PermissionError as error:
        raise OutputError(
            f"{path} cannot be read: {error.strerror}; if engines there are for all users of this image, make it "
            "readable (chmod a+r), else set FCNSEG_HOME to a folder of yours"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; set FCNSEG_HOME to a folder of yours") from error
    if len(key) != KEY_BYTES or not any(key):  # zeros are what a power cut may leave
        raise _refused(path, "is damaged")
    shared = status.st_mode & (0o022 if status.st_uid == 0 else 0o077)
    if hasattr(os, "getuid") and (status.st_uid not in (0, os.getuid()) or shared):
        raise _refused(path, "is not readable and writable by you alone")
    return key


def _refused(path: Path, fault: str) -> OutputError:
    return OutputError(f"{path} {fault}; remove it, and engines are built again")


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=PART) as file:  # readable by the owner alone
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:  # another process was first: its key counts
            return
        except OSError:  # a file system without hard links
            _write_key(path, Path(file.name).read_bytes())


def _write_key(path: Path, key: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with suppress(FileExistsError), os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())


def _check_owner(engine: Path) -> None:
    """Refuse, under a key that every user may read, an engine or record that others than root or this user may write or
    exchange: anybody could have sealed it."""
    if not hasattr(os, "getuid") or not key_file().stat().st_mode & 0o077:
        return
    for path in (engine.parent, engine, record_path(engine)):
        status = path.stat()
        sticky = (
            path == engine.parent and status.st_mode & stat.S_ISVTX
        )  # nobody can exchange the files of others there
        if status.st_uid not in (0, os.getuid()) or (status.st_mode & 0o022 and not sticky):
            raise EngineError(
                f"{path} can be written by other users and is not trusted; build it with a key of your own"
            )
