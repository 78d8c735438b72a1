"""Predicting images of any number and size: batches that halve where they do not fit."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from fcnseg.errors import ImageError, TooLargeError
from fcnseg.recipes import Recipe
from fcnseg.types import Engine, Frame, Labels, Pixels, Prediction, Probabilities

Inputs = Mapping[str, Pixels]
Found = tuple[dict[str, Labels], dict[str, Probabilities] | None]


class Predictor:
    """An engine that takes images of any size, in batches that fit it.

    `batch` is how many images of one size it likes at once. `events` counts what it had to do besides: halve a batch.
    What turned out to fit is remembered, so that later images need not fail first.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        *,
        probabilities: bool = False,
        tile: str | int = "auto",
        batch: int | None = None,
    ) -> None:
        self.engine, self.recipe, self.probabilities, self.tile = engine, recipe, probabilities, tile
        self.batch = batch or engine.info.max_batch
        self.events: Counter[str] = Counter()
        self._most_px: float = float("inf")

    def one(self, frame: Frame) -> Prediction:
        """The prediction of one image. Raises ImageError."""
        return _split(self.engine.infer(_together([frame]), self.probabilities))[0]

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Iterator[tuple[Frame, Prediction | ImageError]]:
        """The prediction of every image, or why there is none, in order. The images of a batch are of one size.

        An engine that overlaps batches has two of them under way; an empty batch asks for what is in the engine.
        """
        batches = iter(batches)
        under_way: deque[Sequence[Frame]] = deque()
        ended = False

        def calls() -> Iterator[Inputs]:
            """The inputs of batch after batch, up to an empty one or the end."""
            nonlocal ended
            for batch in batches:
                if not batch:
                    return
                under_way.append(batch)
                yield _together(batch)
            ended = True

        while not ended:
            try:
                for found in self._infer_each(calls()):
                    yield from zip(under_way.popleft(), _split(found), strict=True)
            except ImageError:
                while under_way:
                    yield from self._in_parts(under_way.popleft())

    def _infer_each(self, calls: Iterable[Inputs]) -> Iterator[Found]:
        """What the engine says of each call, overlapped if it can."""
        many: Callable[[Iterable[Inputs], bool], Iterator[Found]] | None = getattr(self.engine, "infer_many", None)
        if many:
            return many(calls, self.probabilities)
        return (self.engine.infer(inputs, self.probabilities) for inputs in calls)

    def _in_parts(self, batch: Sequence[Frame]) -> Iterator[tuple[Frame, Prediction | ImageError]]:
        """A batch that failed as a whole: halves of it if it was too large, else each image alone."""
        try:
            found: Sequence[Prediction | ImageError] = _split(self.engine.infer(_together(batch), self.probabilities))
        except ImageError as error:
            if len(batch) == 1:
                found = [error]
            else:
                half = len(batch) // 2 if isinstance(error, TooLargeError) else 1
                self.events["batches halved"] += isinstance(error, TooLargeError)
                yield from self._in_parts(batch[:half])
                yield from self._in_parts(batch[half:])
                return
        yield from zip(batch, found, strict=True)


def _together(frames: Sequence[Frame]) -> Inputs:
    """N x H x W x C of each modality."""
    if len(frames) == 1:
        return {modality: np.asarray(pixels)[None] for modality, pixels in frames[0].inputs.items()}
    return {m: np.stack([frame.inputs[m] for frame in frames]) for m in frames[0].inputs}


def _split(found: Found) -> list[Prediction]:
    """The prediction of each image of a call."""
    labels, probabilities = found
    rows = len(next(iter(labels.values())))
    return [
        Prediction({h: a[i] for h, a in labels.items()}, {h: a[i] for h, a in (probabilities or {}).items()} or None)
        for i in range(rows)
    ]
