"""NYUDv2 (Silberman et al. 2012) with the 40 classes of Gupta et al. 2013, in two forms.

The authors' prepared folder: `data/images/img_5001.png`, `data/depth` (16 bit, mm), `data/hha`, `segmentation` (or
`data/segmentation`; `.mat`, 0 void), and lists of numbers `train.txt`, `val.txt`, `test.txt`.

The original `nyu_depth_v2_labeled.mat` (MATLAB v7.3: HDF5, with axes reversed) with, beside it, `classMapping40.mat`
(`mapClass`: of each of the 894 labels the class, 1 to 40) and `splits.mat` (`trainNdxs`, `testNdxs`, from 1). Depth
comes from `depths`, metres, and is given in millimetres, as the folder has it and the recipes' means ask for; HHA from
`hha/depths/000000.png` ..., as `fcnseg hha FILE.mat::/depths --out hha` writes it.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fcnseg.errors import SettingsError, SourceError, require
from fcnseg.io.conventions import CONVENTIONS
from fcnseg.io.hdf5 import DAMAGED, node_at, open_hdf5, reason
from fcnseg.io.label_maps_matlab import check_mat
from fcnseg.io.lists import read_names
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import Recipe
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.colors import color_codes
from fcnseg.scoring.label_encoding import LabelEncoding
from fcnseg.training.datasets.images import FOLDERS, LabelledImages, SampleLocation, only_head
from fcnseg.training.datasets.label_maps import ground_truth
from fcnseg.training.datasets.splits import check_disjoint
from fcnseg.training.samples import LabelledSample

LABELED = "nyu_depth_v2_labeled.mat"
DATASETS = {"color": "/images", "depth": "/depths"}
LISTS = ("train", "val", "trainval", "test")
CLASSES = 40
MILLIMETRES = 1000.0


def is_nyud(data: Path) -> bool:
    """Tell whether a path is the prepared folder or the original file."""
    return _original(data) is not None or _segmentation(data) is not None


def _original(data: Path) -> Path | None:
    file = data if data.is_file() else data / LABELED
    return file if file.name == LABELED and file.is_file() else None


def _segmentation(data: Path) -> Path | None:
    """Return the folder of the label maps, None without any."""
    folders = (data / "segmentation", data / "data" / "segmentation")
    return next((folder for folder in folders if any(folder.glob("img_*.mat"))), None)


def open_nyud(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split: "train", "val", "test", or "trainval" (both lists, unless it has one of its own).

    The original file has "train", also called "trainval" as in the release, and "test", also called "val". Raises
    SourceError that names what is missing.
    """
    original = _original(data)
    return _from_folder(data, recipe, split) if original is None else _from_original(original, recipe, split)


# ---------------------------------------------------------------------- the prepared folder


