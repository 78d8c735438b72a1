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
from fcnseg.types import Failure, Reference

SAY_EVERY = 10_000
"""The inputs listed between two calls of `on_count`."""

CLASHES_SHOWN = 3


@dataclass
class Listing:
    """The number of inputs in each part, and the failures of listing."""

    parts: list[int]
    failures: list[Failure] = field(default_factory=list)

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
) -> Listing:
    """List everything once. `check` sees each input and may refuse it by raising; outputs' names are stems with one of
    the `suffixes`.

    Raises SettingsError if the outputs of two inputs cannot both exist: one name for two (`a.jpg` and `a.png`), or a
    file of one where the other needs a folder (`a.jpg`, whose output is `a.png`, and `a.png/b.jpg`).
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
        hashes.append(hash(listed.stem))
        folders.add(listed.stem.rpartition("/")[0])
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
        _name_clashes(
            source, colliding, {folder for folder in taken if folder.endswith(tuple(suffixes))}, suffixes, remedy
        )
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
) -> None:
    """List again to name inputs of equal hashes. Raises SettingsError if their names are equal."""
    first: dict[str, str] = {}
    clashes = []
    for listed in source:
        if isinstance(listed, Failure) or hash(listed.stem) not in colliding:
            continue
        if first.get(listed.stem) == listed.key:
            raise SettingsError(f"{listed.key} is listed twice; leave one out")
        if listed.stem in first:
            clashes.append(f"{first[listed.stem]} and {listed.key}")
        first.setdefault(listed.stem, listed.key)
        clashes += [f"{listed.key} and the folder {listed.stem}{s}" for s in suffixes if listed.stem + s in folders]
    if clashes:
        more = f" and {len(clashes) - CLASHES_SHOWN} more pairs" if len(clashes) > CLASHES_SHOWN else ""
        raise SettingsError(
            f"these inputs would write one output: {', '.join(clashes[:CLASHES_SHOWN])}{more}; {remedy}"
        )
