"""The images of a benchmark: some of a source, or made-up ones."""

from __future__ import annotations

import numpy as np

from fcnseg.errors import ImageError
from fcnseg.recipes import MODALITIES, Recipe
from fcnseg.types import Failure, Frame, Pixels, Source


def sample_frames(source: Source, count: int) -> tuple[list[Frame], list[Failure]]:
    """Load `count` evenly spaced images of a source, all if it has fewer; those that cannot be read are failures."""
    references = list(source)
    count = min(count, len(references))
    frames, failures = list[Frame](), list[Failure]()
    for reference in (references[i * len(references) // count] for i in range(count)):
        if isinstance(reference, Failure):
            failures.append(reference)
            continue
        try:
            frames.append(source.load(reference))
        except ImageError as error:
            failures.append(Failure(reference.key, error.stage, str(error)))
    return frames, failures


def made_up_frames(recipe: Recipe, size: tuple[int, int], count: int) -> list[Frame]:
    """Return smooth random images of a size (height, width), always the same ones.

    Neighbouring pixels are alike, as in photographs. Depth is in the range of a room in millimetres.
    """
    random, (height, width), frames = np.random.default_rng(0), size, []
    for number in range(count):
        inputs: dict[str, Pixels] = {}
        for modality in recipe.modalities:
            channels = [_smooth(random, height, width) for _ in range(MODALITIES[modality])]
            values = np.stack(channels, axis=-1)
            depth = modality == "depth"
            inputs[modality] = np.asarray(
                500 + 8500 * values if depth else 255 * values, np.float32 if depth else np.uint8
            )
        frames.append(Frame(f"made-up-{number}", f"made-up-{number}", inputs))
    return frames


def _smooth(random: np.random.Generator, height: int, width: int) -> Pixels:
    """Random values on a coarse grid, linear between them, with a little grain: H x W, 0..1."""
    coarse = random.uniform(0, 1, (6, 8))
    rows, columns = np.linspace(0, 5, height), np.linspace(0, 7, width)
    wide = np.stack([np.interp(columns, np.arange(8), line) for line in coarse])
    tall = np.stack([np.interp(rows, np.arange(6), line) for line in wide.T], axis=-1)
    return np.clip(tall + random.normal(0, 0.02, (height, width)), 0, 1)
