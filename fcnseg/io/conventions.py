"""Conventions of data sets: the variables of their `.mat` ground truth, and the classes and images they exclude.

Sources: the authors' release (`shelhamer/fcn.berkeleyvision.org` at 1305c73): `voc_layers.py`, `nyud_layers.py`,
`siftflow_layers.py`, `pascalcontext_layers.py`, and the class lists under `data/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from fcnseg.labels import LabelSpace
from fcnseg.recipes import find_recipe, recipe_names

VARIABLES = ("GTcls", "S", "segmentation", "LabelMap")
"""Variables that hold the label map: SBD (its field `Segmentation`), SIFT Flow, NYUDv2, PASCAL-Context."""

CONTEXT = "LabelMap"
"""The variable with PASCAL-Context's 459 labels. The task has 59 of them; all others are background."""

# fmt: off
CONTEXT_LABELS = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedcloth": 19, "bench": 22, "bicycle": 23, "bird": 25, "boat": 31,
    "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46, "car": 59, "cat": 65, "ceiling": 68,
    "chair": 72, "clothes": 80, "computer": 85, "cow": 98, "cup": 104, "curtain": 105, "diningtable": 397,
    "dog": 113, "door": 115, "fence": 144, "floor": 158, "flower": 159, "food": 162, "grass": 187, "ground": 189,
    "horse": 207, "keyboard": 220, "light": 232, "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284,
    "plate": 295, "platform": 296, "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349,
    "sidewalk": 354, "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "track": 415, "train": 416,
    "tree": 420, "truck": 424, "tvmonitor": 427, "wall": 440, "water": 445, "window": 454, "wood": 458,
}
"""PASCAL-Context's label of each class (`classes-400.txt`; its bedclothes, cloth and table are the task's bedcloth,
clothes and diningtable)."""
# fmt: on

CONTEXT_LABEL_COUNT = 459


@dataclass(frozen=True)
class Convention:
    """Conventions of a data set: how its ground truth is stored, and what its evaluation leaves out."""

    one_based: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Variables of `.mat` files whose classes count from 1, with their void values."""
    excluded_classes: frozenset[str] = frozenset()
    """Left out of the means as long as the ground truth has none of them."""
    excluded_images: frozenset[str] = frozenset()
    void: tuple[int, ...] = ()
    """Label values that do not count, besides the recipes'."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """The ground truth folder of each head."""


CONVENTIONS = {
    "camvid": Convention(void=(11,)),  # after its 11 classes, as SegNet's authors prepared it
    "nyud": Convention(one_based={"segmentation": (0,)}),
    "siftflow": Convention(
        one_based={"S": (-1, 0)},  # -1 in the geometric labels
        excluded_classes=frozenset({"cow", "desert", "moon"}),
        excluded_images=frozenset({"highway_bost181", "street_urb506"}),
        folders={"semantic": "SemanticLabels", "geometric": "GeoLabels"},
    ),
}
"""By the `dataset` of recipes; data sets that are not listed have no conventions of this kind."""


def convention_of(dataset: str) -> Convention:
    """Return the conventions of a recipe's `dataset`."""
    return CONVENTIONS.get(dataset, Convention())


def one_based_variables(space: LabelSpace) -> dict[str, tuple[int, ...]]:
    """Return `Convention.one_based` of the data set with these class names, empty for other classes.

    Other data sets may use the same variables for labels that count from 0.
    """
    return {
        variable: void
        for dataset, convention in CONVENTIONS.items()
        if space.names in _class_names(dataset)
        for variable, void in convention.one_based.items()
    }


@cache
def _class_names(dataset: str) -> frozenset[tuple[str, ...]]:
    """The class names of each head of the shipped recipes for a data set."""
    recipes = (recipe for recipe in map(find_recipe, recipe_names()) if recipe.dataset == dataset)
    return frozenset(head.labels.names for recipe in recipes for head in recipe.heads)
