"""Label maps for the tests: random ones, files of them, and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import fcnseg

Labels = NDArray[np.uint8]


def random_maps(
    seed: int, classes: int, size: tuple[int, int] = (13, 17), void: float = 0.1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ground truth with some 255, and a prediction that is often right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, size)
    predicted = np.where(rng.random(size) < 0.6, truth, rng.integers(0, classes, size))
    return np.where(rng.random(size) < void, 255, truth), predicted


def save(path: Path, values: NDArray[np.generic], palette: bytes | None = None) -> Path:
    """A PNG of the values: 8 or 16 bit grey, RGB, or indexed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(values))
    if palette:
        image.putpalette(palette)
    image.save(path)
    return path


def data_set(folder: Path, seed: int, classes: int, names: tuple[str, ...] = ("a", "b", "c")) -> tuple[Path, Path]:
    """Folders of predictions and ground truth."""
    for number, name in enumerate(names):
        truth, predicted = random_maps(seed + number, classes)
        save(folder / f"gt/{name}.png", truth.astype(np.uint8))
        save(folder / f"pred/{name}.png", predicted.astype(np.uint8))
    return folder / "pred", folder / "gt"


def scored(predictions: Path, truth: Path, **options: Any) -> fcnseg.Score:
    return fcnseg.score(predictions, truth, **({"resamplings": 0} | options))


def score_pair(folder: Path, truth: object, predicted: object, **options: Any) -> fcnseg.Score:
    """The score of one small pair."""
    save(folder / "gt/x.png", np.asarray(truth, np.uint8))
    save(folder / "pred/x.png", np.asarray(predicted, np.uint8))
    return scored(folder / "pred", folder / "gt", **options)
