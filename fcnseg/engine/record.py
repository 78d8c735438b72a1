"""The JSON file beside a built engine: what it was built from, its hash, and how it compared with the network.

An engine file is code that runs with the user's rights. `trusted` hands one out only if its sidecar was sealed on
this machine (with a key that never leaves the user's data folder) and its bytes are the recorded ones; everything
else is refused before a runtime library sees it.
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

from fcnseg.errors import EngineError, OutputError
from fcnseg.io.atomic import PART, whole_file
from fcnseg.io.user_folders import data_folder
from fcnseg.recipes import Shapes
from fcnseg.types import Verification

FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """Everything an engine's bytes follow from; two equal identities need one engine.

    `code` is a hash of fcnseg's own graph-building sources, `recipe` of what the recipe says, `calibration` of the
    images an int8 engine was calibrated on, `device` the processor's or GPU's name.
    """

    model: str
    recipe: str
    weights: str
    backend: str
    precision: str
    device: str
    library: str
    code: str
    shapes: tuple[Shapes, ...]
    probabilities: bool = False
    calibration: str | None = None

    @property
    def key(self) -> str:
        """The first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(_canonical(asdict(self))).hexdigest()[:16]

    def differences(self, other: Identity) -> list[str]:
        """What differs, one short phrase each: `weights (1a2b3c4d -> 5e6f7a8b)`."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name} ({_short(theirs[name])} -> {_short(mine[name])})" for name in mine if mine[name] != theirs[name]
        ]


@dataclass(frozen=True)
class Sidecar:
    """A built engine's record. `file` is the engine's name beside it; `verification` None: it could not be run here,
    `note` says why. `graph_sha256` is that of the ONNX graph without its numbers; `model_source` and `weights_source`
    name the recipe and the weights it was built from."""

    identity: Identity
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


def sidecar_path(engine: Path) -> Path:
    """Where the sidecar of an engine file lies."""
    return engine.with_name(engine.name + ".json")


def write_sidecar(engine: Path, sidecar: Sidecar) -> None:
    """Seal a record and write it beside its engine."""
    body = asdict(replace(sidecar, file=engine.name))
    text = {"format": FORMAT, **body, "seal": _seal(body)}
    with whole_file(sidecar_path(engine)) as file:
        file.write(json.dumps(text, indent=2).encode())


def read_sidecar(engine: Path) -> Sidecar:
    """The record of an engine file. Raises EngineError if there is none or this machine did not write it."""
    path = sidecar_path(engine)
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


def trusted(engine: Path) -> Sidecar:
    """The record of an engine file whose bytes are the recorded ones. Raises EngineError otherwise."""
    sidecar = read_sidecar(engine)
    rebuild = "build it again with `fcnseg build-engine --force`"
    try:
        size = engine.stat().st_size
        if size != sidecar.file_bytes:
            raise EngineError(f"{engine} has {size} bytes instead of the recorded {sidecar.file_bytes}; {rebuild}")
        found = _remembered_sha256(engine)
    except OSError as error:
        raise EngineError(f"{engine} cannot be read: {error.strerror}; {rebuild}") from error
    if found != sidecar.file_sha256:
        raise EngineError(f"{engine} was changed since it was built; {rebuild}")
    return sidecar


def _remembered_sha256(path: Path) -> str:
    """The hash of a file, computed once in this process as long as nothing touches the file."""
    found = path.stat()
    stamp = (os.path.realpath(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    if stamp not in _hashes:
        _hashes[stamp] = file_sha256(path)
    return _hashes[stamp]


_hashes: dict[tuple[str, int, int, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(body: dict[str, Any]) -> Sidecar:
    identity = body.pop("identity")
    shapes = tuple(shapes_from_json(entry) for entry in identity.pop("shapes"))
    found = body.pop("verification")
    verification = Verification(**{**found, "cases": tuple(found["cases"])}) if found else None
    return Sidecar(Identity(**identity, shapes=shapes), verification=verification, **body)


def shapes_from_json(entry: Mapping[str, Any]) -> Shapes:
    """A profile from its fields as JSON gives them: sizes (height, width) as lists."""
    sizes = {name: (int(entry[name][0]), int(entry[name][1])) for name in ("smallest", "typical", "largest")}
    return Shapes(**sizes, max_batch=int(entry["max_batch"]))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    hexadecimal = len(text) >= 16 and set(text) <= set("0123456789abcdef")
    return text[:8] if hexadecimal else text


def _seal(body: Mapping[str, Any]) -> str:
    return hmac.new(_key(), _canonical(body), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """The secret of this machine, made at first use, readable by its owner alone."""
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
