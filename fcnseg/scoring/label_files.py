"""Text files of a user: classes of label values, and classes of colours."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.labels import Color, LabelSpace
from fcnseg.scoring.codes import VOID
from fcnseg.texts import read_text

CLASS_DICT = "class_dict.csv"
"""The name under which classes and their colours are often kept, in lines `name,r,g,b` below these titles."""

TITLES = re.compile(r"names?\s*,\s*r(ed)?\s*,\s*g(reen)?\s*,\s*b(lue)?", re.IGNORECASE)

MAX_RANGE = 65536


def is_class_dict(lines: Sequence[str]) -> bool:
    """Tell if the lines of a file begin with the titles of `class_dict.csv`."""
    return bool(TITLES.fullmatch(lines[0]))


def is_only_void(table: Mapping[int, int]) -> bool:
    """Tell if a label map names no class, so that it leaves all other values as they are."""
    return all(code == VOID for code in table.values())


def read_label_map(file: Path, space: LabelSpace) -> dict[int, int]:
    """Read the codes of label values: lines of a value, or a range of them, and its class (name or index) or `void`.

    Between them is `:`, `=`, `,`, `->` or a blank, e.g. `7: road` or `1-3: void`. Or a `.json` file, `{"7": "road"}`.
    Values without a line may not occur. Raises SettingsError that names every line that is not understood.
    """
    table, faults = dict[int, int](), []
    lines = text_lines(file, "label map")
    if file.suffix.lower() == ".json":
        lines = _json_lines(file, "\n".join(lines))
    for line in lines:
        match = re.fullmatch(RANGE + r"\s*(?:->|[:=,\s])\s*(.+)", line)
        code = _code(match[3], space) if match else None
        values = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if code is None or not 0 < len(values) <= MAX_RANGE or not table.keys().isdisjoint(values):
            faults.append(line)
        else:
            table |= dict.fromkeys(values, code)
    allowed = "`VALUE: CLASS` or `FIRST-LAST: CLASS`, each value once; CLASS is a name or index of the model, or void"
    allowed = "`VALUE: CLASS` or `FIRST-LAST: CLASS`, each value once; CLASS is a name or index of the model, or void"
    _refuse(file, faults, allowed)
    return table


RANGE = r"[\"']?(-?\d+)(?:\s*(?:-|\.\.|to)\s*(-?\d+))?[\"']?"
"""A value, or the first and the last of a range."""


def read_palette(file: Path, space: LabelSpace) -> dict[Color, int]:
    """Read the codes of colours: lines of red, green, blue (0..255) and a class (name or index) or `void`.

    Either comes first, and the titles of `class_dict.csv` may stand above. Without any class named, the colours are
    those of all classes in their order. Raises
    SettingsError that names every line that is not understood.
    """
    table, faults = dict[Color, int](), []
    lines = text_lines(file, "palette")
    titled = is_class_dict(lines)
    lines = lines[1:] if titled else lines
    split = [(line, [w for w in re.split(r"[\s,;:()\[\]]+", line) if w]) for line in lines]
    if len(split) == space.classes and all(len(words) == 3 for _, words in split):
        split = [(line, [*words, str(index)]) for index, (line, words) in enumerate(split)]
    for line, words in split:
        readings = [(_color(words[:3]), " ".join(words[3:])), (_color(words[-3:]), " ".join(words[:-3]))]
        readings = readings[titled:]  # below titles the name comes first
        codes = [(color, code) for color, name in readings if color and (code := _code(name, space)) is not None]
        if not codes or codes[0][0] in table:
            faults.append(line)
        else:
            table[codes[0][0]] = codes[0][1]
    _refuse(file, faults, "`RED GREEN BLUE CLASS`, each colour once; CLASS is a name or index of the model, or void")
    return table


def text_lines(file: Path, kind: str) -> list[str]:
    """Return the lines of a text file without comments (from ` #` or a leading #) and empty lines."""
    try:
        text = read_text(file)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"the {kind} {file} cannot be read: {reason}; give a text file") from error
    lines = [re.split(r"(?:^|\s)#", line)[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise SettingsError(f"the {kind} {file} is empty; give one entry a line")
    return lines


def _json_lines(file: Path, text: str) -> list[str]:
    try:
        return [f"{value}: {name}" for value, name in json.loads(text).items()]
    except (ValueError, AttributeError) as error:
        raise SettingsError(f'{file} is no JSON object of values and classes; e.g. {{"7": "road"}}') from error


def _color(words: list[str]) -> Color | None:
    if len(words) != 3 or not all(w.isdecimal() and int(w) < 256 for w in words):
        return None
    return int(words[0]), int(words[1]), int(words[2])


def _code(name: str, space: LabelSpace) -> int | None:
    """Return the code of a class's name or index, None if there is no such class."""
    name = name.strip().strip("\"'")
    if name.lower() in ("void", "ignore", "unlabelled", "unlabeled") and name not in space.names:
        return VOID
    for index, known in enumerate(space.names):
        if name.lower() == known.lower():
            return index
    if name.isdecimal():
        return int(name) if int(name) < space.classes else VOID if int(name) == space.ignore else None
    return None


def _refuse(file: Path, faults: list[str], allowed: str) -> None:
    if faults:
        more = f" and {len(faults) - 3} more lines" if len(faults) > 3 else ""
        raise SettingsError(f"{file}: {', '.join(map(repr, faults[:3]))}{more} is not understood; allowed is {allowed}")
