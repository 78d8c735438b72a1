"""Built engines on this machine: found by what they were built from, listed, removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import platformdirs
from filelock import FileLock

from fcnseg.engine.sidecar import Identity, Sidecar, read_sidecar, sidecar_path, trusted
from fcnseg.errors import EngineError, OutputError
from fcnseg.files import PART

SUFFIX = ".engine"
REJECTED = ".rejected"
"""An engine that failed its verification leaves its record under this suffix, so that it is not built again."""


def cache_folder() -> Path:
    """The user's cache folder of engines, or `FCNSEG_HOME`/engines; it need not exist yet."""
    home = os.environ.get("FCNSEG_HOME")
    return (Path(home) if home else platformdirs.user_cache_path("fcnseg", appauthor=False)) / "engines"


def engine_path(identity: Identity, suffix: str = SUFFIX) -> Path:
    """Where the engine of that identity is kept."""
    variant = "-probabilities" if identity.probabilities else ""
    name = f"{identity.backend}-{identity.precision}{variant}-{identity.key}{suffix}"
    return cache_folder() / quote(identity.model, safe=" ") / name


def find(identity: Identity, *, any_shapes: bool = False, any_calibration: bool = False) -> Path | None:
    """The kept engine of that identity; its bytes are not looked at yet.

    With `any_shapes` or `any_calibration` an engine for other sizes, or calibrated on other images, will do if there
    is no exact one: the newest.
    """
    exact = engine_path(identity)
    if exact.is_file():
        return exact
    if not (any_shapes or any_calibration):
        return None
    for path, sidecar in reversed(entries(identity.model)):
        found = sidecar.identity
        alike = replace(
            found,
            shapes=identity.shapes if any_shapes else found.shapes,
            calibration=identity.calibration if any_calibration else found.calibration,
        )
        if alike == identity and path.suffix == SUFFIX and path.is_file():
            return path
    return None


def rejected(identity: Identity) -> Sidecar | None:
    """The record of an earlier build of that identity that failed its verification."""
    with suppress(EngineError):
        return read_sidecar(engine_path(identity, REJECTED))
    return None


def reason_to_build(identity: Identity) -> str:
    """Why there is no engine to use: in words of the nearest kept one."""
    path = engine_path(identity)
    if path.is_file():
        try:
            trusted(path)
        except EngineError as error:
            return str(error).partition(";")[0]
    same = [
        s.identity
        for p, s in entries(identity.model)
        if p.suffix == SUFFIX
        and (s.identity.backend, s.identity.precision) == (identity.backend, identity.precision)
        and s.identity.probabilities == identity.probabilities
    ]
    if not same:
        return "first use"
    nearest = min(reversed(same), key=lambda other: len(identity.differences(other)))
    return "changed: " + ", ".join(identity.differences(nearest))


def entries(model: str | None = None) -> list[tuple[Path, Sidecar]]:
    """Every kept engine (and rejected build) with its record, oldest first. Unreadable records are left out."""
    found = []
    pattern = f"{quote(model, safe=' ')}/*.json" if model else "*/*.json"
    for record in cache_folder().glob(pattern):
        engine = record.with_suffix("")
        with suppress(EngineError):
            found.append((engine, read_sidecar(engine)))
    return sorted(found, key=lambda entry: entry[1].built)


def strays() -> list[Path]:
    """Engine files without a readable record, and what interrupted builds left."""
    known = {path for path, _ in entries()}
    files = [p for p in cache_folder().glob("*/*") if p.suffix == SUFFIX and p not in known]
    return files + [p for p in cache_folder().glob(f"*/{PART}*") if p.exists()]


def remove(engine: Path) -> int:
    """Delete an engine and its record, or a stray; returns the bytes freed. Raises OutputError if that is not
    allowed."""
    freed = 0
    for path in (sidecar_path(engine), engine):  # the record first: an engine without one is not trusted
        try:
            if path.is_dir():
                freed += sum(file.stat().st_size for file in path.rglob("*"))
                shutil.rmtree(path)
            else:
                freed += path.stat().st_size
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror}; check its permissions") from error
    return freed


@contextmanager
def building(identity: Identity) -> Iterator[None]:
    """Held by the one process that builds an engine; others wait, and find it built."""
    path = engine_path(identity, ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise OutputError(
            f"cannot keep engines in {path.parent}: {error.strerror}; set FCNSEG_HOME to a folder of yours"
        ) from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # should two build at once for it: both publish whole files of equal worth
            path.unlink()
