"""Cityscapes, ADE20K and CamVid's 32 colours, each as it unpacks, read by the label sets of `scoring.named_labels`.

| data set | images | label maps |
|---|---|---|
| Cityscapes | `leftImg8bit/train/*/*_leftImg8bit.png` | `gtFine/train/*/*_gtFine_labelIds.png` or `..TrainIds.png` |
| ADE20K (SceneParsing) | `images/training/*.jpg` | `annotations/training/*.png` |
| CamVid | `701_StillsRaw_full/*.png` | `LabeledApproved_full/*_L.png` |
| CamVid, in splits | `train/*.png` | `train_labels/*_L.png` |
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.io.lists import read_names
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import Recipe
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.scoring.named_labels import named_labels
from fcnseg.training.datasets.images import LabelledImages, SampleLocation, only_color, only_head
from fcnseg.training.datasets.label_maps import ground_truth
from fcnseg.training.datasets.splits import SPLITS, check_apart, hold_out

ADE = ".", "ADEChallengeData2016"
ADE_SPLITS = {"train": "training", "val": "validation"}

CAMVID_IMAGES, CAMVID_LABELS = "701_StillsRaw_full", "LabeledApproved_full"


@dataclass(frozen=True)
class _Places:
    """The folders of a split, and the ends of file names after the part that an image shares with its label map."""

    images: Path
    labels: Path
    image_end: str
    label_ends: tuple[str, ...]


def is_cityscapes(data: Path) -> bool:
    """Tell whether a folder has Cityscapes' layout."""
    return (data / "leftImg8bit").is_dir() and (data / "gtFine").is_dir()


def is_ade20k(data: Path) -> bool:
    """Tell whether a folder is the SceneParsing release of ADE20K, or has it in it."""
    return _ade(data) is not None


def is_camvid32(data: Path) -> bool:
    """Tell whether a folder has CamVid's label maps in 32 colours."""
    return (data / CAMVID_LABELS).is_dir() or (data / "train_labels").is_dir()


def label_set_of(data: Path) -> str | None:
    """Return the name of the label set that a folder's layout implies, None for other layouts."""
    if is_cityscapes(data):
        has_ids = next((data / "gtFine").glob("*/*/*_gtFine_labelIds.png"), None) is not None
        return "cityscapes" if has_ids else "cityscapes-train-ids"
    if is_ade20k(data):
        return "ade20k"
    return "camvid32" if is_camvid32(data) else None


def open_cityscapes(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split: a folder below `leftImg8bit`. Raises SourceError for what is missing."""
    end = "_gtFine_labelIds.png" if label_set_of(data) == "cityscapes" else "_gtFine_labelTrainIds.png"
    places = _Places(data / "leftImg8bit" / split, data / "gtFine" / split, "_leftImg8bit.png", (end,))
    return _opened(places, recipe, "Cityscapes", label_set_of(data))


def open_ade20k(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open "train" (its folder `training`) or "val" (`validation`). Raises SourceError for what is missing."""
    folder, name = _ade(data) or data, ADE_SPLITS.get(split, split)
    places = _Places(folder / "images" / name, folder / "annotations" / name, ".jpg", (".png",))
    return _opened(places, recipe, "ADE20K", "ade20k")


def open_camvid32(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split: a folder with `SPLIT_labels` beside it, or of one folder of images a list `SPLIT.txt`, or a fifth.

    Raises SourceError for what is missing, and for images of both splits.
    """
    ends = ("_L.png", ".png")
    if (data / CAMVID_LABELS).is_dir():
        places = _Places(data / CAMVID_IMAGES, data / CAMVID_LABELS, ".png", ends)
        samples = _opened(places, recipe, "CamVid", "camvid32")
        return _of_split(samples, data, split)

    def open_one(name: str) -> LabelledImages:
        places = _Places(data / name, data / f"{name}_labels", ".png", ends)
        return _opened(places, recipe, "CamVid", "camvid32")

    samples = open_one(split)
    if split in SPLITS and all((data / name).is_dir() for name in SPLITS):
        both = {name: samples if name == split else open_one(name) for name in SPLITS}
        check_apart(both["train"], both["val"])
    return samples


def _of_split(samples: LabelledImages, data: Path, split: str) -> LabelledImages:
    """Return the images of a split: those that `SPLIT.txt` names, or of "train" and "val" those by a hash."""
    listed = data / f"{split}.txt"
    if not listed.is_file():
        if split not in SPLITS:
            raise SourceError(f"there is no list {listed}; add it, or use train and val")
        return LabelledImages(hold_out(samples.locations, split, data), samples.encodings)
    names = {Path(name).name for name in read_names(listed)}
    chosen = [place for place in samples.locations if place.name in names]
    if missing := sorted(names - {place.name for place in chosen}):
        raise SourceError(f"{listed} names {missing[0]}, which is no image in {data / CAMVID_IMAGES}; correct the list")
    return LabelledImages(chosen, samples.encodings)


def _ade(data: Path) -> Path | None:
    return next((data / inner for inner in ADE if (data / inner / "annotations" / "training").is_dir()), None)


def _opened(places: _Places, recipe: Recipe, what: str, label_set: str | None) -> LabelledImages:
    """Pair the images below a folder with their label maps. Raises SourceError for either without the other."""
    only_color(recipe, what)
    head = only_head(recipe, what)
    images = _names(places.images, (places.image_end,), "images")
    maps = _names(places.labels, places.label_ends, "label maps")
    for name in images.keys() ^ maps.keys():
        file, missing, folder = (
            (images[name], "label map", places.labels) if name in images else (maps[name], "image", places.images)
        )
        raise SourceError(f"{file} has no {missing} in {folder}; add it, or remove the file")
    locations = [
        SampleLocation(name, {"color": MapLocation(str(images[name]))}, {head.name: MapLocation(str(maps[name]))})
        for name in sorted(images)
    ]
    fits = label_set is not None and named_labels(label_set).fits(head.labels)
    encoding = LabelOptions(labels=label_set).encoding(head.labels) if fits else ground_truth(head)
    return LabelledImages(locations, {head.name: encoding})


def _names(folder: Path, ends: Iterable[str], what: str) -> dict[str, Path]:
    """Return the files below a folder that end so, by their path without the end."""
    if not folder.is_dir():
        others = ", ".join(sorted(path.name for path in folder.parent.glob("*") if path.is_dir())) or "nothing"
        raise SourceError(f"there is no folder {folder} with {what}; beside it there is {others}")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        end = next((end for end in ends if path.name.endswith(end)), None)
        if end:
            files[path.relative_to(folder).as_posix().removesuffix(end)] = path
    if not files:
        raise SourceError(f"the folder {folder} holds no {what} called *{next(iter(ends))}; put them there")
    return files
