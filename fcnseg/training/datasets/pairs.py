"""Folders of images and of label maps of the same names, CamVid among them.

| on disk | splits |
|---|---|
| `train/images` + `train/labels`, `val/images` + `val/labels` | the folders |
| `images/train` + `labels/train`, `images/val` + `labels/val` | the folders |
| `images` + `labels`, `train.txt` + `val.txt` | the lists, a name a line |
| `images` + `labels` | a fifth is held out for validation, chosen by a hash of the name |
| `train` + `trainannot`, `val` + `valannot`, lists where there are any | CamVid as SegNet's authors prepared it |

The folder `labels` may be called `masks` or `annotations`. Depth (in mm, as the recipes' means ask for) and HHA images
lie in `depth` and `hha` beside `images`; where the recipe has several heads, the maps of each lie in a folder of its
name below `labels`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.conventions import convention_of
from fcnseg.io.folders import CompanionFolder, ImageFolder
from fcnseg.io.lists import read_names
from fcnseg.io.names import stem_of
from fcnseg.io.pairing import find_maps
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import HeadRecipe, Recipe
from fcnseg.training.datasets.images import FOLDERS, LabelledImages, SampleLocation, only_color
from fcnseg.training.datasets.label_maps import ground_truth
from fcnseg.training.datasets.splits import SPLITS, check_apart, check_disjoint, hold_out
from fcnseg.types import Failure, Reference

LABELS = "labels"
LABEL_FOLDERS = (LABELS, "masks", "annotations")
"""Names of the folder of label maps beside `images`; the first that is there is taken."""


MapsOfHead = dict[str, MapLocation]

FolderOf = Callable[[str], Path]
"""Function from "images", "depth", "hha" or "labels" to its folder."""


def is_camvid(data: Path, recipe: Recipe) -> bool:
    """Tell whether a folder has SegNet's layout, or that of pairs and the recipe follows CamVid."""
    return (data / "trainannot").is_dir() or (recipe.dataset == "camvid" and is_pairs(data, recipe))


def is_pairs(data: Path, recipe: Recipe) -> bool:
    """Tell whether a folder of images is where pairs have it."""
    main = FOLDERS[recipe.modalities[0]]
    return any((data / place).is_dir() for place in (main, f"train/{main}", f"val/{main}"))


