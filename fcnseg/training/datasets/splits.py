"""Splits: held-out images, and checks that training and validation share none."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fcnseg.errors import SourceError
from fcnseg.io.atomic import checksum
from fcnseg.training.datasets.images import LabelledImages, SampleLocation

SPLITS = ("train", "val")

HELD_OUT = 0.2
"""Share of a data set without splits that is held out for validation."""

START_BYTES = 1 << 12


def held_out(names: Sequence[str]) -> set[str]:
    """Return the names for validation: those whose hash is below HELD_OUT of its range, at least one, and not all.

    Except in data sets of a few images, no name changes sides as others are added.
    """
    ranks = {name: int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape")).digest()) for name in names}
    count = sum(rank < HELD_OUT * (1 << 512) for rank in ranks.values())
    return set(sorted(ranks, key=ranks.__getitem__)[: min(max(count, 1), len(names) - 1)])


def hold_out(samples: Sequence[SampleLocation], split: str, data: Path) -> list[SampleLocation]:
    """Return the samples of "train" or "val" in a data set without splits. Raises SourceError if it has one only."""
    if len(samples) < 2:
        raise SourceError(f"{data} has one image, which leaves none to hold out; training takes two at least")
    val = held_out([sample.name for sample in samples])
    return [sample for sample in samples if (sample.name in val) == (split == "val")]


def check_disjoint(train: Iterable[str], val: Iterable[str], what: str) -> None:
    """Raise SourceError that names an image of both lists; `what` names the lists."""
    both = sorted(set(train) & set(val))
    if both:
        raise SourceError(
            f"{what}: {len(both)} images are both for training and validation, the first {both[0]}; take them out of "
            "one of the two"
        )


def check_apart(train: LabelledImages, validation: LabelledImages) -> None:
    """Raise SourceError that names an image of training and validation.

    That is the same file, the same row of an HDF5 file, or a copy of a file under another name or in another data set.
    """
    train_images, val_images = (
        [next(iter(sample.inputs.values())) for sample in side.locations] for side in (train, validation)
    )
    common = set(train_images) & set(val_images)
    if common:
        first = min(map(str, common))
        raise SourceError(
            f"{len(common)} images are for training and for validation, the first {first}; take other splits"
        )
    _check_copies(*([Path(place.file) for place in side if not place.dataset] for side in (train_images, val_images)))


def _check_copies(train: list[Path], val: list[Path]) -> None:
    for feature in (os.path.getsize, _start, checksum):  # the cheapest first: each leaves fewer files for the next
        shared = {feature(path) for path in train} & {feature(path) for path in val}
        train, val = ([path for path in side if feature(path) in shared] for side in (train, val))
    if val:
        twin = next(path for path in train if checksum(path) == checksum(val[0]))
        raise SourceError(f"{twin} and {val[0]} are one image, for training and validation; take out one of them")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START_BYTES)
