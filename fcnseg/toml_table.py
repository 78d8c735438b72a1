"""Read a TOML table key by key and report all its faults at once, unknown keys with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

TEXT_LENGTH = 1000

PRINTABLE_TEXT = f"a text of up to {TEXT_LENGTH} printable characters"

LARGEST_NUMBER = 1e300


def printable(text: str) -> str:
    """Return text with control characters, escape sequences and marks of direction escaped, in one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TomlTable:
    """A TOML table. Methods return the value of a key, or note a fault and return an empty value of that type.

    A key without a default is required. `path` is the table's place in the file: "architecture.".
    """

    def __init__(self, data: Mapping[str, Any], path: str = "") -> None:
        self.data, self.path = data, path
        self._faults: list[str] = []
        self._known_keys: set[str] = set()
        self._subtables: list[TomlTable] = []

    @property
    def faults(self) -> list[str]:
        """The faults of this table and its subtables, one line each; call it when every key has been read."""
        unknown = [key for key in self.data if key not in self._known_keys]
        subtables = [fault for table in self._subtables for fault in table.faults]
        return [*self._faults, *(self._unknown(key) for key in unknown), *subtables]

    def _unknown(self, key: str) -> str:
        near = difflib.get_close_matches(key, self._known_keys, n=1)
        return f"{self.path}{printable(key)[:60]}: unknown key" + (f"; did you mean {near[0]}?" if near else "")

    def fault(self, key: str, problem: str, allowed: str) -> None:
        """Note what is wrong with a key."""
        self._faults.append(f"{self.path}{key}: {problem}; allowed is {allowed}")

    def value(self, key: str, valid: Callable[[Any], bool], allowed: str, default: Any, empty: Any) -> Any:
        """Return a valid value; else note a fault, that says what is allowed, and return `empty`."""
        self._known_keys.add(key)
        value = self.data.get(key, default)
        if value is None:
            self.fault(key, "missing", allowed)
        elif not valid(value):
            self.fault(key, _shown(value), allowed)
        else:
            return value
        return empty

    def text(
        self,
        key: str,
        default: str | None = None,
        valid: Callable[[str], bool] = lambda text: True,
        allowed: str = PRINTABLE_TEXT,
    ) -> str:
        """Return a string that can be printed, valid by a further rule if one is given."""
        if not isinstance(self.data.get(key, default), str):
            allowed = "a text"
        return str(self.value(key, lambda v: _is_text(v) and valid(v), allowed, default, ""))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return from 1 to 65535 strings that can be printed."""

        def valid(v: Any) -> bool:
            return isinstance(v, list) and 0 < len(v) <= 65535 and all(isinstance(i, str) for i in v)

        items = tuple(self.value(key, valid, "a list of at least one text", None, ()))
        for index, item in enumerate(items):
            if not _is_text(item):
                self.fault(f"{key}[{index}]", _shown(item), PRINTABLE_TEXT)
        return items

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """Return one of the options."""
        allowed = " or ".join(f'"{option}"' for option in options)
        return str(self.value(key, lambda v: v in options, allowed, default, ""))

    def integer(self, key: str, valid: Callable[[int], bool], allowed: str, default: int | None = None) -> int:
        """Return a valid integer."""
        return int(self.value(key, lambda v: type(v) is int and valid(v), allowed, default, default or 0))

    def number(self, key: str, valid: Callable[[float], bool], allowed: str, default: float) -> float:
        """Return a valid number, also where the file gives an integer."""
        return float(self.value(key, lambda v: _is_number(v) and valid(v), allowed, default, default))

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """Return `count` numbers."""

        def valid(v: Any) -> bool:
            return isinstance(v, list) and len(v) == count and all(map(_is_number, v))

        return tuple(map(float, self.value(key, valid, f"a list of {count} numbers", None, ())))

    def table(self, key: str, *, required: bool = True) -> TomlTable:
        """Return the subtable [key], empty if it is missing."""
        default: dict[str, Any] | None = None if required else {}
        data = self.value(key, lambda v: isinstance(v, dict), f"a table [{key}]", default, {})
        return self._subtable(data, f"{self.path}{key}.")

    def tables(self, key: str, *, required: bool = True) -> list[TomlTable]:
        """Return the subtables [[key]], at least one if they are required."""

        def valid(v: Any) -> bool:
            return isinstance(v, list) and all(isinstance(i, dict) for i in v) and (bool(v) or not required)

        default: list[Any] | None = None if required else []
        items = self.value(key, valid, f"at least one table [[{key}]]", default, [])
        indices = [f"[{i}]" for i in range(len(items))] if len(items) > 1 else [""]
        return [self._subtable(data, f"{self.path}{key}{i}.") for i, data in zip(indices, items, strict=False)]

    def _subtable(self, data: Mapping[str, Any], path: str) -> TomlTable:
        self._subtables.append(TomlTable(data, path))
        return self._subtables[-1]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_LENGTH and value.isprintable()


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER  # no nan either


def _shown(value: Any) -> str:
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):  # Python writes no numbers of more than 4,300 digits
        return "a very long value"
