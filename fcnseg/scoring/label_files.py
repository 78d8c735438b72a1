"""Text files of a user: names of classes, classes of label values, classes of colours."""

import json
import re
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.labels import Color, LabelSpace
from fcnseg.scoring.codes import VOID


def read_class_names(file: Path) -> tuple[str, ...]:
    """Read the names of classes, one a line. Raises SettingsError for a file without any, or with one twice."""
    names = _lines(file, "class names")
    if len(set(names)) < len(names):
        raise SettingsError(f"{file} names a class twice; give each its own line")
    return tuple(names)


def read_label_map(file: Path, space: LabelSpace) -> dict[int, int]:
    """Read the codes of label values: lines of a value and its class (name or index) or `void`.

    Between them is `:`, `=`, `,`, `->` or a blank, e.g. `7: road`. Or a `.json` file, `{"7": "road"}`. Values without a
    line may not occur. Raises SettingsError that names every line that is not understood.
    """
    table, faults = dict[int, int](), []
    lines = _lines(file, "label map")
    if file.suffix.lower() == ".json":
        lines = _json_lines(file, "\n".join(lines))
    for line in lines:
        match = re.fullmatch(r"[\"']?(-?\d+)[\"']?\s*(?:->|[:=,\s])\s*(.+)", line)
        code = _code(match[2], space) if match else None
        if not match or code is None or int(match[1]) in table:
            faults.append(line)
        else:
            table[int(match[1])] = code
    _refuse(file, faults, "`VALUE: CLASS`, each value once; CLASS is a name or index of the model, or void")
    return table


def read_palette(file: Path, space: LabelSpace) -> dict[Color, int]:
    """Read the codes of colours: lines of red, green, blue (0..255) and a class (name or index) or `void`.

    Either comes first. Without any class named, the colours are those of all classes in their order. Raises
    SettingsError that names every line that is not understood.
    """
    table, faults = dict[Color, int](), []
    split = [(line, [w for w in re.split(r"[\s,;:()\[\]]+", line) if w]) for line in _lines(file, "palette")]
    if len(split) == space.classes and all(len(words) == 3 for _, words in split):
        split = [(line, [*words, str(index)]) for index, (line, words) in enumerate(split)]
    for line, words in split:
        readings = (_color(words[:3]), " ".join(words[3:])), (_color(words[-3:]), " ".join(words[:-3]))
        codes = [(color, code) for color, name in readings if color and (code := _code(name, space)) is not None]
        if not codes or codes[0][0] in table:
            faults.append(line)
        else:
            table[codes[0][0]] = codes[0][1]
    _refuse(file, faults, "`RED GREEN BLUE CLASS`, each colour once; CLASS is a name or index of the model, or void")
    return table


def _lines(file: Path, kind: str) -> list[str]:
    """Return the lines of a text file without comments (from ` #` or a leading #) and empty lines."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
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
