"""Images resized to one short side for the network, and its results brought back to their own size.

torchvision's FCNs were trained and are evaluated so: its reference (`references/segmentation/presets.py`, and
`weights.transforms()`) resizes the decoded image to a short side of 520 px by Pillow's bilinear filter, which averages
when it shrinks; the long side is rounded down. It then compares labels at that size with ground truth that it resized,
too. Here labels have the image's own size: scores are interpolated to it as the network interpolates its own
(bilinearly, corners not aligned), and the highest one is the label.

Engines give probabilities. Their logarithms differ from the scores by a number that is the same for all classes of a
pixel, and stay so when they are interpolated: the highest class is that of the interpolated scores, and their softmax
the interpolated scores' probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.image_limits import check_memory
from fcnseg.io.images import MAX_PIXELS
from fcnseg.types import Frame, Prediction

STRIP_BYTES = 1 << 23
"""About the memory of the scores that are interpolated at once."""

LEAST = 1e-38
"""Probabilities are taken to be at least this: near the least float32 that has full precision."""


@dataclass(frozen=True)
class ShortSide:
    """Resizing to a short side of `short_px`. `probabilities`: they are asked for, not labels alone."""

    short_px: int
    probabilities: bool = False
    max_pixels: int = MAX_PIXELS

    def resized(self, frame: Frame) -> Frame:
        """Return a color frame for the network, with the frame itself as its `original`.

        Raises ImageError if it would have more than `max_pixels`, or more than memory has room for.
        """
        height, width = resized_size(frame.size, self.short_px)
        if height * width > self.max_pixels:
            raise ImageError(
                f"a short side of {self.short_px} px makes it {width} x {height}, more than {self.max_pixels:,} px; "
                "leave out --resize-short"
            )
        check_memory(3 * height * width)
        pixels = frame.inputs["color"]
        if (height, width) != frame.size:
            image = Image.fromarray(np.ascontiguousarray(pixels))
            pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        return Frame(frame.key, frame.stem, {"color": pixels}, frame)

    def restored(self, frame: Frame, prediction: Prediction) -> Prediction:
        """Return the prediction of a resized frame at the size of its original. Raises ImageError without memory."""
        assert frame.original is not None
        assert prediction.probabilities is not None  # the engine was asked for them
        size = frame.original.size
        if size == frame.size:
            return prediction if self.probabilities else replace(prediction, probabilities=None)
        labels, probabilities = {}, {}
        for head, values in prediction.probabilities.items():
            shape = (len(values), *size)
            check_memory(size[0] * size[1] * (4 * len(values) if self.probabilities else 2))
            labels[head] = np.empty(size, prediction.labels[head].dtype)
            if self.probabilities:
                probabilities[head] = np.empty(shape, np.float32)
            for rows, scores in interpolated(np.log(np.maximum(values, LEAST, dtype=np.float32)), size):
                labels[head][rows] = scores.argmax(-1)
                if self.probabilities:
                    np.moveaxis(probabilities[head][:, rows], 0, -1)[:] = _softmax(scores)
        return replace(prediction, labels=labels, probabilities=probabilities or None)


def resized_size(size: tuple[int, int], short_px: int) -> tuple[int, int]:
    """Return the height and width of an image resized to a short side, the long one rounded down."""
    short, long = min(size), max(size)
    resized_long = int(short_px * long / short)
    return (short_px, resized_long) if size[0] <= size[1] else (resized_long, short_px)


def interpolated(scores: NDArray[np.float32], size: tuple[int, int]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield scores K x h x w interpolated to a size (H, W), bilinearly: strips of rows, each rows x W x K."""
    classes, height, width = scores.shape
    by_pixel = np.ascontiguousarray(np.moveaxis(scores, 0, -1))
    above, below, down = _samples(height, size[0])
    left, right, across = _samples(width, size[1])
    strip = max(1, STRIP_BYTES // (4 * classes * size[1]))
    for top in range(0, size[0], strip):
        rows = slice(top, min(size[0], top + strip))
        lines = _between(by_pixel[above[rows]], by_pixel[below[rows]], down[rows, None, None])
        yield rows, _between(lines[:, left], lines[:, right], across[None, :, None])


def _between(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    second -= first
    second *= share
    second += first
    return second


def _samples(count: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return, along an axis, the two samples each target lies between, and how far it is from the first."""
    places = np.maximum((np.arange(target) + 0.5) * (count / target) - 0.5, 0)
    first = np.minimum(places.astype(np.intp), count - 1)
    return first, np.minimum(first + 1, count - 1), (places - first).astype(np.float32)


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))
