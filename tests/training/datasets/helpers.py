"""Data sets written and opened by the tests, and the errors that opening them ends with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import FcnsegError
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.training.datasets import open_samples, own_labels
from fcnseg.training.preparation import with_labels
from fcnseg.training.samples import Samples
from tests.training.data_sets import (
    Array,
    photo,
    text,
)

STREET = find_recipe("street-fcn8s")
VOC = find_recipe("voc-fcn8s")
BLUE, GREEN, BLACK = (0, 0, 255), (0, 255, 0), (0, 0, 0)


def gone_through(data: Path, model: str, split: str, read: bool) -> None:
    samples = open_samples(data, find_recipe(model), split)
    for i in range(len(samples) if read else 0):
        samples[i]


def fault(data: Path, model: str, split: str = "train", read: bool = False) -> str:
    """The one line that opening a split, or reading all of it, ends with."""
    with pytest.raises(FcnsegError) as caught:
        gone_through(data, model, split, read)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reading_fault(data: Path, recipe: Recipe = VOC, split: str = "train", kind: str | None = None) -> str:
    """The one line that opening a split and reading all of it ends with."""
    with pytest.raises(FcnsegError) as caught:
        read(open_samples(data, recipe, split, kind))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def own_recipe(data: Path) -> Recipe:
    """A recipe with the classes that the data set brings."""
    return with_labels(find_recipe("street-fcn8s"), own_labels(data), data)


def read(samples: Samples) -> dict[str, Array]:
    """The label maps by name."""
    return {name: samples[i].labels["labels"] for i, name in enumerate(samples.names)}


def save_grey(values: Array, path: Path) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


def folder_of(folder: Path, maps: dict[str, Array], save: Callable[[Array, Path], None] = save_grey) -> Path:
    """Images of random pixels with these label maps, all for training."""
    for name, values in maps.items():
        photo(folder / "images" / f"{name}.png", name, values.shape[:2])
        (folder / "labels").mkdir(exist_ok=True)
        save(values, folder / "labels" / f"{name}.png")
    text(folder / "train.txt", maps)
    return folder


def drawn_in(*colors: tuple[int, int, int]) -> Callable[[Array, Path], None]:
    """What saves label maps in these colours."""
    return lambda values, path: Image.fromarray(np.array(colors, np.uint8)[values]).save(path)


def described(tmp_path: Path, ignore: int, *classes: tuple[str, tuple[int, int, int]]) -> None:
    entries = [{"index": i, "name": name, "color": color} for i, (name, color) in enumerate(classes)]
    (tmp_path / "classes.json").write_text(json.dumps({"labels": {"ignore": ignore, "classes": entries}}))
