"""PASCAL-Context (Mottaghi et al. 2014): whole-scene labels of VOC 2010, of which the task has 59 and background.

On disk: `trainval/*.mat` (`LabelMap`, 459 labels) with `labels.txt` beside it, and VOC 2010 with the images and the
lists of `ImageSets/Main`. Labels are matched with the recipe's classes by name; all others are background, as in the
authors' release.
"""

import re
from pathlib import Path

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.conventions import CONTEXT_LABEL_COUNT, CONTEXT_LABELS
from fcnseg.io.lists import read_names
from fcnseg.recipes import Recipe
from fcnseg.scoring.label_encoding import context_codes
from fcnseg.training.datasets.images import LabelledImages, only_color, only_head
from fcnseg.training.datasets.voc import labelled_files, voc_folder

YEARS = ("VOC2010",)
LISTS = ("Main", "Segmentation", "SegmentationContext")

ALIASES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
"""Names in `labels.txt` of three of the task's classes (the release's `pascalcontext_layers.py`)."""


def is_context(data: Path, recipe: Recipe) -> bool:
    """Tell whether a folder has the label maps, and the recipe only classes of the data set, after background."""
    return context_codes(recipe.heads[0].labels.names) is not None and any((data / "trainval").glob("*.mat"))


def open_context(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split: a list of VOC 2010's `ImageSets/Main`, "train", "val" or "trainval".

    Raises SourceError that names what is missing, SettingsError for a recipe of other classes or a `labels.txt` with
    other numbers.
    """
    only_color(recipe, "PASCAL-Context")
    only_head(recipe, "PASCAL-Context")
    if not is_context(data, recipe):
        if not (data / "trainval").is_dir():
            raise SourceError(f"there is no folder {data}/trainval; put the label maps of PASCAL-Context there (.mat)")
        raise SettingsError(f"{recipe.name} has classes that PASCAL-Context has not; use a pascalcontext recipe's")
    voc = voc_folder(data, YEARS)
    if voc is None:
        raise SourceError(f"{data} holds no VOC2010; put it there, with JPEGImages and ImageSets/Main in it")
    if (data / "labels.txt").is_file():
        _check_numbers(data / "labels.txt")
    lists = [voc / "ImageSets" / folder / f"{split}.txt" for folder in LISTS]
    file = next((file for file in lists if file.is_file()), None)
    if file is None:
        raise SourceError(f"there is no list {lists[0]}; PASCAL-Context has train, val and trainval")
    places = (voc / "JPEGImages", ".jpg"), (data / "trainval", ".mat")
    return labelled_files(recipe, read_names(file), "PASCAL-Context", *places)


def _check_numbers(file: Path) -> None:
    """Raise SettingsError unless `labels.txt` (lines `2: aeroplane`) has the numbers that label maps are read by."""
    lines = re.findall(r"^\s*(\d+)\s*:\s*(.+?)\s*$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    numbers = {name.replace(" ", ""): int(number) for number, name in lines}
    for name, number in CONTEXT_LABELS.items():
        if numbers.get(ALIASES.get(name, name)) != number:
            raise SettingsError(
                f"{file} does not give {ALIASES.get(name, name)} the number {number}; it must be the data set's own, "
                f"of {CONTEXT_LABEL_COUNT} labels"
            )
