"""Listing: the number of inputs, and inputs that would write one output.

One pass, in nearly constant memory: of each output's name only a 64-bit hash is kept. A second pass names the inputs
whose hashes are equal.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from fcnseg.errors import SettingsError
from fcnseg.io.parts import part_of
from fcnseg.running.name_rules import NameRules
from fcnseg.types import Failure, Reference

SAY_EVERY = 10_000
"""The inputs listed between two calls of `on_count`."""

CLASHES_SHOWN = 3

EQUAL_NAMES = NameRules()
"""The rules of file systems on which only equal names are one."""


@dataclass
class Listing:
    """The number of inputs in each part, the failures of listing, and the files that are no inputs by suffix."""

    parts: list[int]
    failures: list[Failure] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Inputs of all parts."""
        return sum(self.parts)


def survey(
    source: Iterable[Reference | Failure],
    parts: int = 1,
    *,
    suffixes: Collection[str] = (".png",),
    check: Callable[[Reference], None] = lambda reference: None,
    on_count: Callable[[int], None] = lambda count: None,
    remedy: str = "rename one, or choose with --glob",
    rules: NameRules = EQUAL_NAMES,
) -> Listing:
    """List everything once. `check` sees each input and may refuse it by raising; outputs' names are stems with one of
    the `suffixes`. `rules` are those of the outputs' file systems.

    Raises SettingsError if the outputs of two inputs cannot both exist: one name for two (`a.jpg` and `a.png`, or
    `A.png` where case does not count), or a file of one where the other needs a folder (`a.jpg`, whose output is
    `a.png`, and `a.png/b.jpg`).
    """
    listing = Listing([0] * parts)
    hashes = array("q")
    folders: set[str] = set()
    for listed in source:
        listing.parts[part_of(listed.key, parts) if parts > 1 else 0] += 1
        if isinstance(listed, Failure):
            listing.failures.append(listed)
            continue
        check(listed)
        stem = rules.fold(listed.stem)
        hashes.append(hash(stem))
        folders.add(stem.rpartition("/")[0])
        if len(hashes) % SAY_EVERY == 0:
            on_count(listing.total)
    on_count(listing.total)
    names = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
    colliding = set(names[1:][names[1:] == names[:-1]].tolist())
    taken = _with_parents(folders)
    blocked = {hash(folder.removesuffix(s)) for folder in taken for s in suffixes if folder.endswith(s)}
    if blocked:
        colliding |= set(names[np.isin(names, list(blocked))].tolist())
    if colliding:
        blocking = {folder for folder in taken if folder.endswith(tuple(suffixes))}
        _name_clashes(source, colliding, blocking, suffixes, remedy, rules)
    return listing


def _with_parents(folders: set[str]) -> set[str]:
    above = set()
    for folder in folders:
        while folder and folder not in above:
            above.add(folder)
            folder = folder.rpartition("/")[0]
    return above


def _name_clashes(
    source: Iterable[Reference | Failure],
    colliding: set[int],
    folders: set[str],
    suffixes: Collection[str],
    remedy: str,
    rules: NameRules,
) -> None:
    """List again to name inputs of equal hashes. Raises SettingsError if their names are equal, or one there."""
    known: dict[str, list[Reference]] = {}
    clashes = []
    alike = ""
    for listed in source:
        if isinstance(listed, Failure) or hash(stem := rules.fold(listed.stem)) not in colliding:
            continue
        earlier = known.setdefault(stem, [])
        if any(other.key == listed.key for other in earlier):
            raise SettingsError(f"{listed.key} is listed twice; leave one out")
        same = next((other for other in earlier if rules.are_one(other.stem, listed.stem)), None)
        if same is None:
            earlier.append(listed)
        else:
            clashes.append(f"{same.key} and {listed.key}")
            alike = alike or (", whose names are one to the output's file system" if same.stem != listed.stem else "")
        clashes += [f"{listed.key} and the folder {listed.stem}{s}" for s in suffixes if stem + s in folders]
    if clashes:
        more = f" and {len(clashes) - CLASHES_SHOWN} more pairs" if len(clashes) > CLASHES_SHOWN else ""
        raise SettingsError(
            f"these inputs would write one output: {', '.join(clashes[:CLASHES_SHOWN])}{more}{alike}; {remedy}"
        )
