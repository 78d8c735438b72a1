"""How data sets keep their ground truth: what their `.mat` files hold, and what their evaluations leave out.

Sources: the authors' release (`shelhamer/fcn.berkeleyvision.org` at 1305c73): `voc_layers.py`, `nyud_layers.py`,
`siftflow_layers.py`, `pascalcontext_layers.py`, and the class lists under `data/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fcnseg.labels import LabelSpace
from fcnseg.recipes import find_recipe

VARIABLES = ("GTcls", "S", "segmentation", "LabelMap")
"""Where `.mat` files keep their label map: SBD (its field `Segmentation`), SIFT Flow, NYUDv2, PASCAL-Context."""

COUNTED_FROM_ONE: Mapping[str, tuple[int, ...]] = {"S": (-1, 0), "segmentation": (0,)}
"""Variables whose classes count from 1, and the values that are void: -1 in SIFT Flow's geometric labels."""

RECIPES = {"S": "siftflow-fcn8s", "segmentation": "nyud-fcn32s-color"}
"""Recipes with the classes of the data sets that have these variables."""

CONTEXT = "LabelMap"
"""The variable with the 459 labels of PASCAL-Context, of which the task has 59; all others are background."""

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
    """What a data set's evaluation leaves out, and how it names the ground truth folders of its heads."""

    excluded_classes: frozenset[str] = frozenset()
    """Left out of the means as long as the ground truth has none of them."""
    excluded_images: frozenset[str] = frozenset()
    folders: Mapping[str, str] = field(default_factory=dict)


CONVENTIONS = {
    "siftflow": Convention(
        excluded_classes=frozenset({"cow", "desert", "moon"}),
        excluded_images=frozenset({"highway_bost181", "street_urb506"}),
        folders={"semantic": "SemanticLabels", "geometric": "GeoLabels"},
    ),
}
"""By how the names of recipes begin (up to the first hyphen)."""


def counted_from_one(space: LabelSpace) -> frozenset[str]:
    """The variables of `.mat` files whose data set has these classes: others may use the same name otherwise."""
    return frozenset(
        variable
        for variable, model in RECIPES.items()
        if any(head.labels.names == space.names for head in find_recipe(model).heads)
    )


def convention_of(model: str) -> Convention:
    """The convention of a recipe's data set."""
    return CONVENTIONS.get(model.partition("-")[0], Convention())
