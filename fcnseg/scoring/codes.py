"""Codes of label values: a class from 0 to K - 1, void, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.raw_map import MapLocation
from fcnseg.scoring.confusion import Counts, Map

VOID, FOREIGN = -1, -2
"""Codes beside the classes 0 to K - 1: pixels that do not count, and values of no class."""


@dataclass(frozen=True)
class CodeTable:
    """The code (class or VOID) of each value that may occur; all others are FOREIGN.

    `expected` describes those values in errors; `plain`: they are the classes themselves.
    """

    codes: Mapping[int, int]
    expected: str
    plain: bool = False

    def __call__(self, values: Map) -> Counts:
        """Return the codes of values, in the same shape."""
        keys, codes = self._sorted
        positions = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
        return np.where(keys[positions] == values, codes[positions], FOREIGN)

    @cached_property
    def _sorted(self) -> tuple[Counts, Counts]:
        keys = sorted(self.codes)
        return np.array(keys, np.int64), np.array([self.codes[key] for key in keys], np.int64)

    def without(self, void: frozenset[int]) -> CodeTable:
        """Return the same table with these values void."""
        return CodeTable({**self.codes, **dict.fromkeys(void, VOID)}, self.expected, self.plain)

    @property
    def class_values(self) -> dict[int, int]:
        """The class of each value that is one."""
        return {value: code for value, code in self.codes.items() if code >= 0}


def codes_of(values: Map, table: CodeTable) -> NDArray[np.int32]:
    """Return the code of every pixel."""
    if values.dtype in (np.uint8, np.uint16):
        return table(np.arange(int(values.max()) + 1)).astype(np.int32)[values]
    distinct, positions = np.unique(values, return_inverse=True)
    return table(distinct.astype(np.int64)).astype(np.int32)[positions.reshape(values.shape)]


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
