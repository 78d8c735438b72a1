"""Data sets as they lie on people's disks, one file each; `open_samples` finds out which one it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fcnseg.errors import SettingsError, SourceError
from fcnseg.labels import LabelSpace
from fcnseg.recipes import Recipe
from fcnseg.training.datasets.classes import Classes, described_classes
from fcnseg.training.datasets.hdf5 import is_hdf5, open_hdf5
from fcnseg.training.datasets.images import LabelledImages
from fcnseg.training.datasets.nyud import is_nyud, open_nyud
from fcnseg.training.datasets.pairs import is_camvid, is_pairs, open_camvid, open_pairs
from fcnseg.training.datasets.pascal_context import is_context, open_context
from fcnseg.training.datasets.siftflow import is_siftflow, open_siftflow
from fcnseg.training.datasets.splits import check_apart
from fcnseg.training.datasets.voc import is_sbd, is_voc, open_sbd, open_voc

__all__ = ["KINDS", "check_apart", "open_samples", "own_labels"]


@dataclass(frozen=True)
class _Kind:
    """A data set: whether a path looks like it for a recipe, how a split is opened, and how it lies on disk."""

    fits: Callable[[Path, Recipe], bool]
    open: Callable[[Path, Recipe, str], LabelledImages]
    layout: str


_KINDS = {
    "nyud": _Kind(
        lambda data, recipe: is_nyud(data),
        open_nyud,
        "data/images + segmentation + train.txt, or nyu_depth_v2_labeled.mat",
    ),
    "siftflow": _Kind(
        lambda data, recipe: is_siftflow(data), open_siftflow, "Images + SemanticLabels + GeoLabels + trainval.txt"
    ),
    "pascalcontext": _Kind(is_context, open_context, "trainval/*.mat + VOC2010"),
    "sbd": _Kind(lambda data, recipe: is_sbd(data), open_sbd, "dataset/cls, and VOCdevkit/VOC2011 for validation"),
    "voc": _Kind(lambda data, recipe: is_voc(data), open_voc, "VOCdevkit/VOC2012"),
    "camvid": _Kind(is_camvid, open_camvid, "train/images + train/labels, or train + trainannot"),
    "pairs": _Kind(is_pairs, open_pairs, "images + labels, or train/images + train/labels"),
    "hdf5": _Kind(lambda data, recipe: is_hdf5(data), open_hdf5, "FILE.h5 with images and labels"),
}
KINDS = tuple(_KINDS)
"""The names of the data sets, in the order in which they are looked for."""


@contextmanager
def _accessible() -> Iterator[None]:
    """Folders and files that may not be looked at, or go away meanwhile, as errors that name them."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename} cannot be read: {error.strerror}"
        raise SourceError(f"{reason}; check that it is there and may be read") from error


@_accessible()
def open_samples(data: Path, recipe: Recipe, split: str, kind: str | None = None) -> LabelledImages:
    """The images of a split ("train", "val" or another that the data set has), with the labels of all the recipe's
    heads, checked: all files are there, are images of matching sizes, and none is for training and validation.

    `kind` is one of KINDS; None: whichever `data` looks like. Raises SourceError, SettingsError or LabelsError that
    names what is missing or wrong, also where the data set says other classes than the recipe. Label values are
    checked as they are read.
    """
    if kind is not None and kind not in _KINDS:
        raise SettingsError(f"there is no kind of data set {kind!r}; use {', '.join(KINDS)}")
    if not data.exists():
        raise SourceError(f"{data} does not exist; give the folder or file of a data set")
    chosen = _KINDS[kind] if kind is not None else _recognised(data, recipe)
    own = _own_classes(data)
    samples = chosen.open(data, _as_described(data, recipe, own), split)
    if own and own.void_color:
        samples.draw_void(own.void_color)
    samples.check()
    samples.check_masks()
    return samples


def _as_described(data: Path, recipe: Recipe, own: Classes | None) -> Recipe:
    """The recipe with the colours that the data set says, which must have its classes. Raises SettingsError if not."""
    if own is None:
        return recipe
    if len(recipe.heads) > 1:
        raise SettingsError(f"{data} names the classes of one label map; {recipe.name} gives {len(recipe.heads)}")
    head = recipe.heads[0]
    found, expected = ((*labels.names, f"void {labels.ignore}") for labels in (own.labels, head.labels))
    for index, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            raise SettingsError(
                f"{data} has {one!r} for class {index}, expected {other!r}; what is trained or validated on together "
                "has the same classes in the same order, and the same void"
            )
    return replace(recipe, heads=(replace(head, labels=own.labels),))


def _recognised(data: Path, recipe: Recipe) -> _Kind:
    for kind in _KINDS.values():
        if kind.fits(data, recipe):
            return kind
    layouts = "; ".join(f"{name}: {kind.layout}" for name, kind in _KINDS.items())
    raise SourceError(f"{data} is no data set that is understood; one is laid out as ({layouts})")


@_accessible()
def own_labels(data: Path) -> LabelSpace | None:
    """The classes that the data set brings (see `classes`), None if it leaves them to the recipe, as NYUDv2 and SIFT
    Flow always do: the `classes.txt` of their release is prose. Raises SettingsError for what is not understood,
    SourceError for what cannot be read."""
    own = _own_classes(data)
    return own.labels if own else None


def _own_classes(data: Path) -> Classes | None:
    return None if is_nyud(data) or is_siftflow(data) else described_classes(data)