def _from_folder(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    head = only_head(recipe, "NYUDv2")
    segmentation = _segmentation(data)
    if segmentation is None:
        raise SourceError(f"{data} holds neither segmentation/img_*.mat nor {LABELED}; give the folder of NYUDv2")
    inner = data / "data" if (data / "data").is_dir() else data
    locations = []
    for number in _numbers(data, split):
        inputs = {name: MapLocation(f"{inner}/{FOLDERS[name]}/img_{number}.png") for name in recipe.modalities}
        labels = {head.name: MapLocation(f"{segmentation}/img_{number}.mat")}
        locations.append(SampleLocation(f"img_{number}", inputs, labels))
    return LabelledImages(locations, {head.name: ground_truth(head, one_based=CONVENTIONS["nyud"].one_based)})


def _numbers(data: Path, split: str) -> list[str]:
    files = {name: data / f"{name}.txt" for name in dict.fromkeys((*LISTS, split))}
    lists = {name: read_names(file) for name, file in files.items() if file.is_file()}
    if "trainval" not in lists and {"train", "val"} <= lists.keys():
        lists["trainval"] = (*lists["train"], *lists["val"])
    for one, other in (("train", "val"), ("trainval", "test")):
        check_disjoint(lists.get(one, ()), lists.get(other, ()), f"{data}/{one}.txt and {other}.txt")
    if split not in lists:
        raise SourceError(f"{data} has no {split}.txt; its lists are {', '.join(lists) or 'none: put them there'}")
    return [name.removeprefix("img_") for name in lists[split]]


# ---------------------------------------------------------------------- the original file


class _Original(LabelledImages):
    """Images of the original file, with depth in millimetres instead of metres."""

    def __getitem__(self, index: int) -> LabelledSample:
        sample = super().__getitem__(index)
        if "depth" not in sample.inputs:
            return sample
        depth = sample.inputs["depth"] * np.float32(MILLIMETRES)
        return LabelledSample(sample.name, {**sample.inputs, "depth": depth}, sample.labels)


def _from_original(file: Path, recipe: Recipe, split: str) -> LabelledImages:
    head = only_head(recipe, "NYUDv2")
    if head.labels.classes != CLASSES:
        raise SettingsError(
            f"{recipe.name} has {head.labels.classes} classes, NYUDv2's task {CLASSES}; use a nyud recipe"
        )
    splits = {name: _variable(file.parent / "splits.mat", f"{name}Ndxs") for name in ("train", "test")}
    check_disjoint(map(str, splits["train"]), map(str, splits["test"]), f"{file.parent}/splits.mat")
    chosen = splits.get({"trainval": "train", "val": "test"}.get(split, split))
    if chosen is None:
        raise SourceError(f"{file.parent}/splits.mat has no split {split}; it has train and test")
    count = _count(file)
    if len(set(chosen)) < len(chosen) or not chosen:
        raise SourceError(f"{file.parent}/splits.mat names no image for {split}, or one twice; fetch it again")
    if max(chosen) > count or min(chosen) < 1:
        raise SourceError(
            f"{file.parent}/splits.mat counts from {min(chosen)} to {max(chosen)}, but {file} holds {count} images"
        )
    locations = [
        SampleLocation(
            f"{i:06}",
            {m: _location(file, m, i) for m in recipe.modalities},
            {head.name: MapLocation(str(file), "/labels", i)},
        )
        for i in (number - 1 for number in chosen)
    ]
    mapping = _variable(file.parent / "classMapping40.mat", "mapClass")
    if not set(mapping) <= {*range(CLASSES + 1)}:
        raise SourceError(
            f"{file.parent}/classMapping40.mat has the class {max(mapping, key=abs)}; mapClass holds 1 to {CLASSES}"
        )
    table = {0: VOID} | {label: number - 1 if number else VOID for label, number in enumerate(mapping, 1)}
    return _Original(locations, {head.name: LabelEncoding(head.labels, table=table, colors=color_codes(head.labels))})


def _location(file: Path, modality: str, index: int) -> MapLocation:
    if modality == "hha":
        return MapLocation(f"{file.parent}/hha/depths/{index:06}.png")
    return MapLocation(str(file), DATASETS[modality], index)


def _count(file: Path) -> int:
    """Return the number of images in the file. Raises SourceError if a dataset is missing, or if they disagree."""
    try:
        with open_hdf5(file) as opened:
            counts = {name: _length(opened, name) for name in (*DATASETS.values(), "/labels")}
    except DAMAGED as error:
        raise SourceError(
            f"{file} is not NYUDv2's labelled file: {reason(error)}; it has images, depths and labels"
        ) from error
    if len(set(counts.values())) > 1:
        raise SourceError(f"{file} holds different numbers of images, depths and labels: {counts}; fetch it again")
    return counts["/labels"]


def _length(opened: h5py.File, name: str) -> int:
    node = node_at(opened, name)
    if not isinstance(node, h5py.Dataset):
        raise KeyError(f"there is no dataset {name}")
    return len(node)


def _variable(file: Path, name: str) -> list[int]:
    """Read the integers of a vector in a `.mat` file. Raises SourceError that names the variable it must hold."""
    if not file.is_file():
        raise SourceError(f"there is no {file}; put it beside {LABELED} (it holds {name})")
    require("scipy")
    from scipy.io import loadmat

    try:
        check_mat(file)
        values: Any = loadmat(file, variable_names=[name])[name]
        return [int(value) for value in np.asarray(values).ravel()]
    except Exception as error:  # SciPy raises all kinds on damaged files
        raise SourceError(f"{file} cannot be read: {error}; it must hold {name}") from error
