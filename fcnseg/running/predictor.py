"""Prediction of images of any number and size: batches are halved, and images cut into tiles, if they do not fit.

A tile's scores are those of the whole image as far as an engine gives the same scores for the same pixels in images of
another size. OpenVINO's do, to the last bit, in every precision. torch chooses other kernels for other sizes, so that
the last bits of its scores differ; a label would only where two classes tie to within them. TensorRT's have not been
compared.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from math import inf
from typing import Any

import numpy as np

from fcnseg.errors import ImageError, SettingsError, TooLargeError
from fcnseg.models.halo import halo_of
from fcnseg.models.spec import network_spec
from fcnseg.recipes import Recipe
from fcnseg.running.short_side import ShortSide
from fcnseg.running.tile_grid import Tile, cut_image, smallest_side
from fcnseg.types import Engine, Frame, Labels, Pixels, Prediction, Probabilities
from fcnseg.workers.limits import free_memory_bytes

Inputs = Mapping[str, Pixels]
Results = tuple[dict[str, Labels], dict[str, Probabilities] | None]

SIDE_BY_HALO = 4
"""The side of a tile by its halo: larger ones take more memory, smaller ones more time (at 4, nine sixteenths of the
arithmetic are a tile's own)."""


class Predictor:
    """An engine for images of any size, in batches that fit it.

    `tile` is "auto" (cut images that do not fit the engine or the memory), the largest side of tiles in px (cut all
    that are larger), or "off". `batch` is the number of images of one size at once, None for the engine's best. With
    `short_side` images are resized for the network, and results have the images' own size again. `events` counts images
    that were cut and batches that were halved, by the engine itself if it does so. The sizes that fit are remembered.

    Raises SettingsError for tiles smaller than the model's halo allows.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        *,
        probabilities: bool = False,
        tile: str | int = "auto",
        batch: int | None = None,
        short_side: ShortSide | None = None,
    ) -> None:
        self.engine, self.tile, self.short_side = engine, tile, short_side
        self.probabilities = probabilities or short_side is not None
        self.batch = batch or engine.info.max_batch
        events: Counter[str] | None = getattr(engine, "events", None)
        self.events = Counter[str]() if events is None else events
        self._halo = halo_of(network_spec(recipe))
        self._most_px: float = inf
        if isinstance(tile, int) and tile < smallest_side(self._halo):
            raise SettingsError(
                f"tiles of {tile} px are too small for {recipe.name}, whose labels depend on what lies around them; "
                f"use --tile {smallest_side(self._halo)} or more"
            )

    def one(self, frame: Frame) -> Prediction:
        """Return the prediction of one image. Raises ImageError."""
        prepared = self.prepared(frame)
        return self.finished(prepared, self._one(prepared))

    def prepared(self, frame: Frame) -> Frame:
        """Return what the network takes of an image. Raises ImageError. Any thread may call this."""
        return self.short_side.resized(frame) if self.short_side else frame

    def finished(self, frame: Frame, prediction: Prediction) -> Prediction:
        """Return the prediction of the image of a prepared frame. Raises ImageError. Any thread may call this."""
        return self.short_side.restored(frame, prediction) if self.short_side else prediction

    def _one(self, frame: Frame) -> Prediction:
        """Return the prediction of one prepared frame."""
        known = self._most_px
        try:
            while True:
                tiles = self._tiles(*frame.size)
                try:
                    return self._whole(frame) if len(tiles) == 1 else self._stitched(frame, tiles)
                except TooLargeError as error:
                    if self.tile == "off":
                        raise TooLargeError(f"{error}; use --tile auto") from error
                    self._most_px = self._at_once(tiles) * _tile_px(tiles) // 2
        except ImageError:
            self._most_px = known
            raise

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Generator[tuple[Frame, Prediction | ImageError]]:
        """Yield every prepared frame with its prediction, not finished, or the reason why there is none, in order.

        The images of a batch are of one size. An engine that overlaps batches has two of them under way; an empty batch
        makes it finish those.
        """
        batches = iter(batches)
        under_way: deque[Sequence[Frame]] = deque()
        apart: Sequence[Frame] = ()
        ended = False

        def calls() -> Iterator[Inputs]:
            """Yield the inputs of batches, up to an empty one, one that does not fit as it is, or the end."""
            nonlocal apart, ended
            for batch in batches:
                if not batch or not self._fits(batch):
                    apart = batch
                    return
                under_way.append(batch)
                yield _together(batch)
            ended = True

        while not ended:
            try:
                for results in self._infer_each(calls()):
                    yield from zip(under_way.popleft(), _predictions(results), strict=True)
            except ImageError:
                while under_way:
                    yield from self._in_parts(under_way.popleft())
            if apart:
                yield from self._in_parts(apart)
                apart = ()

    # ------------------------------------------------------------------ calls of the engine

    def _infer_each(self, calls: Iterator[Inputs]) -> Generator[Results]:
        """Yield the results of each call, overlapped if the engine can."""
        if hasattr(self.engine, "infer_many"):
            yield from self.engine.infer_many(calls, self.probabilities)
        else:
            for inputs in calls:
                yield self.engine.infer(inputs, self.probabilities)

    def _in_parts(self, batch: Sequence[Frame]) -> Iterator[tuple[Frame, Prediction | ImageError]]:
        """Predict a batch that may not fit as it is: in halves, down to single images."""
        if len(batch) == 1:
            try:
                yield batch[0], self._one(batch[0])
            except ImageError as error:
                yield batch[0], error
            return
        if self._fits(batch):
            try:
                predictions = _predictions(self.engine.infer(_together(batch), self.probabilities))
            except ImageError as error:
                if isinstance(error, TooLargeError):
                    self.events["batches halved"] += 1
                    self._most_px = len(batch) * _area(batch[0]) // 2
            else:
                yield from zip(batch, predictions, strict=True)
                return
        middle = len(batch) // 2
        yield from self._in_parts(batch[:middle])
        yield from self._in_parts(batch[middle:])

    def _fits(self, batch: Sequence[Frame]) -> bool:
        """Tell whether these images of one size are known not to need tiles or smaller batches."""
        try:
            whole = len(self._tiles(*batch[0].size)) == 1
        except ImageError:
            return False
        return whole and (len(batch) == 1 or len(batch) * _area(batch[0]) <= self._most_px)

    # ------------------------------------------------------------------ tiles

    def _tiles(self, height: int, width: int) -> tuple[Tile, ...]:
        """Return the tiles of an image of that size; one tile is the whole image."""
        if self.tile == "off":
            return cut_image((height, width), self._halo)
        largest, most_px = self.engine.info.largest or (inf, inf), self._most_px
        if isinstance(self.tile, int):
            largest = min(largest[0], self.tile), min(largest[1], self.tile)
        if height > largest[0] or width > largest[1] or height * width > most_px:
            most_px = min(most_px, (SIDE_BY_HALO * (self._halo.before_px + self._halo.after_px)) ** 2)
        tiles = cut_image((height, width), self._halo, largest, most_px)
        if not tiles:
            least, side = smallest_side(self._halo), self._halo.side_px
            tiles_too = f"nor do tiles of {least} x {least}, the least that gives this model's labels"
            if height % side or width % side:
                tiles_too = (
                    f"and tiles give this model's labels only where both sides are multiples of {side}, for its scores "
                    "are enlarged by another factor else"
                )
            larger = f"--tile {self.tile}" if isinstance(self.tile, int) else "the engine or the memory"
            resize = "" if self.short_side else ", or use --resize-short"
            raise ImageError(
                f"{width} x {height} pixels do not fit {larger}, {tiles_too}; free memory, or build an engine with a "
                f"larger --max-shape{resize}",
                "predict",
            )
        return tiles

    def _at_once(self, tiles: Sequence[Tile]) -> int:
        """Return the number of tiles in one call."""
        return int(max(1, min(self.batch, len(tiles), self._most_px // _tile_px(tiles))))

    def _whole(self, frame: Frame) -> Prediction:
        return _predictions(self.engine.infer(_together([frame]), self.probabilities))[0]

    def _stitched(self, frame: Frame, tiles: Sequence[Tile]) -> Prediction:
        """Predict an image tile by tile."""
        labels: dict[str, Any] = {}
        probabilities: dict[str, Any] = {}
        at_once = self._at_once(tiles)
        groups = [tiles[i : i + at_once] for i in range(0, len(tiles), at_once)]
        calls = (
            {m: np.stack([pixels[r.pixels, c.pixels] for r, c in group]) for m, pixels in frame.inputs.items()}
            for group in groups
        )
        with closing(self._infer_each(calls)) as results:
            for group, result in zip(groups, results, strict=True):
                for tile, prediction in zip(group, _predictions(result), strict=True):
                    _paste(labels, prediction.labels, tile, frame.size)
                    _paste(probabilities, prediction.probabilities or {}, tile, frame.size)
        self.events["images cut into tiles"] += 1
        return Prediction(labels, probabilities or None)


def _area(frame: Frame) -> int:
    height, width = frame.size
    return height * width


def _tile_px(tiles: Sequence[Tile]) -> int:
    """Return the pixels of one of these tiles of equal size."""
    rows, columns = tiles[0]
    return rows.end * columns.end


def _together(frames: Sequence[Frame]) -> Inputs:
    """Return N x H x W x C of each modality."""
    if len(frames) == 1:
        return {modality: pixels[None] for modality, pixels in frames[0].inputs.items()}
    return {m: np.stack([frame.inputs[m] for frame in frames]) for m in frames[0].inputs}


def _predictions(results: Results) -> list[Prediction]:
    """Return the prediction of each image of a call."""
    labels, probabilities = results
    rows = len(next(iter(labels.values())))
    return [
        Prediction({h: a[i] for h, a in labels.items()}, {h: a[i] for h, a in (probabilities or {}).items()} or None)
        for i in range(rows)
    ]


def _paste(whole: dict[str, Any], result: Mapping[str, Any], tile: Tile, size: tuple[int, int]) -> None:
    """Copy a tile's results (... x h x w, by head) into the image's arrays, which are made at the first tile."""
    rows, columns = tile
    for head, part in result.items():
        if head not in whole:
            shape = (*part.shape[:-2], *size)
            needed, free = np.prod(shape, dtype=float) * part.itemsize, free_memory_bytes()
            if needed > free:
                raise ImageError(
                    f"{size[1]} x {size[0]} pixels give {needed / 2**30:.1f} GiB of results, {free / 2**30:.1f} GiB of "
                    "memory are free; leave out --save-probabilities, or cut the image into parts",
                    "predict",
                )
            whole[head] = np.empty(shape, part.dtype)
        whole[head][..., rows.labels, columns.labels] = part[..., rows.kept, columns.kept]
