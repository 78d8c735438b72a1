"""Predictions of a stream of images: decoded ahead in threads, in batches of one size, in the stream's order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.images import pixels_of
from fcnseg.io.waiting import map_ahead
from fcnseg.running.predictor import Predictor
from fcnseg.types import Frame, Prediction
from fcnseg.workers.limits import usable_cores

MOST_THREADS = 8
"""The most threads that decode."""


class ImageStream:
    """The predictions of images, an iterator that takes them as it goes: some batches ahead, however many there are.

    An image that fails ends it, when those before have been given; so does an error of the iterable that was given.
    """

    def __init__(self, predictor: Predictor, images: Iterable[Any]) -> None:
        self._predictor, self._images = predictor, images
        self._threads = min(MOST_THREADS, usable_cores())
        self._taken: deque[Any] = deque()
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Prediction]:
        with closing(self._batches()) as batches, closing(self._predictor.stream(batches)) as results:
            for frame, result in results:
                image = self._taken.popleft()
                if isinstance(result, ImageError):
                    raise _named(result, image, frame.key) from result
                yield with_picture(self._predictor, self._finished(frame, result, image), image)
        if self._error:
            raise self._error

    def _finished(self, frame: Frame, prediction: Prediction, image: Any) -> Prediction:
        try:
            return self._predictor.finished(frame, prediction)
        except ImageError as error:
            raise _named(error, image, frame.key) from error

    def _batches(self) -> Generator[Sequence[Frame]]:
        """Yield consecutive images of one size, up to the engine's best batch; up to the first that cannot be read."""
        batch: list[Frame] = []
        ahead = 2 * max(self._threads, self._predictor.batch)
        try:
            with closing(map_ahead(self._decoded, self._numbered(), self._threads, ahead)) as decoded:
                for image, frame in decoded:
                    if batch and (frame.size != batch[0].size or len(batch) == self._predictor.batch):
                        yield batch
                        batch = []
                    self._taken.append(image)
                    batch.append(frame)
        except Exception as error:  # raised in the order of the images
            self._error = error
        if batch:
            yield batch

    def _decoded(self, numbered: tuple[int, Any]) -> tuple[Any, Frame]:
        number, image = numbered
        try:
            return image, self._predictor.prepared(Frame(str(number), "", {"color": pixels_of(image)}))
        except ImageError as error:
            raise _named(error, image, str(number)) from error

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        try:
            yield from enumerate(self._images)
        except Exception as error:  # the images before it are still to be given
            self._error = error


def with_picture(predictor: Predictor, prediction: Prediction, image: Any) -> Prediction:
    """Return a prediction that knows its classes and its image."""
    return replace(prediction, classes=predictor.engine.info.heads, picture=partial(pixels_of, image))


def images_in(images: Any) -> Iterable[Any] | None:
    """Return the images of a collection; None for what is one image."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return None
    if hasattr(images, "__array__") or hasattr(images, "shape"):
        return images if len(images.shape) == 4 else None
    return images if isinstance(images, Iterable) else None


def _named(error: ImageError, image: Any, number: str) -> ImageError:
    """Return an error that says which image of the stream it is of."""
    path = f" ({os.fspath(image)!s})" if isinstance(image, str | os.PathLike) else ""
    return ImageError(f"image {number}{path}: {error}", error.stage)
