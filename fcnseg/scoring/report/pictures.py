"""Pictures of single images for reports: label maps over the photograph, and the pixels where two of them differ."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fcnseg.io.overlays import overlay
from fcnseg.labels import LabelSpace
from fcnseg.scoring.confusion import Map

LARGEST_PX = 560
OPACITY = 0.65
FEW = 0.01
"""Share of differing pixels below which they would hardly be seen."""

WRONG = (213, 94, 0)
"""Vermilion of Okabe & Ito's palette, which the colour-blind tell from grey."""


@dataclass(frozen=True)
class Picture:
    """One view of an image: `name` is left, right, wrong or photo; `uri` holds its bytes."""

    name: str
    title: str
    uri: str


@dataclass(frozen=True)
class Example:
    """An image with its views, all `width` x `height` px."""

    title: str
    key: str
    note: str
    width: int
    height: int
    pictures: tuple[Picture, ...]


def draw_example(
    titles: Mapping[str, str],
    caption: tuple[str, str, str],
    left: Map,
    right: Map,
    space: LabelSpace,
    photograph: NDArray[np.uint8] | None,
) -> Example:
    """Draw both label maps, the pixels where they differ, and the photograph if there is one.

    `titles` names the views left, right, wrong and photo; `caption` is the title, key and note. `left` and `right` are
    codes H x W: negative ones are void, which the difference leaves grey.
    """
    height, width = left.shape
    scale = min(1.0, LARGEST_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    blank = np.full((height, width, 3), 40, np.uint8)
    base = blank if photograph is None else photograph
    views = {
        name: overlay(base, _labels(codes, space), space, 1.0 if photograph is None else OPACITY)
        for name, codes in (("left", left), ("right", right))
    }
    views["wrong"] = difference(base, left, right)
    if photograph is not None:
        views["photo"] = photograph
    pictures = tuple(Picture(n, titles[n], _uri(pixels, size, photograph is None)) for n, pixels in views.items())
    return Example(*caption, *size, pictures)


def difference(pixels: NDArray[np.uint8], left: Map, right: Map) -> NDArray[np.uint8]:
    """Draw the image in grey, and pixels that differ in vermilion, a pixel wider where they are few."""
    grey = pixels.mean(2, keepdims=True) * 0.5 + 60
    drawn = np.broadcast_to(grey, pixels.shape).astype(np.uint8).copy()
    differs = (left != right) & (left >= 0)
    if differs.mean() < FEW:
        differs = np.asarray(Image.fromarray(differs.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))) > 0
    drawn[differs] = WRONG
    return drawn


def _labels(codes: Map, space: LabelSpace) -> NDArray[np.uint16]:
    return np.where(codes < 0, max(space.ignore, space.classes), codes).astype(np.uint16)


def _uri(pixels: NDArray[np.uint8], size: tuple[int, int], flat: bool) -> str:
    """Return a picture of that size as a data URI: PNG of few colours if it is `flat`, else WebP."""
    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.NEAREST if flat else Image.Resampling.BOX)
    return data_uri(image, "png" if flat else "webp")


def data_uri(image: Image.Image, form: str) -> str:
    """Return a Pillow image as a data URI."""
    data = io.BytesIO()
    if form == "png":
        image.quantize(256).save(data, "PNG", optimize=True)
    else:
        image.save(data, "WEBP", quality=70)
    return f"data:image/{form};base64,{base64.b64encode(data.getvalue()).decode()}"
