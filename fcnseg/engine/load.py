"""From an engine file to an engine: only what this machine built, unchanged, for this recipe and device."""

from __future__ import annotations

from math import prod
from pathlib import Path

from fcnseg.engine.identity import code_hash, device_name, library_version, recipe_hash
from fcnseg.engine.record import EngineRecord, read_record, read_trusted_record
from fcnseg.engine.runtimes import RUNTIMES
from fcnseg.engine.runtimes.common import engine_info
from fcnseg.errors import EngineError, SettingsError
from fcnseg.recipes import Recipe
from fcnseg.types import Engine


def load_engine(recipe: Recipe, file: Path, choice: str = "as asked", *, require_verified: bool = True) -> Engine:
    """Return the engine in a file, not entered yet; `choice` is the reason why it was chosen.

    Raises EngineError, naming the file, if it is not this machine's own work for this recipe, device and library
    version, if it was changed, or (if `require_verified`) if its last verification failed.
    """
    record = read_trusted_record(file)
    built = record.identity
    rebuild = "build it again with `fcnseg build-engine`"
    if built.recipe != recipe_hash(recipe):
        raise EngineError(f"{file} was built from another recipe ({built.model}), not {recipe.name}; {rebuild}")
    if built.backend not in RUNTIMES:
        raise EngineError(f"{file} is for {built.backend}, which this version of fcnseg does not know; {rebuild}")
    try:
        library = library_version(built.backend)
    except EngineError as error:
        raise EngineError(f"{file} needs {built.library}, which is not here: {error}") from error
    if built.library != library:
        raise EngineError(f"{file} was built with {built.library}, here is {library}; {rebuild}")
    if built.code != code_hash():
        raise EngineError(f"{file} was built by another version of fcnseg, of another graph; {rebuild}")
    if built.device != device_name(built.backend):
        raise EngineError(f"{file} was built for {built.device}, here is {device_name(built.backend)}; {rebuild}")
    verification = record.verification
    if require_verified and verification and not verification.passed:
        raise EngineError(f"{file} does not give the network's labels, worst at {verification.worst}; {rebuild}")
    return instantiate(recipe, file, record, choice)


def instantiate(recipe: Recipe, file: Path, record: EngineRecord, choice: str = "") -> Engine:
    """Return the engine of a file whose record has been checked, not entered yet."""
    identity = record.identity
    runtime = RUNTIMES[identity.backend]
    fixed = identity.shapes if runtime.fixed_sizes else ()
    info = engine_info(
        recipe,
        backend=identity.backend,
        device=identity.device,
        precision=identity.precision,
        weights_sha256=identity.weights,
        versions=record.versions,
        verification=record.verification,
        file=file,
        choice=choice,
        largest=max((shapes.largest for shapes in fixed), key=prod, default=None),
        max_batch=max((shapes.max_batch for shapes in fixed), default=1),
    )
    engine: Engine = runtime.load_engine()(
        recipe, file, info, sha256=record.file_sha256, probabilities=identity.probabilities
    )
    return engine


def model_of(file: Path) -> str:
    """Return the recipe file that an engine was built from, or its name where that is gone.

    Raises SettingsError if there is no such file, EngineError if it has no record of this machine.
    """
    record = read_record(check_engine_file(file))
    return record.model_source if Path(record.model_source).is_file() else record.identity.model


def check_engine_file(file: Path) -> Path:
    """Return the path of an engine file that somebody named. Raises SettingsError if there is none."""
    if not file.is_file():
        what = "a folder" if file.is_dir() else "not there"
        raise SettingsError(f"the engine {file} is {what}; name a file that `fcnseg build-engine --out FILE` wrote")
    return file
