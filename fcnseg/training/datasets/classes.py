"""The classes that a data set brings, and the files that name them: `classes.txt` and `classes.json`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnseg.errors import SettingsError
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.scoring.label_files import read_class_names

COLORED = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)")
"""A line with a colour before the name: `64 128 64 animal`."""

VOID_NAMES = ("void", "ignore")


@dataclass(frozen=True)
class DatasetClasses:
    """The classes that a data set brings, and the colour of void in its label maps if it names one."""

    labels: LabelSpace
    void_color: Color | None = None


def make_classes(
    names: tuple[str, ...], source: str, colors: tuple[Color, ...] = (), ignore: int | None = None
) -> DatasetClasses:
    """Make classes of names, and of colours if there are any.

    A last name "void" or "ignore" is the void label instead of a class, unless `ignore` is another value. Otherwise
    void is `ignore`, or 255 (65535 for more than 255 classes). Raises SettingsError that names the `source`.
    """
    last, void_color = len(names) - 1, None
    if names and names[-1].lower() in VOID_NAMES and ignore in (None, last):
        void_color = colors[last] if len(colors) == len(names) else None
        names, colors, ignore = names[:-1], colors[:last], last
    if any(name.lower() in VOID_NAMES for name in names):
        raise SettingsError(
            f"{source} calls a class void that is not the last or has another index than its ignore; leave it out if "
            "void pixels are 255, else name it last"
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
    return DatasetClasses(LabelSpace(names, colors, ignore), void_color)


def read_class_file(folder: Path) -> DatasetClasses | None:
    """Read the classes that a file in the folder names, None without such a file.

    `classes.json` is as `fcnseg run` writes it. `classes.txt` has a name a line, all after a colour or none. In both
    the last class may be void. Raises SettingsError for a malformed file.
    """
    for name, read in (("classes.json", _read_json), ("classes.txt", _read_text)):
        if (folder / name).is_file():
            return read(folder / name)
    return None


def _read_text(file: Path) -> DatasetClasses:
    names = read_class_names(file)
    lines = [match for name in names if (match := COLORED.fullmatch(name))]
    if len(lines) < len(names):
        return make_classes(names, str(file))
    colors = tuple((int(r), int(g), int(b)) for r, g, b, _ in (line.groups() for line in lines))
    if max(map(max, colors)) > 255:
        raise SettingsError(f"{file} has a colour beyond 255; write red, green, blue and the name in each line")
    return make_classes(tuple(line[4] for line in lines), str(file), colors)


def _read_json(file: Path) -> DatasetClasses:
    try:
        heads: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
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
