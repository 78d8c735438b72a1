"""From an engine file to a running engine: only what this machine built, unchanged, for this recipe and device."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path

from fcnseg.engine.identity import LIBRARIES, code_hash, device_name, recipe_hash
from fcnseg.engine.record import Sidecar, read_sidecar, trusted
from fcnseg.engine.runtimes.common import engine_info
from fcnseg.errors import EngineError, SettingsError
from fcnseg.recipes import Recipe
from fcnseg.types import Engine


def open_built(recipe: Recipe, file: Path, choice: str = "as asked", *, proved: bool = True) -> Engine:
    """The engine in that file, not entered yet; `choice` says why it was chosen.

    Raises EngineError, naming the file, if it is not this machine's own work for this recipe, device and library
    version, if it was changed, or (unless it need not be `proved`) if it was last found not to give the network's
    labels.
    """
    sidecar = trusted(file)
    built = sidecar.identity
    rebuild = "build it again with `fcnseg build-engine`"
    if built.recipe != recipe_hash(recipe):
        raise EngineError(f"{file} was built from another recipe ({built.model}), not {recipe.name}; {rebuild}")
    if built.backend not in LIBRARIES:
        raise EngineError(f"{file} is for {built.backend}, which this version of fcnseg does not know; {rebuild}")
    try:
        library = f"{LIBRARIES[built.backend]} {version(LIBRARIES[built.backend])}"
    except PackageNotFoundError as error:
        raise EngineError(
            f"{file} needs {built.library}, which is not installed; `pip install 'fcnseg[{built.backend}]'` installs it"
        ) from error
    if built.library != library:
        raise EngineError(f"{file} was built with {built.library}, here is {library}; {rebuild}")
    if built.code != code_hash():
        raise EngineError(f"{file} was built by another version of fcnseg, of another graph; {rebuild}")
    if built.device != device_name(built.backend):
        raise EngineError(f"{file} was built for {built.device}, here is {device_name(built.backend)}; {rebuild}")
    found = sidecar.verification
    if proved and found and not found.held:
        raise EngineError(f"{file} does not give the network's labels, worst at {found.worst}; {rebuild}")
    return runtime(recipe, file, sidecar, choice)


def runtime(recipe: Recipe, file: Path, sidecar: Sidecar, choice: str = "") -> Engine:
    """The engine of a file whose record has been checked."""
    identity = sidecar.identity
    ranges = identity.shapes if identity.backend.startswith("tensorrt") else ()  # OpenVINO takes every size, one by one
    info = engine_info(
        recipe,
        backend=identity.backend,
        device=identity.device,
        precision=identity.precision,
        weights_sha256=identity.weights,
        versions=sidecar.versions,
        verification=sidecar.verification,
        file=file,
        choice=choice,
        largest=max((shapes.largest for shapes in ranges), key=prod, default=None),
        max_batch=max((shapes.max_batch for shapes in ranges), default=1),
    )
    if info.backend == "openvino":
        from fcnseg.engine.runtimes.openvino import OpenVINOEngine

        return OpenVINOEngine(recipe, file, info, probabilities=identity.probabilities)
    from fcnseg.engine.runtimes.tensorrt.engine import TensorRTEngine

    return TensorRTEngine(recipe, file, info, probabilities=identity.probabilities)


def model_of(file: Path) -> str:
    """The recipe file that an engine was built from, or its name where that is gone. Raises SettingsError if there is
    no such file, EngineError if it has no record of this machine."""
    sidecar = read_sidecar(existing(file))
    return sidecar.model_source if Path(sidecar.model_source).is_file() else sidecar.identity.model


def existing(file: Path) -> Path:
    """An engine file that somebody named. Raises SettingsError if there is none."""
    if not file.is_file():
        what = "a folder" if file.is_dir() else "not there"
        raise SettingsError(f"the engine {file} is {what}; name a file that `fcnseg build-engine --out FILE` wrote")
    return file
