"""Exports of annotation tools: CVAT's "Segmentation mask", and labelme's `labelme2voc.py`.

| tool | images | label maps | classes |
|---|---|---|---|
| CVAT | `JPEGImages` (or `images`) | `SegmentationClass/*.png`, RGB | `labelmap.txt` |
| labelme | `JPEGImages` | `SegmentationClassPNG/*.png` (or `SegmentationClass/*.png`), indexed | `class_names.txt` |

Lists in `ImageSets/Segmentation` are the splits if they are called `train.txt` and `val.txt`; else a fifth of the
images is held out. Images without a label map are not annotated yet, and are left out.
"""

from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.io.lists import read_names
from fcnseg.io.names import stem_of
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.suffixes import IMAGES, has_suffix
from fcnseg.recipes import Recipe
from fcnseg.training.datasets.images import LabelledImages, SampleLocation, only_color, only_head
from fcnseg.training.datasets.label_maps import ground_truth
from fcnseg.training.datasets.splits import SPLITS, hold_out

IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
MAP_FOLDERS = ("SegmentationClassPNG", "SegmentationClass")
LISTS = "ImageSets/Segmentation"


def is_annotated(data: Path) -> bool:
    """Tell whether a folder is what CVAT or labelme exports."""
    has_classes = (data / "labelmap.txt").is_file() or (data / "class_names.txt").is_file()
    return has_classes and _first(data, MAP_FOLDERS) is not None


def open_annotated(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split. Raises SourceError for missing folders, and label maps without an image."""
    only_color(recipe, "an export of CVAT or labelme")
    head = only_head(recipe, "an export of CVAT or labelme")
    images, maps = _first(data, IMAGE_FOLDERS), _first(data, MAP_FOLDERS)
    if images is None or maps is None:
        missing = f"{IMAGE_FOLDERS[0]} with the images" if images is None else f"{MAP_FOLDERS[1]} with the label maps"
        raise SourceError(f"{data} has no folder {missing}; export it with the images, or put them there")
    photographs = {_name(path, images): path for path in sorted(images.rglob("*")) if has_suffix(path, IMAGES)}
    locations = []
    for path in sorted(maps.rglob("*.png")):
        name = _name(path, maps)
        if name not in photographs:
            raise SourceError(f"{path} has no image in {images}; add it, or remove the label map")
        labels = {head.name: MapLocation(str(path))}
        locations.append(SampleLocation(name, {"color": MapLocation(str(photographs[name]))}, labels))
    return LabelledImages(_of_split(data, locations, split), {head.name: ground_truth(head)})


def _of_split(data: Path, locations: list[SampleLocation], split: str) -> list[SampleLocation]:
    listed = data / LISTS / f"{split}.txt"
    if not listed.is_file():
        if split not in SPLITS or any((data / LISTS / f"{name}.txt").is_file() for name in SPLITS):
            raise SourceError(f"there is no list {listed}; add it, or use train and val without any list")
        return hold_out(locations, split, data)
    names = {stem_of(name) if has_suffix(name, IMAGES) else name for name in read_names(listed)}
    if missing := sorted(names - {place.name for place in locations}):
        raise SourceError(f"{listed} names {missing[0]}, which has no label map in {data}; correct the list")
    return [place for place in locations if place.name in names]


def _first(data: Path, names: tuple[str, ...]) -> Path | None:
    return next((data / name for name in names if (data / name).is_dir()), None)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
