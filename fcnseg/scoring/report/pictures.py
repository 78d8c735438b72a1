"""Pictures of single images for reports: labels over the photograph, and where two label maps differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fcnseg.io.overlays import overlay
from fcnseg.labels import LabelSpace
from fcnseg.scoring.confusion import Map

if TYPE_CHECKING:
    from PIL import Image

LARGEST_PX = 560
OPACITY = 0.65
LITTLE = 0.01
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
class Case:
    """An image with its views, all `width` x `height` px."""

    title: str
    key: str
    note: str
    width: int
    height: int
    pictures: tuple[Picture, ...]


def draw_case(
    titles: Mapping[str, str],
    case: tuple[str, str, str],
    left: Map,
    right: Map,
    space: LabelSpace,
    photograph: NDArray[np.uint8] | None,
) -> Case:
    """Both label maps, where they differ, and the photograph if there is one.

    `titles` names the views left, right, wrong and photo; `case` is the title, key and note. Codes H x W: negative
    ones are void, which the difference leaves grey.
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
    return Case(*case, *size, pictures)


def difference(pixels: NDArray[np.uint8], left: Map, right: Map) -> NDArray[np.uint8]:
    """The image in grey, with what differs in vermilion, spread by a pixel where it is little; void is the same."""
    from PIL import Image, ImageFilter

    grey = pixels.mean(2, keepdims=True) * 0.5 + 60
    drawn = np.broadcast_to(grey, pixels.shape).astype(np.uint8).copy()
    differs = (left != right) & (left >= 0)
    if differs.mean() < LITTLE:
        differs = np.asarray(Image.fromarray(differs.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))) > 0
    drawn[differs] = WRONG
    return drawn


def _labels(codes: Map, space: LabelSpace) -> NDArray[np.uint16]:
    return np.where(codes < 0, max(space.ignore, space.classes), codes).astype(np.uint16)


def _uri(pixels: NDArray[np.uint8], size: tuple[int, int], flat: bool) -> str:
    """A small picture as a data URI: PNG of few colours without a photograph, else WebP."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.NEAREST if flat else Image.Resampling.BOX)
    return data_uri(image, "png" if flat else "webp")


def data_uri(image: Image.Image, form: str) -> str:
    """A Pillow image inside a text."""
    data = io.BytesIO()
    if form == "png":
        image.quantize(256).save(data, "PNG", optimize=True)
    else:
        image.save(data, "WEBP", quality=70)
    return f"data:image/{form};base64,{base64.b64encode(data.getvalue()).decode()}"
