"""Which images are for training and which for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.io.atomic import checksum
from fcnseg.training.datasets.images import LabelledImages

HELD_OUT = 0.2
"""The share of a data set without splits that is held out for validation."""

START_BYTES = 1 << 12


def held_out(names: Sequence[str]) -> set[str]:
    """The names that validation gets: those whose hash is below HELD_OUT of its range, but at least one, and not all.

    So no name changes sides as others are added, as soon as there are more than a few.
    """
    ranks = {name: int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape")).digest()) for name in names}
    count = sum(rank < HELD_OUT * (1 << 512) for rank in ranks.values())
    return set(sorted(ranks, key=ranks.__getitem__)[: min(max(count, 1), len(names) - 1)])


def check_disjoint(train: Iterable[str], val: Iterable[str], what: str) -> None:
    """Raises SourceError that names an image of both lists of `what`."""
    both = sorted(set(train) & set(val))
    if both:
        raise SourceError(
            f"{what}: {len(both)} images are both for training and validation, the first {both[0]}; take them out of "
            "one of the two"
        )


def check_apart(train: LabelledImages, validation: LabelledImages) -> None:
    """Raises SourceError that names an image of training which is also one of validation: the same file, the same row
    of an HDF5 file, or a copy of a file under another name or in another data set."""
    ours, theirs = ([next(iter(item.inputs.values())) for item in side.items] for side in (train, validation))
    same = set(ours) & set(theirs)
    if same:
        first = min(map(str, same))
        raise SourceError(
            f"{len(same)} images are for training and for validation, the first {first}; take other splits"
        )
    _check_copies(*([Path(place.file) for place in side if not place.dataset] for side in (ours, theirs)))


def _check_copies(ours: list[Path], theirs: list[Path]) -> None:
    for feature in (_size, _start, checksum):  # the costly ones of few
        shared = {feature(path) for path in ours} & {feature(path) for path in theirs}
        ours, theirs = ([path for path in side if feature(path) in shared] for side in (ours, theirs))
    if theirs:
        twin = next(path for path in ours if checksum(path) == checksum(theirs[0]))
        raise SourceError(f"{twin} and {theirs[0]} are one image, for training and validation; take out one of them")


def _size(path: Path) -> int:
    return path.stat().st_size


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START_BYTES)
