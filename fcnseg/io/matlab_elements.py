"""The elements of MATLAB files of version 5, checked before SciPy reads them.

It takes their types and sizes for granted, and a damaged one ends the process.

Source: "MAT-File Format", The MathWorks, chapter 1.
"""

import struct

ELEMENT_TYPES = frozenset((*range(1, 8), 9, *range(12, 19)))
MATRIX, DIMENSIONS, FLAGS = 14, 5, 6
"""Types of elements: a variable, its dimensions (int32), its flags (uint32)."""

NAME_TYPES = (1, 2, 16)

CELL, STRUCT, OBJECT, SPARSE, NUMBERS, CHARACTERS = 1, 2, 3, 5, range(6, 16), 4
"""Classes of variables."""

MOST_LEVELS = 20
"""The most variables within one another."""

MOST_DIMENSIONS = 32


class ElementError(ValueError):
    """An element is damaged, or of a kind that label maps have no need of."""


def check_variable(content: memoryview, order: str, level: int = 0) -> None:
    """Raise ElementError unless the content of a matrix element is whole: `order` is that of its bytes, < or >."""
    if not content:
        return  # an empty cell
    if level > MOST_LEVELS:
        raise ElementError("variables within variables, too many levels of them")
    kind, flags, rest = _element(content, order)
    if kind != FLAGS or len(flags) != 8:
        raise ElementError("a variable has no flags")
    (bits,) = struct.unpack_from(f"{order}L", flags)
    kind, sizes, rest = _element(rest, order)
    if kind != DIMENSIONS or len(sizes) % 4 or not 8 <= len(sizes) <= 4 * MOST_DIMENSIONS:
        raise ElementError("a variable has no dimensions")
    if min(struct.unpack(f"{order}{len(sizes) // 4}l", sizes)) < 0:
        raise ElementError("a variable has negative dimensions")
    kind, _, rest = _element(rest, order)
    if kind not in NAME_TYPES:
        raise ElementError("a variable has no name")
    klass, elements = bits & 0xFF, 1 + (bits >> 11 & 1)
    if klass in (STRUCT, OBJECT):
        rest = _names(rest, order, klass)
    if klass in (CELL, STRUCT, OBJECT):
        while rest:
            kind, value, rest = _element(rest, order)
            if kind != MATRIX:
                raise ElementError("what a variable holds is no variable")
            check_variable(value, order, level + 1)
        return
    if klass == SPARSE:
        elements += 2
    elif klass not in NUMBERS and klass != CHARACTERS:
        raise ElementError(f"a variable is of the class {klass}")
    for _ in range(elements):
        kind, value, rest = _element(rest, order)
        if kind == MATRIX:
            raise ElementError("numbers are no numbers")


def _names(rest: memoryview, order: str, klass: int) -> memoryview:
    """Return what follows the names of a struct's fields, before which an object has that of its class."""
    if klass == OBJECT:
        kind, _, rest = _element(rest, order)
        if kind not in NAME_TYPES:
            raise ElementError("an object has no class")
    kind, length, rest = _element(rest, order)
    if kind != DIMENSIONS or len(length) != 4 or not 0 < struct.unpack(f"{order}l", length)[0] <= 1024:
        raise ElementError("the names of a struct have no length")
    kind, names, rest = _element(rest, order)
    if kind not in NAME_TYPES or len(names) % struct.unpack(f"{order}l", length)[0]:
        raise ElementError("a struct has no names")
    return rest


def _element(content: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """Return the type and content of the first element, and what follows it."""
    if len(content) < 8:
        raise ElementError("it is cut short")
    kind, length = struct.unpack_from(f"{order}2L", content)
    if kind >> 16:  # of at most 4 bytes, within its tag
        kind, length = kind & 0xFFFF, kind >> 16
        start, end = 4, 8
        if length > 4:
            raise ElementError("a small element is large")
    else:
        start, end = 8, 8 + (length if kind == MATRIX else -(-length // 8) * 8)
    if kind not in ELEMENT_TYPES:
        raise ElementError(f"an element is of the type {kind}")
    if start + length > len(content):
        raise ElementError("an element is longer than what it lies in")
    return kind, content[start : start + length], content[end:]
