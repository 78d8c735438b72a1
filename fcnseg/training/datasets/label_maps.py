"""Ground truth of training: the values of label maps as classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fcnseg.errors import LabelsError
from fcnseg.io.conventions import one_based_variables
from fcnseg.io.label_maps import read_map
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.coded_maps import read_codes
from fcnseg.scoring.codes import FOREIGN
from fcnseg.scoring.colors import color_codes
from fcnseg.scoring.label_encoding import LabelEncoding
from fcnseg.types import Labels


def ground_truth(
    head: HeadRecipe, void: Iterable[int] = (), one_based: Mapping[str, tuple[int, ...]] | None = None
) -> LabelEncoding:
    """Return the label encoding of a head's label maps: as in `fcnseg score`, except that palettes are not checked.

    Values in `void` are void besides the head's `ignore`. With the `one_based` variables of a data set, labels count
    from 1 whatever the head's classes are, and whatever the variable is called.
    """
    space = head.labels
    return LabelEncoding(
        space,
        frozenset({space.ignore, *void}),
        reduced=bool(one_based),
        colors=color_codes(space),
        checked=False,
        conventional=True,
        one_based={**one_based_variables(space), **(one_based or {})},
    )


def read_labels(location: MapLocation, encoding: LabelEncoding) -> Labels:
    """Read a label map H x W of classes and `ignore`. Raises LabelsError that names the file and a value of no
    class."""
    try:
        codes = read_codes(location, encoding)
    except LabelsError as error:
        fault, _, advice = str(error).rpartition("; ")
        if not fault or "--" in advice:  # of other commands
            own_advice = (
                "correct the label map, or name the classes with their colours in classes.txt, void as the last"
            )
            fault, advice = fault or advice, own_advice
        raise LabelsError(f"{fault}; {advice}") from error
    if (codes == FOREIGN).any():
        raise LabelsError(_describe_foreign(location, codes, encoding))
    ignore = encoding.space.ignore
    return np.where(codes < 0, ignore, codes).astype(np.uint8 if ignore < 256 else np.uint16)


def _describe_foreign(location: MapLocation, codes: np.ndarray[Any, Any], encoding: LabelEncoding) -> str:
    values, counts = np.unique(read_map(location).values[codes == FOREIGN], return_counts=True)
    more = f" (and {len(values) - 1} more values)" if len(values) > 1 else ""
    void = ", ".join(map(str, sorted(encoding.void)))
    return (
        f"{location} has label {values[0]} on {counts[0]} pixels{more}, but there are {encoding.space.classes} "
        f"classes, and void is {void}; correct the label map, or name all classes in the data set's classes.txt"
    )


def check_binary_masks(locations: Iterable[MapLocation], encoding: LabelEncoding) -> None:
    """Raise LabelsError for masks of 0 and 255, in which the second of two classes would be void.

    Reads label maps until one has the second class (1).
    """
    if (encoding.space.classes, encoding.space.ignore) != (2, 255):
        return
    masks = []
    for location in locations:
        values = read_labels(location, encoding)
        if (values == 1).any():
            return
        if (values == 255).any():
            masks.append(location)
    if masks:
        name = encoding.space.names[1]
        raise LabelsError(
            f"no label map has {name} (1), but {len(masks)} have 255, which is void, the first {masks[0]}; save {name} "
            "as 1"
        )
