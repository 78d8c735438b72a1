"""Codes of label values: a class from 0 to K - 1, void, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

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
