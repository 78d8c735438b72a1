"""Label maps as codes: read, interpreted by a `LabelEncoding`, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.raw_map import MapLocation
from fcnseg.scoring.codes import FOREIGN, CodeTable
from fcnseg.scoring.confusion import Counts, Map
from fcnseg.scoring.label_encoding import LabelEncoding


def read_codes(location: MapLocation, encoding: LabelEncoding) -> Map:
    """Read one map as codes, H x W: classes, VOID or FOREIGN. Raises LabelsError for what cannot be read."""
    return codes_of(*_read(location, encoding))


def read_classes(location: MapLocation, encoding: LabelEncoding) -> Map:
    """Read one map as codes, H x W: classes or VOID. Raises LabelsError for what cannot be read or is no class."""
    values, table = _read(location, encoding)
    codes = codes_of(values, table)
    if (foreign := codes == FOREIGN).any():
        distinct, counts = np.unique(values[foreign], return_counts=True)
        check_range(location, distinct, np.ones(distinct.shape, bool), counts, table, {})
    return codes


def _read(location: MapLocation, encoding: LabelEncoding) -> tuple[Map, CodeTable]:
    raw = read_map(location)
    with naming(location):
        values, table = encoding.interpret(raw)
        if raw.palette:
            encoding.check_palette(raw.palette, np.flatnonzero(np.bincount(values.ravel())))
    return values, table


def codes_of(values: Map, table: CodeTable) -> NDArray[np.int32]:
    """Return the code of every pixel."""
    if values.dtype in (np.uint8, np.uint16):
        return table(np.arange(int(values.max()) + 1)).astype(np.int32)[values]
    distinct, positions = np.unique(values, return_inverse=True)
    return table(distinct.astype(np.int64)).astype(np.int32)[positions.reshape(values.shape)]


def check_sizes(first: MapLocation, values: Map, second: MapLocation, others: Map) -> None:
    """Raise LabelsError for maps of different sizes."""
    if values.shape != others.shape:
        turned = "; one of them is turned" if values.shape == others.shape[::-1] else ""
        size, other_size = (f"{width} x {height}" for height, width in (values.shape, others.shape))
        raise LabelsError(f"{first} is {size}, but {second} {other_size} px{turned}")


def check_range(
    location: MapLocation,
    values: Counts,
    wrong: NDArray[np.bool_],
    counts: Counts,
    table: CodeTable,
    hints: Mapping[int, str],
) -> None:
    """Raise LabelsError if any of these values, on `counts` pixels each, is `wrong`; `hints` explain single values."""
    if not wrong.any():
        return
    strays = np.unique(values[wrong]).tolist()
    count = int(counts[wrong & (values == strays[0])].sum())
    more = f" (and {len(strays) - 1} more values)" if len(strays) > 1 else ""
    hint = f"; {hints[strays[0]]}" if table.plain and len(strays) == 1 and strays[0] in hints else ""
    raise LabelsError(f"{location} has label {strays[0]} on {count} pixels{more}, but {table.expected}{hint}")


@contextmanager
def naming(location: MapLocation) -> Iterator[None]:
    """Begin the message of a LabelsError with the file."""
    try:
        yield
    except LabelsError as error:
        raise LabelsError(f"{location} {error}") from error
