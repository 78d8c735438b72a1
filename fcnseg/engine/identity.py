"""The identity of an engine: everything its bytes follow from. Needs no torch, so that a cached engine starts fast."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import fcnseg
from fcnseg.engine.calibration import ImageFiles
from fcnseg.engine.hardware import cpu_name, cuda_capability
from fcnseg.engine.runtimes import RUNTIMES
from fcnseg.errors import EngineError, installs
from fcnseg.recipes import Recipe, Shapes
from fcnseg.weights.hashing import weights_sha256
from fcnseg.weights.store import find_weights

GRAPH_SOURCES = (
    "models/*.py",
    "engine/coarse_labels.py",
    "engine/graph*.py",
    "engine/precision.py",
    "engine/builder.py",
    "engine/runtimes/openvino*.py",
    "engine/runtimes/tensorrt/compile.py",
    "engine/runtimes/tensorrt/kernels.py",
    "engine/runtimes/tensorrt/onnx_graph.py",
    "engine/runtimes/tensorrt/plan.py",
)
"""The files of the package that decide what an engine computes."""


@dataclass(frozen=True)
class EngineIdentity:
    """Everything an engine's bytes follow from; two equal identities need one engine.

    `code` is a hash of fcnseg's own graph-building sources, `recipe` of the network and labels in the recipe,
    `calibration` of the images an int8 engine was calibrated on; `device` is the name of the processor or GPU.
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
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: EngineIdentity) -> list[str]:
        """List the differences, each a short phrase: `weights (1a2b3c4d -> 5e6f7a8b)`, the other's value first."""
        ours, theirs = asdict(self), asdict(other)
        return [
            f"{name} ({_short(theirs[name])} -> {_short(ours[name])})" for name in ours if ours[name] != theirs[name]
        ]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> EngineIdentity:
        """Return the identity whose fields these are."""
        return cls(**{**entry, "shapes": tuple(map(shapes_from_json, entry["shapes"]))})


def shapes_from_json(entry: Mapping[str, Any]) -> Shapes:
    """Return the range of sizes whose fields these are: sizes (height, width) as lists."""
    sizes = {name: (int(entry[name][0]), int(entry[name][1])) for name in ("smallest", "typical", "largest")}
    return Shapes(**sizes, max_batch=int(entry["max_batch"]))


def identify(
    recipe: Recipe,
    weights: Path | None,
    backend: str,
    precision: str,
    *,
    shapes: tuple[Shapes, ...] = (),
    probabilities: bool = False,
    calibration: Sequence[ImageFiles] = (),
) -> EngineIdentity:
    """Return the identity of the engine of a recipe on this machine.

    `shapes` empty: the recipe's own; `calibration` are the image files of an int8 engine. Raises WeightsError if there
    are no weights, EngineError if the backend's library is not installed.
    """
    return EngineIdentity(
        model=recipe.name,
        recipe=recipe_hash(recipe),
        weights=weights_sha256(find_weights(recipe, weights)),
        backend=backend,
        precision=precision,
        device=device_name(backend),
        library=library_version(backend),
        code=code_hash(),
        shapes=shapes or (recipe.shapes,),
        probabilities=probabilities,
        calibration=calibration_hash(calibration) if calibration and precision == "int8" else None,
    )


def library_version(backend: str) -> str:
    """Return the library of a backend and its version, "openvino 2026.4". Raises EngineError if it is not installed."""
    package = RUNTIMES[backend].package
    try:
        return f"{package} {RUNTIMES[backend].installed_version()}"
    except PackageNotFoundError as error:
        raise EngineError(f"{backend} is not installed; {installs(package)}, or use --backend torch") from error


def device_name(backend: str) -> str:
    """Return the name of the processor, or of the first GPU (NO_GPU where there is none)."""
    if RUNTIMES[backend].device == "cpu":
        return cpu_name()
    capability = cuda_capability()
    if not capability:
        return NO_GPU
    import torch

    return f"{torch.cuda.get_device_name()} (SM {capability})"


NO_GPU = "no GPU"


def runs_here(backend: str) -> bool:
    """Tell whether engines of a backend can be run here; TensorRT-RTX builds them without a GPU too."""
    return device_name(backend) != NO_GPU


def recipe_hash(recipe: Recipe) -> str:
    """Return a hash of the network and labels of a recipe: not of its file, its title or where its weights are."""
    fields = {key: asdict(recipe)[key] for key in ("name", "architecture", "streams", "heads")}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def calibration_hash(images: Sequence[ImageFiles]) -> str:
    """Return a hash of the bytes of calibration images, in their order."""
    digest = hashlib.sha256()
    for files in images:
        for modality in sorted(files):
            digest.update(hashlib.sha256(files[modality].read_bytes()).digest())
    return digest.hexdigest()


@cache
def code_hash() -> str:
    """Return a hash of the sources that turn weights into a graph: another graph is another engine."""
    package = Path(fcnseg.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(file for pattern in GRAPH_SOURCES for file in package.glob(pattern)):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    hexadecimal = len(text) >= 16 and set(text) <= set("0123456789abcdef")
    return text[:8] if hexadecimal else text
