"""Arithmetic of label maps that are looked at: classes drawn over an image, their colours and their areas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.labels import LabelSpace

LabelMap = NDArray[np.unsignedinteger[Any]]


def overlay(pixels: NDArray[np.uint8], labels: LabelMap, space: LabelSpace, opacity: float = 0.5) -> NDArray[np.uint8]:
    """Mix each pixel of an image with the colour of its class.

    `pixels` is uint8 H x W x 3, RGB; `labels` H x W, any unsigned type; `opacity` from 0 (the image) to 1 (the
    colours). Void, and every other value that is no class, stays as the image. Returns uint8 H x W x 3, RGB. Raises
    ValueError where the sizes differ or the opacity is out of range.
    """
    if pixels.shape != (*labels.shape, 3):
        raise ValueError(f"the image is {pixels.shape}, the label map {labels.shape}; they must be H x W x 3 and H x W")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; it must be from 0 to 1")
    classes = space.classes
    colors = np.array([*space.colors, (0, 0, 0)], np.float32)  # the last row: no class
    shares = np.full(classes + 1, opacity, np.float32)
    shares[classes] = 0
    rows = np.minimum(labels, classes).astype(np.intp)
    if space.ignore < classes:
        rows[labels == space.ignore] = classes
    # p + s (c - p) = s c + (1 - s) p, one look-up table a channel: level 0..255 by row
    levels = np.arange(256, dtype=np.float32)
    tables = colors[:, :, None] * shares[:, None, None] + (1 - shares)[:, None, None] * levels
    mixed = np.empty_like(pixels)
    for channel in range(3):
        mixed[..., channel] = np.rint(tables[:, channel]).astype(np.uint8)[rows, pixels[..., channel]]
    return mixed


def color_table(space: LabelSpace, values: int) -> NDArray[np.uint8]:
    """Return the colours, RGB, of the labels 0 to `values` - 1 (256 or 65536), N x 3: those that an indexed PNG shows
    up to 255, and black for what is no class above."""
    table = np.zeros((max(values, space.classes, 256), 3), np.uint8)
    table[:256] = np.frombuffer(space.palette, np.uint8).reshape(256, 3)
    table[: space.classes] = space.colors
    return table[:values]


def areas(labels: LabelMap, space: LabelSpace) -> dict[str, int]:
    """Return the pixels of each class that occurs in a label map H x W, the largest first.

    Void, and every other value that is no class, is left out. Classes of one name count together.
    """
    pixels = np.bincount(labels.ravel(), minlength=space.classes)[: space.classes]
    if space.ignore < space.classes:
        pixels[space.ignore] = 0
    found: dict[str, int] = {}
    for index in np.argsort(-pixels, kind="stable"):
        if pixels[index]:
            found[space.names[index]] = found.get(space.names[index], 0) + int(pixels[index])
    return found
