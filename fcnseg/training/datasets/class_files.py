"""Files that name the classes of a data set: `classes.txt` and `classes.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fcnseg.errors import SettingsError
from fcnseg.scoring.label_files import read_class_names
from fcnseg.training.datasets.classes import DatasetClasses, make_classes

COLORED = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)")
"""A line with a colour before the name: `64 128 64 animal`."""


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
