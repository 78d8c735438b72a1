"""Data sets for training, one file each; `open_samples` recognises which one a path is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.names import is_hdf5_name
from fcnseg.labels import LabelSpace
from fcnseg.recipes import Recipe
from fcnseg.scoring.class_files import DatasetClasses, read_class_file
from fcnseg.training.datasets.hdf5 import hdf5_classes, is_hdf5, open_hdf5
from fcnseg.training.datasets.images import LabelledImages
from fcnseg.training.datasets.nyud import is_nyud, open_nyud
from fcnseg.training.datasets.pairs import is_camvid, is_pairs, open_camvid, open_pairs
from fcnseg.training.datasets.pascal_context import is_context, open_context
from fcnseg.training.datasets.siftflow import is_siftflow, open_siftflow
from fcnseg.training.datasets.splits import check_apart
from fcnseg.training.datasets.voc import open_sbd, open_voc, sbd_folder, voc_folder

__all__ = ["KINDS", "check_apart", "open_samples", "own_labels"]


@dataclass(frozen=True)
class _Kind:
    """A data set: the test that recognises it for a recipe, the function that opens a split, its layout on disk."""

    recognises: Callable[[Path, Recipe], object]
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
    "sbd": _Kind(lambda data, recipe: sbd_folder(data), open_sbd, "dataset/cls, and VOCdevkit/VOC2011 for validation"),
    "voc": _Kind(lambda data, recipe: voc_folder(data), open_voc, "VOCdevkit/VOC2012"),
    "camvid": _Kind(is_camvid, open_camvid, "train/images + train/labels, or train + trainannot"),
    "pairs": _Kind(is_pairs, open_pairs, "images + labels, or train/images + train/labels"),
    "hdf5": _Kind(lambda data, recipe: is_hdf5(data), open_hdf5, "FILE.h5 with images and labels"),
}
KINDS = tuple(_KINDS)
"""Names of the data sets, in the order in which they are tried."""


@contextmanager
def _source_errors() -> Iterator[None]:
    """Turn OSError, of files without permission or removed meanwhile, into SourceError that names them."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename} cannot be read: {error.strerror}"
        raise SourceError(f"{reason}; check that it is there and may be read") from error


@_source_errors()
def open_samples(data: Path, recipe: Recipe, split: str, kind: str | None = None) -> LabelledImages:
    """Open a split ("train", "val" or another that the data set has) with labels for all the recipe's heads.

    `kind` is one of KINDS; None: recognised by its layout. The data set is checked: all files are there, are images of
    matching sizes, and none is for both training and validation; label values are checked when they are read.
    Raises SourceError, SettingsError or LabelsError that names the fault, also where the data set brings other classes
    than the recipe's.
    """
    if kind is not None and kind not in _KINDS:
        raise SettingsError(f"there is no kind of data set {kind!r}; use {', '.join(KINDS)}")
    if not data.exists():
        raise SourceError(f"{data} does not exist; give the folder or file of a data set")
    chosen = _KINDS[kind] if kind is not None else _recognise(data, recipe)
    own = _own_classes(data)
    samples = chosen.open(data, _with_own_colors(recipe, own, data), split)
    if own and own.void_color:
        samples.set_void_color(own.void_color)
    samples.check()
    return samples


def _with_own_colors(recipe: Recipe, own: DatasetClasses | None, data: Path) -> Recipe:
    """Return the recipe with the colours of a data set, which must have its classes. Raises SettingsError if not."""
    if own is None:
        return recipe
    if len(recipe.heads) > 1:
        raise SettingsError(f"{data} names the classes of one label map; {recipe.name} gives {len(recipe.heads)}")
    head = recipe.heads[0]
    own_names, expected_names = ((*labels.names, f"void {labels.ignore}") for labels in (own.labels, head.labels))
    for index, (name, expected) in enumerate(zip(own_names, expected_names, strict=False)):
        if name != expected:
            raise SettingsError(
                f"{data} has {name!r} for class {index}, expected {expected!r}; what is trained or validated on "
                "together has the same classes in the same order, and the same void"
            )
    return replace(recipe, heads=(replace(head, labels=own.labels),))


def _recognise(data: Path, recipe: Recipe) -> _Kind:
    for kind in _KINDS.values():
        if kind.recognises(data, recipe):
            return kind
    layouts = "; ".join(f"{name}: {kind.layout}" for name, kind in _KINDS.items())
    raise SourceError(f"{data} is no data set that is understood; one is laid out as ({layouts})")


@_source_errors()
def own_labels(data: Path) -> LabelSpace | None:
    """Return the classes that a data set brings, None if it leaves them to the recipe.

    They are in `classes.txt`, `classes.json` or the attributes of an HDF5 file. NYUDv2 and SIFT Flow bring none: the
    `classes.txt` of their release is prose. Raises SettingsError for malformed classes, SourceError for a file that
    cannot be read.
    """
    own = _own_classes(data)
    return own.labels if own else None


def _own_classes(data: Path) -> DatasetClasses | None:
    if is_nyud(data) or is_siftflow(data):
        return None
    return hdf5_classes(data) if data.is_file() and is_hdf5_name(str(data)) else read_class_file(data)
