"""PASCAL VOC's segmentation, and the Semantic Boundaries Dataset (SBD), whose images are VOC's.

VOC (Everingham et al. 2010) lies as its development kit unpacks: `VOC2011/JPEGImages`, `SegmentationClass` (indexed
PNG, 255 void) and `ImageSets/Segmentation/train.txt`. SBD (Hariharan et al. 2011) lies as its release unpacks:
`dataset/img`, `cls` (`.mat`, `GTcls.Segmentation`), `train.txt` and `val.txt`.

SBD's training images and VOC's validation images overlap. As the authors do, training takes SBD's, and validation
VOC 2011's without SBD's training images: `seg11valid`, 736 images.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.io.lists import read_names
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import Recipe
from fcnseg.training.datasets.images import LabelledImages, SampleLocation, only_color, only_head
from fcnseg.training.datasets.label_maps import ground_truth

YEARS = ("VOC2011", "VOC2012")
"""Those that are taken first, where there are several."""

DEVKITS = (".", "VOCdevkit", "TrainVal/VOCdevkit")
SBD = (
    *(".", "dataset", "benchmark_RELEASE/dataset"),
    *("sbd", "SBD", "sbd/dataset", "SBD/dataset", "SBD/benchmark_RELEASE/dataset"),
)
LISTS = "ImageSets/Segmentation"
SEG11VALID = "seg11valid"


def voc_folder(data: Path, years: Sequence[str] = YEARS) -> Path | None:
    """Return the folder of the first of the years in or below a folder, or that folder itself; None without any.

    After the default years come all others, the latest first.
    """
    if (data / "JPEGImages").is_dir() and (data / "ImageSets").is_dir():
        return data
    places = [data / kit / year for year in years for kit in DEVKITS]
    if years is YEARS:
        others = [place for kit in DEVKITS for place in (data / kit).glob("VOC[0-9][0-9][0-9][0-9]")]
        places += sorted(others, key=lambda place: place.name, reverse=True)
    return next((place for place in places if (place / "JPEGImages").is_dir()), None)


def sbd_folder(data: Path) -> Path | None:
    """Return the folder of SBD with `img` and `cls`, None if there is none."""
    return next((data / place for place in SBD if (data / place / "cls").is_dir()), None)


def open_voc(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split of VOC: "train", "val", "trainval" or another list in `ImageSets/Segmentation`.

    Of two years in one folder, 2011 is taken. Raises SourceError for a missing list.
    """
    folder = voc_folder(data)
    if folder is None:
        raise SourceError(f"{data} holds no VOC of any year; give VOCdevkit, with VOC2012/JPEGImages in it")
    return _voc(folder, recipe, _listed(folder / LISTS, split))


def open_sbd(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open SBD's "train" or "trainval", never with a validation image; or for validation "val" or "seg11valid".

    Those are VOC's validation images that SBD does not train on, of VOC 2011 if it is there (only "val" may be of
    another year). Without any VOC, "val" is SBD's own. A list `seg11valid.txt` in `data` overrides the computed one.
    """
    folder = sbd_folder(data)
    if folder is None:
        raise SourceError(f"{data} holds no SBD; give the folder that its release unpacks to, with dataset/cls in it")
    train = _listed(folder, "train")
    voc = voc_folder(data)
    valid = _validation(data, voc, train)
    known = voc is not None and (voc.name == YEARS[0] or (data / f"{SEG11VALID}.txt").is_file())
    if split == SEG11VALID and not known:
        raise SourceError(f"{SEG11VALID} is of {YEARS[0]}, which {data} lacks; add it, or VOC2012 and {SEG11VALID}.txt")
    if split in ("val", SEG11VALID) and voc is not None:
        return _voc(voc, recipe, valid)
    if split == "val":
        return _sbd(folder, recipe, [name for name in _listed(folder, "val") if name not in set(train)])
    names = [*train, *_listed(folder, "val")] if split == "trainval" else _listed(folder, split)
    excluded = set(valid)
    return _sbd(folder, recipe, [name for name in dict.fromkeys(names) if name not in excluded])


def _validation(data: Path, voc: Path | None, train: Iterable[str]) -> list[str]:
    """Return the names of VOC's validation images that are not for training, empty without VOC."""
    if (data / f"{SEG11VALID}.txt").is_file():
        return list(read_names(data / f"{SEG11VALID}.txt"))
    trained = set(train)
    return [name for name in _listed(voc / LISTS, "val") if name not in trained] if voc is not None else []


def _listed(folder: Path, split: str) -> tuple[str, ...]:
    file = folder / f"{split}.txt"
    if not file.is_file():
        lists = ", ".join(sorted(path.stem for path in folder.glob("*.txt"))) or "none"
        raise SourceError(f"there is no list {file}; the splits there are: {lists}")
    return read_names(file)


def _voc(folder: Path, recipe: Recipe, names: Iterable[str]) -> LabelledImages:
    return labelled_files(recipe, names, "VOC", (folder / "JPEGImages", ".jpg"), (folder / "SegmentationClass", ".png"))


def _sbd(folder: Path, recipe: Recipe, names: Iterable[str]) -> LabelledImages:
    return labelled_files(recipe, names, "SBD", (folder / "img", ".jpg"), (folder / "cls", ".mat"))


def labelled_files(recipe: Recipe, names: Iterable[str], what: str, *places: tuple[Path, str]) -> LabelledImages:
    """Return the images and label maps of these names; each of the two `places` is a folder and a suffix."""
    only_color(recipe, what)
    head = only_head(recipe, what)
    locations = []
    for name in names:
        image, labels = (MapLocation(f"{folder}/{name}{suffix}") for folder, suffix in places)
        locations.append(SampleLocation(name, {"color": image}, {head.name: labels}))
    return LabelledImages(locations, {head.name: ground_truth(head)})
