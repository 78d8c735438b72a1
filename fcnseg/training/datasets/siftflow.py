"""SIFT Flow (Liu et al. 2009): 33 semantic and 3 geometric classes of the same images.

On disk, as it unpacks: `Images`, `SemanticLabels` and `GeoLabels`, each with a folder
`spatial_envelope_256x256_static_8outdoorcategories` of `.jpg` or `.mat` (`S`), and the release's `trainval.txt` and
`test.txt` beside them. Two images without annotation are left out.
"""

from pathlib import Path

from fcnseg.errors import SettingsError, SourceError
from fcnseg.io.conventions import CONVENTIONS
from fcnseg.io.lists import read_names
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import Recipe
from fcnseg.training.datasets.images import LabelledImages, SampleLocation, only_color
from fcnseg.training.datasets.label_maps import ground_truth
from fcnseg.training.datasets.splits import check_disjoint

CATEGORIES = "spatial_envelope_256x256_static_8outdoorcategories"
CONVENTION = CONVENTIONS["siftflow"]

LISTS = {"train": ("train", "trainval"), "val": ("val", "test")}
"""Names of the list of a split, in order of preference."""


def is_siftflow(data: Path) -> bool:
    """Tell whether a folder is SIFT Flow."""
    return (data / "Images" / CATEGORIES).is_dir()


def open_siftflow(data: Path, recipe: Recipe, split: str) -> LabelledImages:
    """Open a split: a list in the folder. Without own lists, "train" is `trainval.txt` and "val" `test.txt`.

    The recipe's heads are "semantic", "geometric" or both. Raises SourceError that names what is missing.
    """
    only_color(recipe, "SIFT Flow")
    for head in recipe.heads:
        if head.name not in CONVENTION.folders:
            raise SettingsError(
                f"{recipe.name} has the head {head.name}; those of SIFT Flow are semantic and geometric"
            )
    names = _names(data, split)
    if split in LISTS:
        check_disjoint(_names(data, "train"), _names(data, "val"), f"the lists of {data}")
    locations = [
        SampleLocation(
            name,
            {"color": MapLocation(f"{data}/Images/{CATEGORIES}/{name}.jpg")},
            {
                head.name: MapLocation(f"{data}/{CONVENTION.folders[head.name]}/{CATEGORIES}/{name}.mat")
                for head in recipe.heads
            },
        )
        for name in names
        if name not in CONVENTION.excluded_images
    ]
    return LabelledImages(
        locations, {head.name: ground_truth(head, one_based=CONVENTION.one_based) for head in recipe.heads}
    )


def _names(data: Path, split: str) -> tuple[str, ...]:
    candidates = [data / f"{name}.txt" for name in LISTS.get(split, (split,))]
    file = next((file for file in candidates if file.is_file()), None)
    if file is None:
        raise SourceError(f"there is no list {' or '.join(map(str, candidates))}; put the release's there")
    return read_names(file)
