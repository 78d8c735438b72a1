"""From what a user asked for to the identity of the engine that gives it. Needs no torch: a hit starts fast."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fcnseg
from fcnseg.engine.hardware import cpu_name
from fcnseg.engine.record import Identity
from fcnseg.errors import EngineError
from fcnseg.io.atomic import whole_file
from fcnseg.io.user_folders import engine_folder
from fcnseg.recipes import Recipe, Shapes
from fcnseg.weights.reading import sha256_of
from fcnseg.weights.store import find_weights

LIBRARIES = {"openvino": "openvino", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}
"""The package whose version an engine of each backend depends on."""


GRAPH_SOURCES = (
    "models/*.py",
    *(f"engine/{name}.py" for name in ("graph", "export", "precision", "build")),
    "engine/runtimes/openvino.py",
    "engine/runtimes/tensorrt/plan.py",
)
"""The files of the package that decide what an engine computes."""


def identify(
    recipe: Recipe,
    weights: Path | None,
    backend: str,
    precision: str,
    *,
    shapes: tuple[Shapes, ...] = (),
    probabilities: bool = False,
    calibration: str | None = None,
) -> Identity:
    """What the engine is built from. `shapes` empty: the recipe's own. Raises WeightsError if there are no weights,
    EngineError if the backend's library is not installed."""
    try:
        library = f"{LIBRARIES[backend]} {version(LIBRARIES[backend])}"
    except PackageNotFoundError as error:
        raise EngineError(
            f"{backend} is not installed; `pip install 'fcnseg[{backend}]'` installs it, or use --backend torch"
        ) from error
    return Identity(
        model=recipe.name,
        recipe=recipe_hash(recipe),
        weights=weights_hash(find_weights(recipe, weights)),
        backend=backend,
        precision=precision,
        device=device_name(backend),
        library=library,
        code=code_hash(),
        shapes=shapes or (recipe.shapes,),
        probabilities=probabilities,
        calibration=calibration if precision == "int8" else None,
    )


def device_name(backend: str) -> str:
    """The name of what an engine is built for: the processor, or the first GPU ("no GPU" where there is none)."""
    if backend == "openvino":
        return cpu_name()
    import torch

    if not torch.cuda.is_available():
        return "no GPU"
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} (SM {major}.{minor})"


def recipe_hash(recipe: Recipe) -> str:
    """A hash of what a recipe says of the network and its labels: not of its file, its title or its weights' homes."""
    said = {key: asdict(recipe)[key] for key in ("name", "architecture", "streams", "heads")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@cache
def code_hash() -> str:
    """A hash of the sources that turn weights into a graph: another graph is another engine."""
    package = Path(fcnseg.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(file for pattern in GRAPH_SOURCES for file in package.glob(pattern)):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def weights_hash(path: Path) -> str:
    """The SHA-256 of a weight file, remembered by its size and times: released files take half a second to read."""
    memory = engine_folder() / "weights.json"
    try:
        found = path.stat()
    except OSError:
        return sha256_of(path)  # raises WeightsError
    stamp = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    known = {}
    with suppress(OSError, ValueError):
        known = json.loads(memory.read_text())
    entry = known.get(os.path.realpath(path)) if isinstance(known, dict) else None
    if isinstance(entry, list) and entry[:4] == stamp:
        return str(entry[4])
    digest = sha256_of(path)
    with suppress(OSError), whole_file(memory) as file:  # a convenience: a cache that cannot be written is none
        file.write(json.dumps({**known, os.path.realpath(path): [*stamp, digest]}).encode())
    return digest
