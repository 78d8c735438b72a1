"""Built engines on this machine: found by what they were built from, listed, removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from fcnseg.engine.record import Identity, Sidecar, read_sidecar, sidecar_path, trusted, write_sidecar
from fcnseg.errors import EngineError, OutputError
from fcnseg.io.atomic import PART, whole_file
from fcnseg.io.user_folders import engine_folder
from fcnseg.types import Verification

SUFFIX = ".engine"
REJECTED = ".rejected"
"""An engine that failed its verification leaves its record under this suffix, so that it is not built again."""
FAILED = ".failed"
"""Why an engine could not be built, as text, so that it is not tried at every run."""


def engine_path(identity: Identity, suffix: str = SUFFIX) -> Path:
    """Where the engine of that identity is kept."""
    variant = "-probabilities" if identity.probabilities else ""
    name = f"{identity.backend}-{identity.precision}{variant}-{identity.key}{suffix}"
    return engine_folder() / quote(identity.model, safe=" ") / name


def kept(
    identity: Identity, *, any_shapes: bool = False, any_calibration: bool = False
) -> Iterator[tuple[Path, Sidecar]]:
    """The kept engine of that identity with its record; the engine's bytes are not looked at yet.

    With `any_shapes` or `any_calibration` also those for other sizes, or calibrated on other images, newest first.
    """
    exact = engine_path(identity)
    with suppress(EngineError):
        sidecar = read_sidecar(exact)
        if exact.is_file():
            yield exact, sidecar
    if not (any_shapes or any_calibration):
        return
    for path, sidecar in reversed(_engines(identity.model)):
        alike = replace(
            sidecar.identity,
            shapes=identity.shapes if any_shapes else sidecar.identity.shapes,
            calibration=identity.calibration if any_calibration else sidecar.identity.calibration,
        )
        if alike == identity and path != exact:
            yield path, sidecar


def rejected(identity: Identity) -> Verification | None:
    """How an earlier build of that identity failed its comparison with the network."""
    with suppress(EngineError):
        return read_sidecar(engine_path(identity, REJECTED)).verification
    return None


def failure(identity: Identity) -> str:
    """Why that engine could not be built; "" if that is not known."""
    with suppress(OSError):
        return engine_path(identity, FAILED).read_text(encoding="utf-8", errors="replace")
    return ""


def remember_failure(identity: Identity, reason: str) -> None:
    """Keep why an engine could not be built, until one is (a convenience: what cannot be written is not kept)."""
    with suppress(OSError), whole_file(engine_path(identity, FAILED)) as file:
        file.write(reason.encode("utf-8", "replace"))


def reason_to_build(identity: Identity) -> str:
    """Why there is no engine to use: in words of the nearest kept one."""
    path = engine_path(identity)
    if path.is_file():
        try:
            found = trusted(path).verification
        except EngineError as error:
            return str(error).partition(";")[0]
        if found and not found.held:
            return "the kept one did not give the network's labels when it was last compared"
        return f"the kept one was only held to {found.floor:.2%} of the pixels" if found else "asked for"
    same = [
        s.identity
        for _, s in _engines(identity.model)
        if (s.identity.backend, s.identity.precision) == (identity.backend, identity.precision)
        and s.identity.probabilities == identity.probabilities
    ]
    if not same:
        return "first use"
    nearest = min(reversed(same), key=lambda other: len(identity.differences(other)))
    return "changed: " + ", ".join(identity.differences(nearest))


def _engines(model: str) -> list[tuple[Path, Sidecar]]:
    """A model's engines that are there, oldest first."""
    return [(path, sidecar) for path, sidecar in entries(model) if path.suffix == SUFFIX and path.is_file()]


def entries(model: str | None = None) -> list[tuple[Path, Sidecar]]:
    """Every kept engine (and rejected build) with its record, oldest first. Unreadable records are left out."""
    found = []
    pattern = f"{quote(model, safe=' ')}/*.json" if model else "*/*.json"
    for record in engine_folder().glob(pattern):
        engine = record.with_suffix("")
        with suppress(EngineError):
            found.append((engine, read_sidecar(engine)))
    return sorted(found, key=lambda entry: entry[1].built)


def strays() -> list[Path]:
    """Engine files without a readable record, notes of failures, and what interrupted builds left."""
    known = {path for path, _ in entries()}
    files = [p for p in engine_folder().glob("*/*") if p.suffix in (SUFFIX, REJECTED, FAILED) and p not in known]
    return files + [p for p in engine_folder().glob(f"*/{PART}*") if p.exists()]


def remove(engine: Path) -> int:
    """Delete an engine, its record and the note of a failure to build it, or a stray; returns the bytes freed. Raises
    OutputError if that is not allowed."""
    freed = 0
    for path in (sidecar_path(engine), engine, engine.with_suffix(FAILED)):  # without a record it is not trusted
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
def building(identities: Iterable[Identity], on_wait: Callable[[str], None]) -> Iterator[None]:
    """Held by the one process that builds engines; others say that they wait, and find them built."""
    with ExitStack() as locks:
        for path in sorted(engine_path(identity, ".lock") for identity in identities):  # in one order: no deadlock
            locks.enter_context(_locked(path, on_wait))
        yield


@contextmanager
def _locked(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait("another process builds this engine; waiting for it")
            lock.acquire()
    except OSError as error:
        raise OutputError(
            f"cannot keep engines in {path.parent}: {error.strerror}; set FCNSEG_HOME to a folder of yours"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: who waits for a file without a name tries again with a new one
            path.unlink()
        lock.release()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """The folder of an engine, made as needed; what the system refuses is an OutputError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror}; free space there, or set FCNSEG_HOME to another folder"
        ) from error


def copy_engine(engine: Path, target: Path) -> None:
    """Write a kept engine with its record as `target`."""
    sidecar = trusted(engine)
    with writing(target), engine.open("rb") as source:
        sidecar_path(target).unlink(missing_ok=True)  # never a wrong pair
        with whole_file(target) as file:
            shutil.copyfileobj(source, file)
        write_sidecar(target, sidecar)
