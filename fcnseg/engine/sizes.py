"""Ranges of image sizes that an engine is built for: stated, or measured on a folder of images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.io.sources import open_source
from fcnseg.recipes import Recipe, Shapes
from fcnseg.types import Failure


def shapes_of(
    start: Shapes, smallest: str | None, typical: str | None, largest: str | None, max_batch: int | None
) -> Shapes:
    """Replace what is stated of a range; sizes are texts like "500x375". Raises SettingsError for one that is none."""
    shapes = Shapes(
        parse_size(smallest) if smallest else start.smallest,
        parse_size(typical) if typical else start.typical,
        parse_size(largest) if largest else start.largest,
        max_batch or start.max_batch,
    )
    for axis, name in ((0, "height"), (1, "width")):
        low, middle, high = shapes.smallest[axis], shapes.typical[axis], shapes.largest[axis]
        if not low <= middle <= high:
            raise SettingsError(
                f"the {name}s {low} (smallest), {middle} (typical) and {high} (largest) must not fall; "
                "state --min-shape, --opt-shape and --max-shape together"
            )
    return shapes


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of a text like "500x375": width first, as sizes of images are written."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise SettingsError(f"{text!r} is no size; write WIDTHxHEIGHT, for example 500x375")
    return int(height), int(width)


def measured_shapes(folder: Path, recipe: Recipe) -> Shapes:
    """Measure the images in a folder: the commonest size between the smallest and largest sides."""
    source = open_source(folder, recipe.modalities[:1])
    sizes = Counter(size for entry in source if not isinstance(entry, Failure) and (size := source.size(entry)))
    if not sizes:
        raise SettingsError(f"no image in {folder} can be measured; name another folder with --profile-from")
    heights, widths = [h for h, _ in sizes], [w for _, w in sizes]
    return Shapes(
        (min(heights), min(widths)), sizes.most_common(1)[0][0], (max(heights), max(widths)), recipe.shapes.max_batch
    )
