"""The cache of built engines on this machine: their places, their listing, locks, and removal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from fcnseg.engine.identity import EngineIdentity
from fcnseg.engine.record import EngineRecord, kernel_file, read_record, read_trusted_record, record_path, write_record
from fcnseg.errors import EngineError, OutputError
from fcnseg.io.atomic import PART, whole_file
from fcnseg.io.locks import held
from fcnseg.io.user_folders import engine_folder

SUFFIX = ".engine"
REJECTED = ".rejected"
"""An engine that failed its verification leaves its record under this suffix, so that it is not built again."""
FAILED = ".failed"
"""The reason why an engine could not be built, as text, so that it is not tried at every run."""


def engine_path(identity: EngineIdentity, suffix: str = SUFFIX) -> Path:
    """Return the path of the cached engine of an identity, or of what goes with it under another suffix."""
    variant = "-probabilities" if identity.probabilities else ""
    name = f"{identity.backend}-{identity.precision}{variant}-{identity.key}{suffix}"
    return engine_folder() / quote(identity.model, safe=" ") / name


def cached_engines(model: str | None = None) -> list[tuple[Path, EngineRecord]]:
    """List engines (and rejected builds) with their records, oldest first. Unreadable records are left out."""
    entries = []
    pattern = f"{quote(model, safe=' ')}/*.json" if model else "*/*.json"
    for path in engine_folder().glob(pattern):
        engine = path.with_suffix("")
        with suppress(EngineError):
            entries.append((engine, read_record(engine)))
    return sorted(entries, key=lambda entry: entry[1].built)


def usable_engines(model: str) -> list[tuple[Path, EngineRecord]]:
    """List a model's engines whose files are there, oldest first; their bytes are not checked."""
    return [(path, record) for path, record in cached_engines(model) if path.suffix == SUFFIX and path.is_file()]


def strays() -> list[Path]:
    """List engine files without a readable record, notes of failures, and leftovers of interrupted builds."""
    known = {path for path, _ in cached_engines()}
    files = [p for p in engine_folder().glob("*/*") if p.suffix in (SUFFIX, REJECTED, FAILED) and p not in known]
    return files + [p for p in engine_folder().glob(f"*/{PART}*") if p.exists()]


def recorded_failures() -> list[tuple[str, str, str]]:
    """List the engines that could not be built: the model, backend and precision ("openvino-int8"), and the reason."""
    failures = []
    for path in sorted(engine_folder().glob(f"*/*{FAILED}")):
        reason = " ".join(path.read_text("utf-8", "replace").split())
        failures.append((unquote(path.parent.name), path.stem.rpartition("-")[0], reason))
    return failures


def remove(engine: Path) -> int:
    """Delete an engine, its record, its kernels and the note of a failure to build it, or a stray; return the bytes
    freed. An engine whose record is gone is trusted no more.

    Raises OutputError if that is not allowed.
    """
    freed = 0
    for path in (record_path(engine), engine, kernel_file(engine), engine.with_suffix(FAILED)):  # the record first
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


def copy_engine(engine: Path, target: Path) -> None:
    """Copy a cached engine with its record to `target`."""
    record = read_trusted_record(engine)
    with writing(target), engine.open("rb") as source:
        record_path(target).unlink(missing_ok=True)  # never a wrong pair
        with whole_file(target) as file:
            shutil.copyfileobj(source, file)
        write_record(target, record)


@contextmanager
def building(identities: Iterable[EngineIdentity], on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the locks of the one process that builds these engines; `on_wait` is told if another holds them now."""
    with ExitStack() as locks:
        for path in sorted(engine_path(identity, ".lock") for identity in identities):  # in one order: no deadlock
            locks.enter_context(_locked(path, on_wait))
        yield


@contextmanager
def _locked(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(path, "it builds this engine", on_wait, at_once=True))
        except OSError as error:
            raise OutputError(
                f"cannot keep engines in {path.parent}: {error.strerror}; set FCNSEG_HOME to a folder of yours"
            ) from error
        yield


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Make the folder of an engine that is written in the block; raise OutputError for what the system refuses."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror}; free space there, or set FCNSEG_HOME to another folder"
        ) from error
