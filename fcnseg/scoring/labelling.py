"""Which classes are scored: from a recipe, from the record of the run that predicted, or from their number."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnseg.errors import SettingsError
from fcnseg.io.run_records import run_record
from fcnseg.labels import Color, LabelSpace, voc_color
from fcnseg.recipes import DEFAULT_MODEL, HeadRecipe, find_recipe, recipe_names
from fcnseg.scoring.meaning import VOID


@dataclass(frozen=True)
class Labelling:
    """The heads of a model, whether its colours are known, and the data set whose conventions it follows ("": none)."""

    model: str
    heads: tuple[HeadRecipe, ...]
    colored: bool = True
    dataset: str = ""


def find_labelling(model: str | None, classes: str | None, binary: bool, predictions: str) -> Labelling:
    """The classes of a model; of a file with one name a line, or so many; of binary masks; or of the run that wrote
    `predictions`, or of the default model.

    Raises SettingsError if two of these are given, or for a recipe or file that cannot be read.
    """
    if (model is not None) + (classes is not None) + (binary and model is None) > 1:
        raise SettingsError("--model, --classes and --binary each say what the classes are; give one of them")
    if classes is not None:
        return Labelling("", (HeadRecipe("labels", _plain_space(_class_names(classes))),), colored=False)
    if binary and model is None:
        return Labelling("", (HeadRecipe("labels", _plain_space(("background", "foreground"))),), colored=False)
    recipe = find_recipe(model or _recorded_model(predictions) or DEFAULT_MODEL)
    return Labelling(recipe.name, recipe.heads, dataset=recipe.dataset)


def _recorded_model(predictions: str) -> str | None:
    """The recipe of the run that made the predictions, if it is still there."""
    record = run_record(predictions)
    chosen = (record.get("settings") or {}).get("engine") or {}
    model = str(chosen.get("model") or record.get("engine", {}).get("model") or "")
    return model if model in recipe_names() or Path(model).is_file() else None


def recorded_classes(predictions: str) -> dict[str, Any]:
    """The class names of each head of the run that made the predictions, empty if it left no record."""
    heads = run_record(predictions).get("engine", {}).get("heads")
    return heads if isinstance(heads, dict) else {}


def _class_names(classes: str) -> tuple[str, ...]:
    if classes.isdecimal():
        if not 1 <= int(classes) <= MOST_CLASSES:
            raise SettingsError(f"--classes is {classes}; it must be from 1 to {MOST_CLASSES}")
        return tuple(f"class {i}" for i in range(int(classes)))
    names = [line.strip() for line in _lines(Path(classes), "class names")]
    if len(set(names)) < len(names):
        raise SettingsError(f"{classes} names a class twice; give each its own line")
    return tuple(names)


MOST_CLASSES = 4096
"""Beyond, a confusion matrix takes more than 128 MiB."""


def _plain_space(names: tuple[str, ...]) -> LabelSpace:
    colors = tuple(voc_color(i % 256) for i in range(len(names)))
    return LabelSpace(names, colors, 255 if len(names) <= 255 else 65535)


def _lines(file: Path, what: str) -> list[str]:
    """The lines of a text file without comments (from ` #` or a leading #) and empty ones."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"the {what} {file} cannot be read: {reason}; give a text file") from error
    lines = [re.split(r"(?:^|\s)#", line)[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise SettingsError(f"the {what} {file} is empty; give one entry a line")
    return lines


def read_label_map(file: Path, space: LabelSpace) -> dict[int, int]:
    """A translation of ground truth values: lines of a value and its class (name or index) or `void`.

    Between them `:`, `=`, `,`, `->` or blanks, e.g. `7: road`; or a `.json` file, `{"7": "road"}`. Values without a
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


def _json_lines(file: Path, text: str) -> list[str]:
    try:
        return [f"{value}: {name}" for value, name in json.loads(text).items()]
    except (ValueError, AttributeError) as error:
        raise SettingsError(f'{file} is no JSON object of values and classes; e.g. {{"7": "road"}}') from error


def read_palette(file: Path, space: LabelSpace) -> dict[Color, int]:
    """The classes of colours: lines of red, green, blue (0..255) and a class (name or index) or `void`, either first.

    Without any class named, the colours are those of all classes in their order. Raises SettingsError that names every
    line that is not understood.
    """
    table, faults = dict[Color, int](), []
    split = [(line, [w for w in re.split(r"[\s,;:()\[\]]+", line) if w]) for line in _lines(file, "palette")]
    if len(split) == space.classes and all(len(words) == 3 for _, words in split):
        split = [(line, [*words, str(index)]) for index, (line, words) in enumerate(split)]
    for line, words in split:
        first = _color(words[:3]), " ".join(words[3:])
        last = _color(words[-3:]), " ".join(words[:-3])
        found = [(c, code) for c, n in (first, last) if c and (code := _code(n, space)) is not None]
        if not found or found[0][0] in table:
            faults.append(line)
        else:
            table[found[0][0]] = found[0][1]
    _refuse(file, faults, "`RED GREEN BLUE CLASS`, each colour once; CLASS is a name or index of the model, or void")
    return table


def _color(words: list[str]) -> Color | None:
    if len(words) != 3 or not all(w.isdecimal() and int(w) < 256 for w in words):
        return None
    return int(words[0]), int(words[1]), int(words[2])


def _code(name: str, space: LabelSpace) -> int | None:
    """The code of a class's name or index, None if there is no such class."""
    name = name.strip().strip("\"'")
    if name.lower() in ("void", "ignore", "unlabelled", "unlabeled") and name not in space.names:
        return VOID
    for i, known in enumerate(space.names):
        if name.lower() == known.lower():
            return i
    if name.isdecimal():
        return int(name) if int(name) < space.classes else VOID if int(name) == space.ignore else None
    return None


def _refuse(file: Path, faults: list[str], allowed: str) -> None:
    if faults:
        more = f" and {len(faults) - 3} more lines" if len(faults) > 3 else ""
        raise SettingsError(f"{file}: {', '.join(map(repr, faults[:3]))}{more} is not understood; allowed is {allowed}")
