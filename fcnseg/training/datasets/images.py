"""Labelled images on disk as samples: what every data set of files comes down to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from fcnseg.errors import ImageError, LabelsError, SourceError
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.conventions import VARIABLES
from fcnseg.scoring.counting import read_place
from fcnseg.scoring.meaning import FOREIGN, Meaning, color_codes
from fcnseg.scoring.reading import IMAGES, Place, read_map
from fcnseg.stream.decoding import MAX_PIXELS, READERS
from fcnseg.training.samples import Sample
from fcnseg.types import Labels, Pixels

Size = tuple[int, int]
"""Height and width, px."""


@dataclass(frozen=True)
class Item:
    """One labelled image: the file of each modality of the recipe, and the label map of each of its heads."""

    name: str
    inputs: Mapping[str, Path]
    labels: Mapping[str, Place]


class LabelledImages(Dataset[Sample]):
    """Images in files and their label maps, read as `fcnseg run` and `fcnseg score` read them.

    `void` are values of label maps that are void besides each head's `ignore`. Nothing stays open or in memory.
    """

    def __init__(self, items: Sequence[Item], heads: Sequence[HeadRecipe], void: Iterable[int] = ()) -> None:
        self.items = tuple(items)
        self.names = tuple(item.name for item in items)
        self.meanings = {head.name: ground_truth(head, void) for head in heads}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        """Read one. Raises SourceError or LabelsError that names the file and its fault."""
        item = self.items[index]
        inputs = {name: read_pixels(path, name) for name, path in item.inputs.items()}
        labels = {head: read_labels(place, self.meanings[head]) for head, place in item.labels.items()}
        sizes = {str(item.inputs[name]): pixels.shape[:2] for name, pixels in inputs.items()}
        check_sizes(sizes | {str(item.labels[head]): values.shape for head, values in labels.items()})
        return Sample(item.name, inputs, labels)

    def check(self) -> None:
        """Look at every file without decoding pixels: that it is there, an image, and of its companions' size.

        Raises SourceError or LabelsError that names the first file at fault. SBD's and MATLAB v7.3 label maps do not
        tell their size beforehand; it is compared when they are read.
        """
        files = (file for item in self.items for file in (*item.inputs.values(), *_files(item.labels.values())))
        missing = [file for file in files if not file.is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
            raise SourceError(f"there is no {missing[0]}{more}; complete the data set, or take it off the lists")
        for item in self.items:
            sizes = {str(path): pixels_size(path, name) for name, path in item.inputs.items()}
            known = {str(place): size for place in item.labels.values() if (size := _labels_size(place))}
            check_sizes(sizes | known)


def ground_truth(head: HeadRecipe, void: Iterable[int] = ()) -> Meaning:
    """How the label maps of a head are read: as `fcnseg score` does, palettes of indexed images apart."""
    space = head.labels
    return Meaning(space, frozenset({space.ignore, *void}), colors=color_codes(space), checked=False, conventional=True)


def read_pixels(path: Path, modality: str) -> Pixels:
    """The pixels of an image, as `fcnseg run` sees them. Raises SourceError that names the file."""
    try:
        return READERS[modality](path)
    except (ImageError, OSError) as error:
        raise _unreadable(path, error) from error


def read_labels(place: Place, meaning: Meaning) -> Labels:
    """A label map H x W of classes and `ignore`. Raises LabelsError that names the file, and a value of no class."""
    try:
        codes = read_place(place, meaning)
    except LabelsError as error:
        fault = str(error).partition(";")[0]
        raise LabelsError(f"{fault}; replace the label map, or see what label maps may be in the README") from error
    if (codes == FOREIGN).any():
        raise LabelsError(_foreign(place, codes, meaning))
    ignore = meaning.space.ignore
    return np.where(codes < 0, ignore, codes).astype(np.uint8 if ignore < 256 else np.uint16)


def _foreign(place: Place, codes: np.ndarray[Any, Any], meaning: Meaning) -> str:
    found, counts = np.unique(read_map(place).values[codes == FOREIGN], return_counts=True)
    more = f" (and {len(found) - 1} more values)" if len(found) > 1 else ""
    void = ", ".join(map(str, sorted(meaning.void)))
    return (
        f"{place} has label {found[0]} on {counts[0]} pixels{more}, but there are {meaning.space.classes} classes, and "
        f"void is {void}; correct the label map, or name all classes in the data set's classes.txt"
    )


def check_sizes(sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises LabelsError unless all are one size; keys are file names."""
    (first, size), *others = sizes.items()
    for other, found in others:
        if found != size:
            turned = "; one of them is turned" if found == size[::-1] else ""
            (h, w), (other_h, other_w) = size, found
            raise LabelsError(f"{first} is {w} x {h}, but {other} {other_w} x {other_h} px{turned}; sizes must agree")


class _SizeKnown(Exception):  # noqa: N818 - no error: that is all there was to know
    pass


def pixels_size(path: Path, modality: str) -> Size:
    """The upright size of an image by its header. Raises SourceError that names the file."""
    size: list[int] = []

    def stop(height: int, width: int) -> None:
        size.extend((height, width))
        raise _SizeKnown

    try:
        READERS[modality](path, MAX_PIXELS, stop)
    except _SizeKnown:
        pass
    except (ImageError, OSError) as error:
        raise _unreadable(path, error) from error
    return size[0], size[1]


def _unreadable(path: Path, error: ImageError | OSError) -> SourceError:
    reason = error.strerror if isinstance(error, OSError) else error
    return SourceError(f"{path}: {reason}; replace the file, or take it out of the data set")


def _labels_size(place: Place) -> Size | None:
    """The size of a label map by its header; None where that says nothing. Raises LabelsError for a damaged file."""
    suffix = Path(place.file).suffix.lower()
    try:
        if suffix in IMAGES:
            with Image.open(place.file) as image:
                return image.height, image.width
        if suffix == ".mat":
            return _mat_size(place.file)
    except Exception as error:  # Pillow and SciPy raise all kinds on damaged files
        raise LabelsError(f"{place} cannot be read: {error or type(error).__name__}; replace the file") from error
    return None


def _mat_size(file: str) -> Size | None:
    from scipy.io import whosmat

    try:
        shapes = {name: shape for name, shape, kind in whosmat(file) if name in VARIABLES and kind != "struct"}
    except NotImplementedError:  # version 7.3
        return None
    shape: tuple[int, ...] = next(iter(shapes.values()), ())
    return (shape[0], shape[1]) if len(shape) == 2 else None


def _files(places: Iterable[Place]) -> Iterable[Path]:
    return (Path(os.fspath(place.file)) for place in places)
