"""Which images are for training and which for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.training.datasets.images import LabelledImages

HELD_OUT = 0.2
"""The share of a data set without splits that is held out for validation."""

HEAD_BYTES = 1 << 16


def held_out(names: Sequence[str]) -> set[str]:
    """The names that validation gets: those whose hash is below HELD_OUT of its range, and always one at least.

    A name's side does not change as images are added (unless it was the only one held out).
    """
    ranks = {name: int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape")).digest()) for name in names}
    chosen = {name for name, rank in ranks.items() if rank < HELD_OUT * (1 << 512)}
    return chosen or set(sorted(names, key=ranks.__getitem__)[:1])


def check_disjoint(train: Iterable[str], val: Iterable[str], what: str) -> None:
    """Raises SourceError that names an image of both lists of `what`."""
    both = sorted(set(train) & set(val))
    if both:
        raise SourceError(
            f"{what}: {len(both)} images are both for training and validation, the first {both[0]}; take them out of "
            "one of the two"
        )


def check_copies(train: LabelledImages, val: LabelledImages) -> None:
    """Raises SourceError that names an image of training whose file is also one of validation, whatever its name."""
    ours, theirs = ([Path(next(iter(item.inputs.values())).file) for item in side.items] for side in (train, val))
    sizes = {path.stat().st_size for path in ours} & {path.stat().st_size for path in theirs}
    known = {_content(path): path for path in ours if path.stat().st_size in sizes}
    for path in theirs:
        if path.stat().st_size in sizes and (twin := known.get(_content(path))):
            raise SourceError(f"{twin} and {path} are one image, for training and for validation; take out one of them")


def _content(path: Path) -> tuple[int, bytes]:
    """What differs between any two photographs: the file's size, and a hash of its beginning."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.blake2b(file.read(HEAD_BYTES)).digest()
