"""The label values and colours of published data sets, by the names that `--labels` takes.

Sources: `label_sets/cityscapes.csv` is `cityscapesscripts/helpers/labels.py` (Cordts et al. 2016); `ade20k.csv` the 150
classes of the SceneParsing challenge (Zhou et al. 2017) with the colours of its `color150`; `camvid32.csv` the
`label_colors.txt` of CamVid (Brostow et al. 2009), its `group` the 11 classes of Sturgess et al. 2009 as MathWorks'
example for SegNet writes them out. The others are the shipped recipes' classes.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from fcnseg.errors import SettingsError
from fcnseg.labels import Color, LabelSpace
from fcnseg.recipes import find_recipe
from fcnseg.scoring.codes import VOID

UNNAMED = re.compile(r"class \d+")
"""Names of the classes that `--classes N` makes."""


@dataclass(frozen=True)
class NamedLabels:
    """The classes of a data set, and the class (or VOID) of each label value and each colour of its label maps.

    `groups` are the names of coarser classes that its classes are commonly merged into, None where it has none.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    values: Mapping[int, int]
    color_codes: Mapping[Color, int] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None

    @property
    def space(self) -> LabelSpace:
        """The classes as a label space."""
        return LabelSpace(self.classes, self.colors)

    def encode(self, space: LabelSpace) -> tuple[dict[int, int], dict[Color, int]]:
        """Return the codes in a label space of its label values and of its colours.

        Classes are matched by their names, their groups' names, or by number if those of `space` have no names. Raises
        SettingsError for a class that `space` lacks.
        """
        codes = self._codes_in(space)
        return (
            {value: VOID if code == VOID else codes[code] for value, code in self.values.items()},
            {color: VOID if code == VOID else codes[code] for color, code in self.color_codes.items()},
        )

    def fits(self, space: LabelSpace) -> bool:
        """Tell if its classes, or their groups, are among those of a label space."""
        try:
            self._codes_in(space)
        except SettingsError:
            return False
        return True

    def _codes_in(self, space: LabelSpace) -> list[int]:
        if space.classes == len(self.classes) and all(map(UNNAMED.fullmatch, space.names)):
            return [*range(space.classes)]
        places = {_plain(name): i for i, name in enumerate(space.names)}
        for names in (self.classes, self.groups):
            if names and all(_plain(name) in places for name in names if name):
                return [places[_plain(name)] for name in names]
        missing = [name for name in self.classes if _plain(name) not in places]
        raise SettingsError(
            f"--labels {self.name}: there is no class {', '.join(missing[:3])}{' ...' * (len(missing) > 3)} among "
            f"{', '.join(space.names[:3])}{' ...' * (space.classes > 3)}; leave --model and --classes away to compare "
            "the data set's own, or write a --label-map"
        )


def _plain(name: str) -> str:
    """Return a name without case, blanks and marks: "traffic light" and "Traffic_Light" are one class."""
    return re.sub(r"[\W_]+", "", name).casefold()


def named_labels(name: str) -> NamedLabels:
    """Return the labels of a data set by name. Raises SettingsError for an unknown one."""
    if name not in _MAKERS:
        raise SettingsError(f"--labels is {name!r}; known are {', '.join(_MAKERS)}")
    return _made(name)


@cache
def _made(name: str) -> NamedLabels:
    return _MAKERS[name](name)


def _from_file(name: str) -> NamedLabels:
    text = (files("fcnseg.scoring") / "label_sets" / f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    counted = [row for row in rows if row["class"] != "void"]
    numbers = {row["class"]: i for i, row in enumerate(counted)}
    codes = {int(row["value"]): numbers.get(row["class"], VOID) for row in rows}
    colors = {int(row["value"]): (int(row["r"]), int(row["g"]), int(row["b"])) for row in rows}
    own = tuple(colors[int(row["value"])] for row in counted)
    groups = tuple(row["group"] for row in counted) if "group" in counted[0] else None
    return NamedLabels(name, tuple(row["class"] for row in counted), own, codes, _unique(colors, codes), groups)


def _unique(colors: Mapping[int, Color], codes: Mapping[int, int]) -> dict[Color, int]:
    """Return the code of each colour, without those of two classes; of a class and of void it is the class's.

    Cityscapes draws its licence plates (void) as cars, and groups of poles (void) as poles.
    """
    distinct = {(color, codes[value]) for value, color in colors.items()}
    classes = {(color, code) for color, code in distinct if code != VOID}
    times = Counter(color for color, _ in classes)
    return dict.fromkeys((color for color, _ in distinct - classes), VOID) | {
        color: code for color, code in classes if times[color] == 1
    }


def _train_ids(name: str) -> NamedLabels:
    labels = named_labels("cityscapes")
    values = {i: i for i in range(len(labels.classes))} | {255: VOID, -1: VOID}
    return NamedLabels(name, labels.classes, labels.colors, values, labels.color_codes)


def _of_recipe(recipe: str, first: int, *void: int) -> Callable[[str], NamedLabels]:
    """Return a maker of labels with the classes of a recipe, numbered from `first`, and these void values."""

    def make(name: str) -> NamedLabels:
        space = find_recipe(recipe).heads[0].labels
        values = {first + i: i for i in range(space.classes)} | dict.fromkeys(void, VOID)
        times = Counter(space.colors)
        colors = {color: i for i, color in enumerate(space.colors) if times[color] == 1}
        return NamedLabels(name, space.names, space.colors, values, colors)

    return make


def _voc(name: str) -> NamedLabels:
    labels = _of_recipe("voc-fcn8s", 0, 255)(name)
    return NamedLabels(
        name, labels.classes, labels.colors, labels.values, {**labels.color_codes, (224, 224, 192): VOID}
    )


_MAKERS: dict[str, Callable[[str], NamedLabels]] = {
    "ade20k": _from_file,
    "camvid": _of_recipe("street-fcn8s", 0, 11, 255),
    "camvid32": _from_file,
    "cityscapes": _from_file,
    "cityscapes-train-ids": _train_ids,
    "nyud": _of_recipe("nyud-fcn32s-color", 1, 0),
    "pascalcontext": _of_recipe("pascalcontext-fcn8s", 0, 255),
    "voc": _voc,
}
NAMES = tuple(_MAKERS)
