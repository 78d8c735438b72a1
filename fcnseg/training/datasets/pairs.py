"""Folders of images and of label maps of the same names, CamVid among them.

| on disk | splits |
|---|---|
| `train/images` + `train/labels`, `val/images` + `val/labels` | the folders |
| `images/train` + `labels/train`, `images/val` + `labels/val` | the folders |
| `images` + `labels`, `train.txt` + `val.txt` | the lists, a name a line |
| `images` + `labels` | a fifth is held out for validation, chosen by a hash of the name |
| `train` + `trainannot`, `val` + `valannot`, lists where there are any | CamVid as SegNet's authors prepared it |

Depth (in mm, as the recipes' means ask for) and HHA images lie in `depth` and `hha` beside `images`; where the recipe
has several heads, the maps of each lie in a folder of its name below `labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.folders import CompanionFolder, ImageFolder
from fcnseg.io.lists import read_names
from fcnseg.io.names import stem_of
from fcnseg.io.pairing import find_maps
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import HeadRecipe, Recipe
from fcnseg.training.datasets.images import Item, LabelledImages, ground_truth, only_color
from fcnseg.training.datasets.splits import check_apart, check_disjoint, held_out
from fcnseg.types import Failure, Reference

FOLDERS = {"color": "images", "depth": "depth", "hha": "hha"}
"""Where the images of each modality are."""

LABELS = "labels"

SPLITS = ("train", "val")

CAMVID = (
    *("sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car", "pedestrian"),
    "bicyclist",
)
"""CamVid's classes; the next value is void."""

PlaceOf = Callable[[str], Path]
"""The folder of images, depth, hha or labels."""


def is_camvid(data: Path, recipe: Recipe) -> bool:
    """Whether a folder has SegNet's layout, or that of pairs where the recipe has CamVid's classes."""
    return (data / "trainannot").is_dir() or (_has_camvid_classes(recipe) and is_pairs(data, recipe))


def _has_camvid_classes(recipe: Recipe) -> bool:
    return tuple(name.lower().replace(" ", "") for name in recipe.heads[0].labels.names) == CAMVID


def is_pairs(data: Path, recipe: Recipe) -> bool:
    """Whether there is a folder of images where pairs have it."""
    main = FOLDERS[recipe.modalities[0]]
    return any((data / place).is_dir() for place in (main, f"train/{main}", f"val/{main}"))


