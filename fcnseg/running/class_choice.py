"""Classes that options choose by their names: for masks and cut-outs, and to keep some alone in all outputs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fcnseg.errors import SettingsError
from fcnseg.io.names import first_few
from fcnseg.labels import LabelSpace
from fcnseg.types import Labels, Prediction

BACKGROUND = "background"
"""The class that pixels of other classes become where some alone are kept, in models that have it."""

Heads = Mapping[str, LabelSpace]


def named_classes(names: str | Sequence[str], heads: Heads, option: str) -> tuple[str, ...]:
    """Return the names in `CLASS[,CLASS]`, or of a list, each a class of a head. A name may have commas in it.

    Raises SettingsError for one that is none, with the nearest.
    """
    known = dict.fromkeys(name for space in heads.values() for name in space.names)
    if not isinstance(names, str):
        chosen = list(names)
    else:
        words, chosen = names.split(","), []
        while words:
            ends = range(len(words), 0, -1)
            end = next((n for n in ends if ",".join(words[:n]).strip() in known), 1)
            chosen.append(",".join(words[:end]).strip())
            del words[:end]
    for name in chosen:
        if name not in known:
            by_lower = {each.lower(): each for each in reversed(known)}
            near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
            advice = f"did you mean {by_lower[near[0]]}?" if near else f"there are {first_few(known)}"
            raise SettingsError(f"{option}: the model has no class {name!r}; {advice}")
    return tuple(dict.fromkeys(chosen))


def labels_by_head(names: str | Sequence[str], heads: Heads, option: str) -> dict[str, tuple[int, ...]]:
    """Return the labels of the named classes in each head that has any. Raises SettingsError as `named_classes`."""
    chosen = named_classes(names, heads, option)
    found = {
        head: tuple(space.names.index(name) for name in chosen if name in space.names) for head, space in heads.items()
    }
    return {head: labels for head, labels in found.items() if labels}


def annotated_labels(names: str | Sequence[str] | None, heads: Heads) -> dict[str, tuple[int, ...]]:
    """Return the labels that polygons are made of, by head: of the classes that are kept alone, or of all."""
    if names is None:
        return {head: tuple(range(space.classes)) for head, space in heads.items()}
    return labels_by_head(names, heads, "--classes")


def others_label(space: LabelSpace) -> int:
    """Return the label of what is not kept: that of the class `background`, or void where there is no such class."""
    return space.names.index(BACKGROUND) if BACKGROUND in space.names else space.ignore


def keeping(names: str | Sequence[str] | None, heads: Heads) -> Callable[[Prediction], Prediction]:
    """Return a function that keeps the named classes in the labels of a prediction and makes all others background or
    void; heads without any of them stay as they are. `None` keeps all."""
    if names is None:
        return lambda prediction: prediction
    tables = {head: _table(heads[head], kept) for head, kept in labels_by_head(names, heads, "--classes").items()}

    def keep(prediction: Prediction) -> Prediction:
        labels: dict[str, Labels] = {
            head: tables[head][values] if head in tables else values for head, values in prediction.labels.items()
        }
        return replace(prediction, labels=labels)

    return keep


def _table(space: LabelSpace, kept: Sequence[int]) -> Labels:
    """Return what becomes of each label. Raises SettingsError if label maps cannot hold it."""
    dtype, values = (np.uint8, 1 << 8) if space.classes <= 256 else (np.uint16, 1 << 16)
    others = others_label(space)
    if others >= values:
        raise SettingsError(
            f"--classes: void is {others} in this model, which its label maps cannot hold; set `ignore` to 255 in its "
            "recipe"
        )
    table: Labels = np.full(values, others, dtype)
    table[list(kept)] = kept
    return table