def open_camvid(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split as `open_pairs` does; with a recipe that follows CamVid, 11 is void."""
    void = convention_of(recipe.dataset).void
    if not (data / "trainannot").is_dir():
        return open_pairs(data, recipe, split, void)
    only_color(recipe, "CamVid")

    def open_one(name: str) -> LabelledImages:
        listed = data / f"{name}.txt"
        names = [Path(name).name for name in read_names(listed)] if listed.is_file() else None
        folders = {"images": data / name, LABELS: data / f"{name}annot"}
        return _paired(lambda kind: folders.get(kind, data / kind / name), recipe, void, names)

    return _without_copies(open_one, split, [name for name in SPLITS if (data / name).is_dir()])


def open_pairs(data: Path, recipe: Recipe, split: str, void: Collection[int] = ()) -> LabelledImages:
    """Open a split; label values in `void` are void too.

    Raises SourceError for a missing or empty split, images or label maps without partner, and images of both splits.
    """
    main = FOLDERS[recipe.modalities[0]]
    for layout in ("{split}/{kind}", "{kind}/{split}"):
        splits = [name for name in SPLITS if (data / layout.format(split=name, kind=main)).is_dir()]
        if (data / layout.format(split=split, kind=main)).is_dir():

            def open_one(name: str, layout: str = layout) -> LabelledImages:
                return _paired(lambda kind: data / layout.format(split=name, kind=kind), recipe, void)

            return _without_copies(open_one, split, splits)
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
    return LabelledImages(hold_out(whole.locations, split, data), whole.encodings)


def _no_split(data: Path, split: str, instead: str) -> SourceError:
    return SourceError(f"{data} has no split {split}, {instead}; add {split}/, {split}.txt, or neither for any split")


def _without_copies(open_one: Callable[[str], LabelledImages], split: str, splits: list[str]) -> LabelledImages:
    """Open a split, and raise SourceError if one of its images is on the other side too."""
    samples = open_one(split)
    if split in SPLITS and len(splits) == len(SPLITS):
        other = open_one("val" if split == "train" else "train")
        check_apart(*((samples, other) if split == "train" else (other, samples)))
    return samples


def _paired(
    folder_of: FolderOf, recipe: Recipe, void: Collection[int], names: Sequence[str] | None = None
) -> LabelledImages:
    """Pair the images of folders with their label maps: all, or those named.

    Raises SourceError for an image or label map without partner.
    """
    main, *others = recipe.modalities
    folder = folder_of(FOLDERS[main])
    images = _images(folder)
    companions = {modality: CompanionFolder(str(folder_of(FOLDERS[modality])), modality) for modality in others}
    labels = next((place for kind in LABEL_FOLDERS if (place := folder_of(kind)).is_dir()), folder_of(LABELS))
    maps = {head.name: _label_maps(labels, head, recipe) for head in recipe.heads}
    if names is None:
        _check_surplus(maps, images, folder)
        names = sorted(images)
    else:
        names = _listed(names, images, folder)
    locations = [
        SampleLocation(
            name,
            {main: MapLocation(images[name].location), **_companions(images[name], companions)},
            _labels_of(images[name], name, maps),
        )
        for name in names
    ]
    return LabelledImages(locations, {head.name: ground_truth(head, void) for head in recipe.heads})


def _images(folder: Path) -> dict[str, Reference]:
    """Return the images below a folder by name: their relative path without suffix."""
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}; put the images there")
    images: dict[str, Reference] = {}
    for image in ImageFolder(str(folder)):
        if isinstance(image, Failure):
            raise SourceError(f"{folder}/{image.key}: {image.reason}; correct or remove it")
        if image.stem in images:
            raise SourceError(f"{images[image.stem].location} and {image.location} have one name; rename one of them")
        images[image.stem] = image
    if not images:
        raise SourceError(f"the folder {folder} holds no images; put them there")
    return images


def _label_maps(folder: Path, head: HeadRecipe, recipe: Recipe) -> MapsOfHead:
    """Return the label maps of a head by name."""
    if len(recipe.heads) > 1:
        folder = folder / head.name
    maps = find_maps(str(folder))
    for same_name in maps.values():
        if len(same_name) > 1:
            raise SourceError(f"{same_name[0]} and {same_name[1]} are label maps of one image; remove one of them")
    return {name: same_name[0] for name, same_name in maps.items()}


def _check_surplus(maps: Mapping[str, MapsOfHead], images: Mapping[str, Reference], folder: Path) -> None:
    for head, locations in maps.items():
        surplus = sorted(locations.keys() - images.keys())
        if surplus:
            raise SourceError(
                f"{locations[surplus[0]]} has no image in {folder}; add it, or remove the label map ({head})"
            )


def _listed(names: Sequence[str], images: Mapping[str, Reference], folder: Path) -> list[str]:
    """Return the names of a list without image suffixes. Raises SourceError for a missing or repeated one."""
    stems = [_below(stem_of(name) if name not in images else name, images) for name in names]
    twice = sorted(name for name, count in Counter(stems).items() if count > 1)
    if twice:
        raise SourceError(f"a list names {twice[0]} in {folder} twice; give each image once")
    missing = sorted(set(stems) - images.keys())
    if missing:
        raise SourceError(
            f"there is no image {missing[0]} in {folder}, but a list names it; add it or correct the list"
        )
    return stems


def _below(name: str, images: Mapping[str, Reference]) -> str:
    """Return the name of an image whose path in a list begins above its folder: `data/images/a` for `a`."""
    parts = name.strip("/").split("/")
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    return name if name in images else next((end for end in ends if end in images), name)


def _companions(image: Reference, folders: Mapping[str, CompanionFolder]) -> dict[str, MapLocation]:
    try:
        return {modality: MapLocation(folder.find(image)) for modality, folder in folders.items()}
    except ImageError as error:
        raise SourceError(str(error)) from error


def _labels_of(image: Reference, name: str, maps: Mapping[str, MapsOfHead]) -> dict[str, MapLocation]:
    for head, locations in maps.items():
        if name not in locations:
            raise SourceError(f"{image.location} has no label map ({head}); expected {name}.png in its folder")
    return {head: locations[name] for head, locations in maps.items()}