def open_camvid(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """As `open_pairs`; for a recipe of CamVid's 11 classes 11 is void. Raises SourceError as that does."""
    void = {len(CAMVID)} if _has_camvid_classes(recipe) else set[int]()
    if not (data / "trainannot").is_dir():
        return open_pairs(data, recipe, split, void)
    only_color(recipe, "CamVid")

    def found(name: str) -> LabelledImages:
        listed = data / f"{name}.txt"
        wanted = [Path(line.split()[0]).stem for line in read_names(listed)] if listed.is_file() else None
        places = {"images": data / name, LABELS: data / f"{name}annot"}
        return _paired(places.__getitem__, recipe, void, wanted)

    return _without_copies(found, split, [name for name in SPLITS if (data / name).is_dir()])


def open_pairs(data: Path, recipe: Recipe, split: str, void: Collection[int] = ()) -> LabelledImages:
    """The images of a split with their label maps, of which values in `void` are void too.

    Raises SourceError for a split that is not there or empty, an image without a label map or the reverse, and images
    that are both in training and validation.
    """
    main = FOLDERS[recipe.modalities[0]]
    for layout in ("{split}/{kind}", "{kind}/{split}"):
        splits = [name for name in SPLITS if (data / layout.format(split=name, kind=main)).is_dir()]
        if (data / layout.format(split=split, kind=main)).is_dir():

            def found(name: str, layout: str = layout) -> LabelledImages:
                return _paired(lambda kind: data / layout.format(split=name, kind=kind), recipe, void)

            return _without_copies(found, split, splits)
        if splits:
            raise _no_split(data, split, f"{splits[0]} has the folder {layout.format(split=splits[0], kind=main)}")
    return _from_lists(data, recipe, split, void)


def _from_lists(data: Path, recipe: Recipe, split: str, void: Collection[int]) -> LabelledImages:
    if not (data / FOLDERS[recipe.modalities[0]]).is_dir():
        raise SourceError(f"{data} has no folder {FOLDERS[recipe.modalities[0]]}; expected it with labels beside it")
    files = {name: data / f"{name}.txt" for name in (*SPLITS, split)}
    lists = {name: read_names(file) for name, file in files.items() if file.is_file()}
    if all(name in lists for name in SPLITS):
        check_disjoint(lists["train"], lists["val"], f"{data}/train.txt and val.txt")
    if split in lists:
        return _paired(data.__truediv__, recipe, void, lists[split])
    if lists or split not in SPLITS:
        raise _no_split(data, split, "it has " + (", ".join(f"{name}.txt" for name in sorted(lists)) or "no lists"))
    whole = _paired(data.__truediv__, recipe, void)
    if len(whole) < 2:
        raise SourceError(f"{data} has one image, which leaves none to hold out; training takes two at least")
    val = held_out(whole.names)
    items = [item for item in whole.items if (item.name in val) == (split == "val")]
    return LabelledImages(items, whole.meanings)


def _no_split(data: Path, split: str, instead: str) -> SourceError:
    return SourceError(f"{data} has no split {split}, {instead}; add {split}/, {split}.txt, or neither for any split")


def _without_copies(found: Callable[[str], LabelledImages], split: str, splits: list[str]) -> LabelledImages:
    """A split, once no image of it was found on the other side."""
    samples = found(split)
    if split in SPLITS and len(splits) == len(SPLITS):
        other = found("val" if split == "train" else "train")
        check_apart(*((samples, other) if split == "train" else (other, samples)))
    return samples


def _paired(
    place_of: PlaceOf, recipe: Recipe, void: Collection[int], wanted: Collection[str] | None = None
) -> LabelledImages:
    """The images of folders with their label maps: all, or those named. Raises SourceError for what has no partner."""
    main, *others = recipe.modalities
    folder = place_of(FOLDERS[main])
    images = _images(folder)
    companions = {name: CompanionFolder(str(place_of(FOLDERS[name])), name) for name in others}
    labels = {head.name: _maps(place_of(LABELS), head, recipe) for head in recipe.heads}
    for head, places in labels.items():
        surplus = sorted(places.keys() - images.keys())
        if wanted is None and surplus:
            raise SourceError(
                f"{places[surplus[0]]} has no image in {folder}; add it, or remove the label map ({head})"
            )
    if wanted is not None:
        wanted = [name if name in images else stem_of(name) for name in wanted]
        twice = sorted({name for name in wanted if wanted.count(name) > 1}) if len(set(wanted)) < len(wanted) else []
        if twice:
            raise SourceError(f"a list names {twice[0]} in {folder} twice; give each image once")
    missing = sorted({*(wanted or ())} - images.keys())
    if missing:
        raise SourceError(
            f"there is no image {missing[0]} in {folder}, but a list names it; add it or correct the list"
        )
    items = []
    for name in sorted(images) if wanted is None else wanted:
        for head, places in labels.items():
            if name not in places:
                raise SourceError(
                    f"{images[name].location} has no label map ({head}); expected {name}.png in its folder"
                )
        try:
            found = {other: MapLocation(folder.find(images[name])) for other, folder in companions.items()}
        except ImageError as error:
            raise SourceError(str(error)) from error
        inputs = {main: MapLocation(images[name].location), **found}
        items.append(Item(name, inputs, {head: places[name] for head, places in labels.items()}))
    return LabelledImages(items, {head.name: ground_truth(head, void) for head in recipe.heads})


def _images(folder: Path) -> dict[str, Reference]:
    """The images below a folder by name: their relative path without suffix."""
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}; put the images there")
    found: dict[str, Reference] = {}
    for image in ImageFolder(str(folder)):
        if isinstance(image, Failure):
            raise SourceError(f"{folder}/{image.key}: {image.reason}; correct or remove it")
        if image.stem in found:
            raise SourceError(f"{found[image.stem].location} and {image.location} have one name; rename one of them")
        found[image.stem] = image
    if not found:
        raise SourceError(f"the folder {folder} holds no images; put them there")
    return found


def _maps(folder: Path, head: HeadRecipe, recipe: Recipe) -> dict[str, MapLocation]:
    """The label maps of a head by name."""
    if len(recipe.heads) > 1:
        folder = folder / head.name
    found = find_maps(str(folder))
    for places in found.values():
        if len(places) > 1:
            raise SourceError(f"{places[0]} and {places[1]} are label maps of one image; remove one of them")
    return {name: places[0] for name, places in found.items()}
