"""Data sets as they lie on people's disks, one file each; `open_samples` finds out which one it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fcnseg.errors import SettingsError, SourceError
from fcnseg.recipes import Recipe
from fcnseg.training.datasets.classes import own_labels
from fcnseg.training.datasets.images import LabelledImages
from fcnseg.training.datasets.pairs import is_camvid, is_pairs, open_camvid, open_pairs
from fcnseg.training.samples import Samples

__all__ = ["KINDS", "open_samples", "own_labels"]


@dataclass(frozen=True)
class _Kind:
    """A data set: whether a path looks like it for a recipe, how a split is opened, and how it lies on disk."""

    fits: Callable[[Path, Recipe], bool]
    open: Callable[[Path, Recipe, str], LabelledImages]
    layout: str


_KINDS = {
    "camvid": _Kind(is_camvid, open_camvid, "train/images + train/labels, or train + trainannot"),
    "pairs": _Kind(is_pairs, open_pairs, "images + labels, or train/images + train/labels"),
}
KINDS = tuple(_KINDS)
"""The names of the data sets, in the order in which they are looked for."""


def open_samples(data: Path, recipe: Recipe, split: str, kind: str | None = None) -> Samples:
    """The images of a split ("train", "val" or another that the data set has), with the labels of all the recipe's
    heads, checked: all files are there, are images of matching sizes, and none is for training and validation.

    `kind` is one of KINDS; None: whichever `data` looks like. Raises SourceError, SettingsError or LabelsError that
    names what is missing or wrong. Label values are checked as they are read.
    """
    if kind is not None and kind not in _KINDS:
        raise SettingsError(f"there is no kind of data set {kind!r}; use {', '.join(KINDS)}")
    if not data.exists():
        raise SourceError(f"{data} does not exist; give the folder or file of a data set")
    chosen = _KINDS[kind] if kind is not None else _recognised(data, recipe)
    samples = chosen.open(data, recipe, split)
    samples.check()
    return samples


def _recognised(data: Path, recipe: Recipe) -> _Kind:
    for kind in _KINDS.values():
        if kind.fits(data, recipe):
            return kind
    layouts = "; ".join(f"{name}: {kind.layout}" for name, kind in _KINDS.items())
    raise SourceError(f"{data} is no data set that is understood; one is laid out as ({layouts})")
