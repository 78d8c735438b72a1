"""Before the first image: how many there are, whether two would write one file, whether outputs are someone else's.

One pass over the listing in constant memory: of each output's name only a 64-bit hash is kept, and a second pass
names the inputs whose hashes met.
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
"""How many inputs are listed between two calls of `on_count`."""

CLASHES_SHOWN = 3


@dataclass
class Listing:
    """What the source holds: inputs in all and in each part, and what could not be listed."""

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
    for found in source:
        listing.parts[part_of(found.key, parts) if parts > 1 else 0] += 1
        if isinstance(found, Failure):
            listing.failures.append(found)
            continue
        check(found)
        hashes.append(hash(found.stem))
        folders.add(found.stem.rpartition("/")[0])
        if len(hashes) % SAY_EVERY == 0:
            on_count(listing.total)
    on_count(listing.total)
    names = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
    met = set(names[1:][names[1:] == names[:-1]].tolist())
    taken = _with_parents(folders)
    blocked = {hash(folder.removesuffix(s)) for folder in taken for s in suffixes if folder.endswith(s)}
    if blocked:
        met |= set(names[np.isin(names, list(blocked))].tolist())
    if met:
        _name_clashes(source, met, {folder for folder in taken if folder.endswith(tuple(suffixes))}, suffixes, remedy)
    return listing


def _with_parents(folders: set[str]) -> set[str]:
    found = set()
    for folder in folders:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _name_clashes(
    source: Iterable[Reference | Failure], met: set[int], folders: set[str], suffixes: Collection[str], remedy: str
) -> None:
    """List again to name those whose hashes met. Raises SettingsError if names really are equal."""
    first: dict[str, str] = {}
    clashes = []
    for found in source:
        if isinstance(found, Failure) or hash(found.stem) not in met:
            continue
        if first.get(found.stem) == found.key:
            raise SettingsError(f"{found.key} is listed twice; leave one out")
        if found.stem in first:
            clashes.append(f"{first[found.stem]} and {found.key}")
        first.setdefault(found.stem, found.key)
        clashes += [f"{found.key} and the folder {found.stem}{s}" for s in suffixes if found.stem + s in folders]
    if clashes:
        more = f" and {len(clashes) - CLASHES_SHOWN} more pairs" if len(clashes) > CLASHES_SHOWN else ""
        raise SettingsError(
            f"these inputs would write one output: {', '.join(clashes[:CLASHES_SHOWN])}{more}; {remedy}"
        )
