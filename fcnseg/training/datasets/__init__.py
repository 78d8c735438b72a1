"""Data sets for training, one file each; `open_samples` recognises which one a path is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.names import is_hdf5_name
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import Recipe
from fcnseg.scoring.class_files import DatasetClasses, read_class_file
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.scoring.named_labels import named_labels
from fcnseg.training.datasets.annotation_tools import is_annotated, open_annotated
from fcnseg.training.datasets.hdf5 import hdf5_classes, is_hdf5, open_hdf5
from fcnseg.training.datasets.images import LabelledImages
from fcnseg.training.datasets.nyud import is_nyud, open_nyud
from fcnseg.training.datasets.pairs import is_camvid, is_pairs, open_camvid, open_pairs
from fcnseg.training.datasets.pascal_context import is_context, open_context
from fcnseg.training.datasets.published_folders import (
    is_ade20k,
    is_camvid32,
    is_cityscapes,
    label_set_of,
    open_ade20k,
    open_camvid32,
    open_cityscapes,
)
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
    "annotated": _Kind(
        lambda data, recipe: is_annotated(data),
        open_annotated,
        "JPEGImages + SegmentationClass + labelmap.txt (CVAT), or SegmentationClassPNG + class_names.txt (labelme)",
    ),
    "voc": _Kind(lambda data, recipe: voc_folder(data), open_voc, "VOCdevkit/VOC2012, or another year"),
    "cityscapes": _Kind(
        lambda data, recipe: is_cityscapes(data), open_cityscapes, "leftImg8bit/train + gtFine/train, with cities"
    ),
    "ade20k": _Kind(
        lambda data, recipe: is_ade20k(data), open_ade20k, "images/training + annotations/training, validation"
    ),
    "camvid32": _Kind(
        lambda data, recipe: is_camvid32(data),
        open_camvid32,
        "701_StillsRaw_full + LabeledApproved_full, or train + train_labels",
    ),
    "camvid": _Kind(is_camvid, open_camvid, "train/images + train/labels, or train + trainannot"),
    "pairs": _Kind(is_pairs, open_pairs, "images + labels (or masks, annotations), or train/images + train/labels"),
    "hdf5": _Kind(lambda data, recipe: is_hdf5(data), open_hdf5, "FILE.h5 with images and labels"),
}
BINARY = ("background", "foreground"), (voc_color(0), voc_color(1))
"""Names and colours of the classes of masks."""

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
def open_samples(
    data: Path, recipe: Recipe, split: str, kind: str | None = None, options: LabelOptions | None = None
) -> LabelledImages:
    """Open a split ("train", "val" or another that the data set has) with labels for all the recipe's heads.

    `kind` is one of KINDS; None: recognised by its layout. `options` say what the values of label maps mean, otherwise
    the data set's own classes and conventions do. The data set is checked: all files are there, are images of
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
    samples.read_as(options or LabelOptions(), own.values if own else None, recipe.dataset)
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
def own_labels(data: Path, recipe: Recipe | None = None, options: LabelOptions | None = None) -> LabelSpace | None:
    """Return the classes that a data set brings, None if it leaves them to the recipe.

    They are in `classes.txt`, `class_dict.csv`, `classes.json` or the attributes of an HDF5 file; else those of the
    label set that `options` name or that its layout implies, unless the recipe's classes are of it. NYUDv2 and SIFT
    Flow bring none: the `classes.txt` of their release is prose. Raises SettingsError for malformed classes,
    SourceError for a file that cannot be read.
    """
    if own := _own_classes(data):
        return own.labels
    options = options or LabelOptions()
    if options.binary:
        return None if recipe and recipe.heads[0].labels.classes == 2 else LabelSpace(*BINARY)
    label_set = options.labels or (None if options.label_map or options.reduce_labels else label_set_of(data))
    if label_set is None:
        return None
    labels = named_labels(label_set)
    return None if recipe and labels.fits(recipe.heads[0].labels) else labels.space


def _own_classes(data: Path) -> DatasetClasses | None:
    if is_nyud(data) or is_siftflow(data):
        return None
    return hdf5_classes(data) if data.is_file() and is_hdf5_name(str(data)) else read_class_file(data)
