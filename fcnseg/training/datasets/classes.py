"""The classes of a data set, where it says them itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnseg.errors import SettingsError
from fcnseg.io.names import is_hdf5_name
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.scoring.label_files import read_class_names

VOID_NAMES = ("void", "ignore")

COLORED = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)")
"""A line of a colour and a name."""


@dataclass(frozen=True)
class Classes:
    """The classes that a data set brings, and the colour of void in its label maps where it says that."""

    labels: LabelSpace
    void_color: Color | None = None


def described_classes(data: Path) -> Classes | None:
    """The classes that the data set brings, None if it leaves them to the recipe.

    From `classes.txt`, a name a line, of which the last may be `void` and then is no class, all after a colour
    (`64 128 64 animal`) or none; `classes.json` as `fcnseg run` writes it, where void may be the last too; of an HDF5
    file the attribute `classes` of its labels, with `colors` and `ignore` if they are there. Raises SettingsError for
    what is not understood.
    """
    if data.is_file() and is_hdf5_name(str(data)):
        from fcnseg.training.datasets.hdf5 import hdf5_classes

        return hdf5_classes(data)
    for name, read in (("classes.json", _from_json), ("classes.txt", _from_text)):
        if (data / name).is_file():
            return read(data / name)
    return None


def classes_of(
    names: tuple[str, ...], where: str, colors: tuple[Color, ...] = (), ignore: int | None = None
) -> Classes:
    """Classes of these names; void is the last of them if it is called so (unless `ignore` is another value), else
    `ignore` or else 255 (65535 beyond 255 classes). Raises SettingsError, naming `where` they are from, if they
    contradict each other."""
    last, void_color = len(names) - 1, None
    if names and names[-1].lower() in VOID_NAMES and ignore in (None, last):
        void_color = colors[last] if len(colors) == len(names) else None
        names, colors, ignore = names[:-1], colors[:last], last
    if any(name.lower() in VOID_NAMES for name in names):
        raise SettingsError(
            f"{where} calls a class void that is not the last or has another index than its ignore; leave it out if "
            "void pixels are 255, else name it last"
        )
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"{where} names no class, or one twice; name each class once")
    ignore = ignore if ignore is not None else 255 if len(names) <= 255 else 65535
    if not len(names) <= ignore <= 65535:
        raise SettingsError(f"{where} takes {ignore} for void, but there are {len(names)} classes; take a value beyond")
    colors = colors or tuple(voc_color(i % 256) for i in range(len(names)))
    if len(colors) != len(names):
        raise SettingsError(f"{where} has {len(colors)} colours for {len(names)} classes; give each its own")
    return Classes(LabelSpace(names, colors, ignore), void_color)


def _from_text(file: Path) -> Classes:
    names = read_class_names(file)
    lines = [match for name in names if (match := COLORED.fullmatch(name))]
    if len(lines) < len(names):
        return classes_of(names, str(file))
    colors = tuple((int(r), int(g), int(b)) for r, g, b, _ in (line.groups() for line in lines))
    if max(map(max, colors)) > 255:
        raise SettingsError(f"{file} has a colour beyond 255; write red, green, blue and the name in each line")
    return classes_of(tuple(line[4] for line in lines), str(file), colors)


def _from_json(file: Path) -> Classes:
    try:
        heads: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        (head,) = heads.values()
        classes = sorted(head["classes"], key=lambda one: int(one["index"]))
        if [int(one["index"]) for one in classes] != list(range(len(classes))):
            raise ValueError("indices")
        names = tuple(str(one["name"]) for one in classes)
        colors = tuple((int(r), int(g), int(b)) for r, g, b in (one["color"] for one in classes))
        ignore = int(head["ignore"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{file} is not understood; write it as `fcnseg run` does, for one head, or list the names in classes.txt"
        ) from error
    return classes_of(names, str(file), colors, ignore)
