"""Inputs, outputs, information and memory estimates that all runtimes share.

Nothing here needs torch: an engine loaded from a file starts without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from fcnseg.errors import ImageError, TooLargeError
from fcnseg.models.backbones import Conv, Geometry, backbone_layers
from fcnseg.recipes import MODALITIES, HeadRecipe, Recipe
from fcnseg.types import EngineInfo, Pixels
from fcnseg.weights.tensors import Array
from fcnseg.workers.limits import free_memory_bytes


class GraphSource(Protocol):
    """The weights, graphs, images and folder that a runtime's compiler works with: see `builder.Builder`."""

    recipe: Recipe
    work: Path
    on_progress: Callable[[str, float], None]

    def weights(self) -> Mapping[str, Array]:
        """Return the float32 tensors of the network by name."""

    def plain_graph_file(self) -> Path:
        """Return the same without leaving margins out: what engines are held against."""

    def write(self, name: str, **options: Any) -> Path:
        """Write another graph with probabilities; `options` are those of `write_graph`, and its `weights`."""

    def calibration(self) -> list[Mapping[str, Pixels]]:
        """Return calibration images as batches of one, N x H x W x C by modality."""


class Compiled(NamedTuple):
    """The graph that an engine was made of, and what was chosen for it, by name: see `EngineRecord.versions`."""

    graph: Path
    choices: Mapping[str, str] = MappingProxyType({})


class ClosesOnExit:
    """An engine that closes when its `with` block ends; `info` is known once it is entered."""

    info: EngineInfo

    def close(self) -> None:
        """Release everything."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def engine_info(recipe: Recipe, **known: Any) -> EngineInfo:
    """Return the information of an engine of a recipe; `known` are the fields that do not follow from the recipe."""
    heads = {head.name: head.labels for head in recipe.heads}
    return EngineInfo(model=recipe.name, heads=heads, modalities=recipe.modalities, **known)


def output_names(recipe: Recipe, probabilities: bool = False) -> tuple[str, ...]:
    """Name the graph's outputs: one a head, called like it ("labels" in models with one), then "probabilities" (or
    "<head>_probabilities") where asked for."""
    heads = [head.name for head in recipe.heads]
    named = ["probabilities"] if len(heads) == 1 else [f"{head}_probabilities" for head in heads]
    return tuple(heads + (named if probabilities else []))


def coarse_names(recipe: Recipe) -> tuple[str, ...]:
    """Name the outputs of scores before the last upsampling, one a head."""
    return tuple(f"{head.name}:coarse" for head in recipe.heads)


def labels_dtype(head: HeadRecipe) -> type[np.unsignedinteger[Any]]:
    """Return the type of a head's label maps: uint8, or uint16 above 256 classes."""
    return np.uint8 if head.labels.classes <= 256 else np.uint16


def check_inputs(recipe: Recipe, inputs: Mapping[str, Pixels]) -> int:
    """Return the number of images N in inputs N x H x W x C; raises ImageError for what the recipe does not take."""
    sizes = {modality: pixels.shape[:-1] for modality, pixels in inputs.items()}
    if set(inputs) != set(recipe.modalities) or len(set(sizes.values())) != 1:
        raise ImageError(f"{recipe.name} takes {', '.join(recipe.modalities)} of one size; got {sizes}", "predict")
    for modality, pixels in inputs.items():
        dtype = np.float32 if modality == "depth" else np.uint8
        if pixels.dtype != dtype or pixels.ndim != 4 or pixels.shape[-1] != MODALITIES[modality]:
            raise ImageError(
                f"{modality} must be {np.dtype(dtype)} N x H x W x {MODALITIES[modality]}; "
                f"got {pixels.dtype} {' x '.join(map(str, pixels.shape))}",
                "predict",
            )
    return int(next(iter(inputs.values())).shape[0])


FAR_LESS = 4
"""An image that needs less than a quarter of the memory is no cause to look again: that takes half a millisecond."""

RECENT_SECONDS = 0.5


def _recently_free_bytes() -> int:
    """Return the free memory as it was RECENT_SECONDS ago at most."""
    return _free_bytes_at(int(time.monotonic() / RECENT_SECONDS))


@lru_cache(maxsize=1)
def _free_bytes_at(_moment: int) -> int:
    return free_memory_bytes()


def check_memory(recipe: Recipe, height: int, width: int, element_bytes: int) -> None:
    """Raise TooLargeError for an image that will not fit, before the out-of-memory killer ends the whole run."""
    needed = working_bytes(recipe, height, width, element_bytes)
    free = _recently_free_bytes()
    if needed > free / FAR_LESS:
        free = free_memory_bytes()
    if needed > free:
        raise TooLargeError(
            f"{too_large(height, width)} (about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free)"
        )


def too_large(height: int, width: int) -> str:
    """Return the message for an image that memory does not hold."""
    return f"{width} x {height} pixels need more memory than there is"


def working_bytes(recipe: Recipe, height: int, width: int, element_bytes: int) -> int:
    """Estimate the memory that one image takes: the first block's two widest maps, and the scores with their
    arg-max."""
    first = backbone_layers(recipe.architecture.backbone, cast(Geometry, recipe.architecture.geometry))[0]
    assert isinstance(first, Conv)  # in every backbone
    area = (height + 2 * first.window.pad) * (width + 2 * first.window.pad)
    maps = 2 * first.channels * recipe.architecture.width * element_bytes * area // first.window.stride**2
    scores = max(head.labels.classes for head in recipe.heads) * 4 * 2 * area
    return int(maps + scores + 32 * height * width)
