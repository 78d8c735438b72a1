"""Files that name classes, in the order of their label values: texts, `class_dict.csv`, `classes.json`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnseg.errors import SettingsError
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.label_files import CLASS_DICT, is_class_dict, text_lines
from fcnseg.texts import read_text

COLORED = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)")
"""A line with a colour before the name: `64 128 64 animal`."""

COLORED_AFTER = re.compile(r"(.+?)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)")
"""A line of `class_dict.csv`: `animal,64,128,64`."""

LABELMAP = re.compile(r"(.+?)\s*:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?")
"""A line of CVAT's `labelmap.txt`: `label:color_rgb:parts:actions`."""

CLASS_FILES = ("classes.json", "classes.txt", CLASS_DICT, "labelmap.txt", "class_names.txt")
"""Files of a data set that name its classes; the first that is there is taken. The last two: of CVAT, of labelme."""

VOID_NAMES = ("void", "ignore")


@dataclass(frozen=True)
class DatasetClasses:
    """The classes that a data set brings, and the colour of void in its label maps if it names one.

    `values` is the class (or VOID) of each label value where void is not the last of them, else None: values are the
    classes.
    """

    labels: LabelSpace
    void_color: Color | None = None
    values: Mapping[int, int] | None = None
    colored: bool = False


def make_classes(
    names: tuple[str, ...], source: str, colors: tuple[Color, ...] = (), ignore: int | None = None
) -> DatasetClasses:
    """Make classes of names, and of colours if there are any.

    A name "void" or "ignore" is no class but the label value of void, if `ignore` is none other; the last one is also
    the label space's. Otherwise void is `ignore`, or 255 (65535 for more than 255 classes). Raises
    SettingsError that names the `source`.
    """
    void_color, values, colored = None, None, bool(colors)
    void = [i for i, name in enumerate(names) if name.lower() in VOID_NAMES]
    if len(void) == 1 and ignore in (None, void[0]):
        place, count = void[0], len(names)
        void_color = colors[place] if len(colors) == count else None
        names, colors = names[:place] + names[place + 1 :], colors[:place] + colors[place + 1 :]
        ignore = place if place == count - 1 else None
        if ignore is None:
            values = {i: VOID if i == place else i - (i > place) for i in range(count)}
    elif void:
        raise SettingsError(
            f"{source} calls two classes void, or one that has another index than its ignore; leave it out if void "
            "pixels are 255, else name void once"
        )
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"{source} names no class, or one twice; name each class once")
    ignore = ignore if ignore is not None else 255 if len(names) <= 255 else 65535
    if not len(names) <= ignore <= 65535:
        raise SettingsError(
            f"{source} takes {ignore} for void, but there are {len(names)} classes; take a value beyond"
        )
    colors = colors or tuple(voc_color(i % 256) for i in range(len(names)))
    if len(colors) != len(names):
        raise SettingsError(f"{source} has {len(colors)} colours for {len(names)} classes; give each its own")
    return DatasetClasses(LabelSpace(names, colors, ignore), void_color, values, colored)


def read_class_file(folder: Path) -> DatasetClasses | None:
    """Read the classes that a file in the folder names, None without such a file.

    It is one of CLASS_FILES, as `read_classes_of` takes them. Raises SettingsError for a malformed file.
    """
    file = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
    return None if file is None else read_classes_of(file)


def read_classes_of(file: Path) -> DatasetClasses:
    """Read a file of classes in the order of their label values, one of them perhaps void.

    Texts have a name a line, all after a colour or none, or before one as CVAT's `labelmap.txt`; `class_dict.csv` has
    lines `name,r,g,b` below these titles; `.json` is as `fcnseg run` writes it.

    Raises SettingsError for a malformed file.
    """
    return _read_json(file) if file.suffix.lower() == ".json" else _read_text(file)


def _read_text(file: Path) -> DatasetClasses:
    lines = text_lines(file, "class names")
    after = is_class_dict(lines)
    entries = lines[1:] if after else lines
    rows = _colored(entries, after)
    if len(rows) < len(entries) or not entries:
        if after:
            raise SettingsError(f"{file} has a line that is no name and colour; write `name,r,g,b` in each")
        return make_classes(tuple(entries), str(file))
    colors = tuple((int(r), int(g), int(b)) for _, r, g, b in rows)
    if max(map(max, colors)) > 255:
        raise SettingsError(f"{file} has a colour beyond 255; write red, green, blue and the name in each line")
    return make_classes(tuple(row[0] for row in rows), str(file), colors)


def _colored(entries: list[str], after: bool) -> list[tuple[str, str, str, str]]:
    """Return the name and the colour of each line that has both: in lines of `class_dict.csv` if `after`, else in those
    of a text or of `labelmap.txt`, whichever more lines are."""
    if after:
        return [(m[1], m[2], m[3], m[4]) for line in entries if (m := COLORED_AFTER.fullmatch(line))]
    before = [(m[4], m[1], m[2], m[3]) for line in entries if (m := COLORED.fullmatch(line))]
    return before or [(m[1], m[2], m[3], m[4]) for line in entries if (m := LABELMAP.fullmatch(line))]


def _read_json(file: Path) -> DatasetClasses:
    try:
        heads: dict[str, Any] = json.loads(read_text(file))
        (head,) = heads.values()
        classes = sorted(head["classes"], key=lambda entry: int(entry["index"]))
        if [int(entry["index"]) for entry in classes] != list(range(len(classes))):
            raise ValueError("indices")
        names = tuple(str(entry["name"]) for entry in classes)
        colors = tuple((int(r), int(g), int(b)) for r, g, b in (entry["color"] for entry in classes))
        ignore = int(head["ignore"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{file} is malformed; write it as `fcnseg run` does, for one head, or list the names in classes.txt"
        ) from error
    return make_classes(names, str(file), colors, ignore)
