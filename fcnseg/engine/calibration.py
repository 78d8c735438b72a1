"""Real images that int8 engines are calibrated on, and that every engine is verified on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcnseg.errors import ImageError, SettingsError
from fcnseg.io.images import MAX_PIXELS, READERS
from fcnseg.io.sources import open_source
from fcnseg.recipes import Recipe, recipe_folder
from fcnseg.types import Failure, Pixels

CALIBRATION_IMAGES = 32
"""Images that int8 is calibrated on: evenly spaced ones of those in the folder."""

ImageFiles = Mapping[str, Path]
"""The file of each modality of one image."""


@dataclass(frozen=True)
class SampleImages:
    """Decoded images, H x W x C by modality; `name` describes them in reports."""

    inputs: Sequence[Mapping[str, Pixels]]
    name: str


def calibration_files(recipe: Recipe, folders: Mapping[str, Path]) -> tuple[ImageFiles, ...]:
    """List the calibration images of a recipe: up to CALIBRATION_IMAGES, evenly spaced over `folders`, one a modality.

    Raises SourceError if there are none, SettingsError if an image lacks its companion of another modality.
    """
    if not folders:
        return ()
    companions = {m: folder for m, folder in folders.items() if m != recipe.modalities[0]}
    source = open_source(folders[recipe.modalities[0]], recipe.modalities, companions)
    references = [entry for entry in source if not isinstance(entry, Failure)]
    step = max(1, len(references) / CALIBRATION_IMAGES)
    chosen = [references[int(i * step)] for i in range(min(len(references), CALIBRATION_IMAGES))]
    try:
        return tuple(source.files(reference) for reference in chosen)
    except ImageError as error:
        others = " and ".join(f"--{modality}" for modality in companions)
        raise SettingsError(
            f"{error}, for an image to calibrate on has its companions under the same path; give {others} the folders "
            f"that belong to --calibrate {folders[recipe.modalities[0]]}"
        ) from error


def sample_images(recipe: Recipe, files: Sequence[ImageFiles] = ()) -> SampleImages:
    """Decode the user's calibration images, or without any the photographs that come with fcnseg.

    Raises SettingsError for one that cannot be read.
    """
    if files:
        inputs = [{m: _decoded(READERS[m], path) for m, path in image.items()} for image in files]
        return SampleImages(inputs, "the user's images")
    photographs = [_decoded(READERS["color"], path) for path in example_photographs()]
    name = "the example photographs" + ("" if recipe.modalities == ("color",) else ", with stand-ins for depth")
    return SampleImages([dict(stand_ins(photograph, recipe.modalities)) for photograph in photographs], name)


def example_photographs() -> list[Path]:
    """List the photographs that come with fcnseg."""
    inside = Path(__file__).parents[1] / "examples"
    folder = inside if inside.is_dir() else recipe_folder().parent / "examples" / "street" / "images"
    return sorted(folder.glob("*.jpg"))


def stand_ins(photograph: Pixels, modalities: Sequence[str]) -> Iterator[tuple[str, Pixels]]:
    """Make inputs of every modality from an RGB photograph H x W x 3: its brightness serves as depth in millimetres
    (1,000 to 5,080), its channels as HHA."""
    for modality in modalities:
        if modality == "depth":
            yield modality, 1000 + 16 * photograph.astype(np.float32).mean(axis=2, keepdims=True)
        else:
            yield modality, photograph


def _decoded(reader: Callable[[Path, int], Pixels], path: Path) -> Pixels:
    try:
        return reader(path, MAX_PIXELS)
    except ImageError as error:
        raise SettingsError(f"the calibration image {path} cannot be read: {error}; remove it") from error
