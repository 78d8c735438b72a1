"""Predicting at any size: what one image costs another (nothing), and what tiles cost the labels (nothing)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fcnseg.errors import ImageError, SettingsError, TooLargeError
from fcnseg.recipes import find_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.types import Frame, Pixels, Prediction
from tests.fakes import RedEngine

RECIPE = find_recipe("street-fcn8s")
LEAST = 553
"""The least side of this model's tiles: 245 px before, 245 px after, and two steps of 32 px less one."""


class Limited(RedEngine):
    """Takes no more than `most_px` pixels a call; cannot label images whose first pixel is blue."""

    def __init__(self, most_px: float = np.inf, max_batch: int = 1, largest: tuple[int, int] | None = None) -> None:
        super().__init__(max_batch=max_batch)
        self.info = replace(self.info, largest=largest)
        self.most_px, self.refused = most_px, 0

    def infer(self, inputs: Mapping[str, Pixels], probabilities: bool = False) -> Any:
        pixels = inputs["color"]
        if pixels[..., 0].size > self.most_px:
            self.refused += 1
            raise TooLargeError("too large")
        if (pixels[:, 0, 0] == (0, 0, 255)).all(axis=-1).any():
            raise ImageError("blue", "predict")
        return super().infer(inputs, probabilities)


class Overlapping(Limited):
    """Gives the results of a batch only after it took the next, as engines on GPUs do."""

    most_under_way = 0

    def infer_many(self, batches: Iterable[Mapping[str, Pixels]], probabilities: bool = False) -> Iterator[Any]:
        under_way: deque[Any] = deque()
        for inputs in batches:
            under_way.append(self.infer(inputs, probabilities))
            self.most_under_way = max(self.most_under_way, len(under_way))
            if len(under_way) == 2:
                yield under_way.popleft()
        yield from under_way


ENGINES = [Limited, Overlapping]


def frame(key: str, height: int = 4, width: int = 6, *, blue: bool = False) -> Frame:
    rng = np.random.default_rng(int.from_bytes(key.encode(), "big"))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if blue:
        pixels[0, 0] = 0, 0, 255
    return Frame(key, key, {"color": pixels})


def check(found: Iterable[tuple[Frame, Prediction | ImageError]], failed: Sequence[str] = ()) -> list[str]:
    """The keys in order, their labels being right and `failed` being those that have none."""
    found = list(found)
    for one, prediction in found:
        assert isinstance(prediction, ImageError) == (one.key in failed), one.key
        if isinstance(prediction, Prediction):
            assert np.array_equal(prediction.labels["labels"], one.inputs["color"][..., 0] >> 6)
    return [one.key for one, _ in found]


@pytest.mark.parametrize("engine", ENGINES)
def test_each_image_of_a_batch_fails_alone_and_all_come_in_order(engine: type[Limited]) -> None:
    keys = [f"{i:02}" for i in range(21)]
    batches = [[frame(key, blue=key in ("06", "13", "20")) for key in keys[i : i + 4]] for i in range(0, 21, 4)]
    predictor = Predictor(engine(max_batch=4), RECIPE)
    assert predictor.batch == 4
    assert check(predictor.stream(batches), ["06", "13", "20"]) == keys
    assert not predictor.events


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_that_is_too_large_is_halved_and_that_is_remembered(engine: type[Limited]) -> None:
    running = engine(most_px=3 * 24, max_batch=8)
    predictor = Predictor(running, RECIPE)
    keys = [f"{i:02}" for i in range(32)]
    batches = [[frame(key) for key in keys[i : i + 8]] for i in range(0, 32, 8)]
    assert check(predictor.stream(batches[:1])) == keys[:8]
    refused = running.refused
    assert predictor.events["batches halved"] == 2
    assert check(predictor.stream(batches[1:])) == keys[8:]
    assert running.refused == refused
    assert max(rows for rows, *_ in running.seen[-3:]) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_that_is_too_large_is_cut_and_later_ones_at_once(engine: type[Limited]) -> None:
    running = engine(most_px=700 * 700)
    predictor = Predictor(running, RECIPE)
    batches = [[frame("small")], [frame("a", 1500, 1200)], [frame("b", 900, 1700)], [frame("c", 400, 600)]]
    assert check(predictor.stream(batches)) == ["small", "a", "b", "c"]
    assert predictor.events == {"images cut into tiles": 2}
    refused = running.refused
    assert check(predictor.stream(batches)) == ["small", "a", "b", "c"]
    assert running.refused == refused


def test_the_engines_range_is_kept_and_its_batches_are_used() -> None:
    running = Overlapping(max_batch=4, largest=(600, 900))
    predictor = Predictor(running, RECIPE)
    assert check(predictor.stream([[frame("a", 1300, 1000)], [frame("b", 600, 900)]])) == ["a", "b"]
    assert running.refused == 0
    assert all(height <= 600 and width <= 900 for _, height, width, _ in running.seen)
    assert max(rows for rows, *_ in running.seen) == 4
    assert running.most_under_way == 2
    assert len({shape[1:] for shape in running.seen[:-1]}) == 1


def test_tiles_of_a_stated_size_are_always_cut() -> None:
    running = Limited()
    predictor = Predictor(running, RECIPE, tile=640)
    assert check(predictor.stream([[frame("a", 900, 640)], [frame("b", 640, 640)]])) == ["a", "b"]
    assert predictor.events == {"images cut into tiles": 1}
    assert all(max(shape[1:3]) <= 640 for shape in running.seen)


def test_without_tiles_the_error_stands_and_says_what_would_help() -> None:
    predictor = Predictor(Limited(most_px=100), RECIPE, tile="off")
    with pytest.raises(TooLargeError, match=r"^too large; use --tile auto$"):
        predictor.one(frame("a", 700, 700))


def test_tiles_that_cannot_keep_the_labels_are_refused() -> None:
    with pytest.raises(SettingsError, match=f"use --tile {LEAST}"):
        Predictor(Limited(), RECIPE, tile=LEAST - 1)
    running = Limited(largest=(480, 640))
    with pytest.raises(ImageError, match=f"{LEAST} x {LEAST}.*--max-shape"):
        Predictor(running, RECIPE).one(frame("a", 700, 700))
    assert not running.seen


def test_what_fits_not_even_in_tiles_changes_nothing_for_others() -> None:
    running = Limited(most_px=500)
    predictor = Predictor(running, RECIPE, batch=4)
    found = list(predictor.stream([[frame("a", 900, 900)], [frame("b", 30, 30)], [frame(k) for k in "cdef"]]))
    assert check(found, "ab") == list("abcdef")
    assert all("nor do tiles" in str(error) for _, error in found[:2])
    running.most_px = np.inf
    assert check(predictor.stream([[frame("a", 900, 900)], [frame("b", 30, 30)]])) == ["a", "b"]
    assert not predictor.events


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_dies_of_is_raised_after_what_it_gave(engine: type[Limited]) -> None:
    class Dying(engine):  # type: ignore[misc, valid-type]
        def infer(self, inputs: Any, probabilities: bool = False) -> Any:
            if len(self.seen) == 2:
                raise RuntimeError("gone")
            return super().infer(inputs, probabilities)

    predictor = Predictor(Dying(), RECIPE)
    found = predictor.stream([[frame(key)] for key in "abcd"])
    given = [next(found)]
    with pytest.raises(RuntimeError, match="gone"):
        given.extend(found)
    assert check(given) == ["a"] if engine is Overlapping else ["a", "b"]


def test_an_empty_batch_brings_out_what_is_under_way() -> None:
    running = Overlapping()
    taken: list[str] = []

    def batches() -> Iterator[list[Frame]]:
        for key in "abc":
            taken.append(key)
            yield [frame(key)]
            yield []

    found = Predictor(running, RECIPE).stream(batches())
    assert next(found)[0].key == "a"
    assert taken == ["a"]
    assert check(found) == ["b", "c"]


def test_probabilities_are_put_together_too() -> None:
    one = frame("a", 1100, 700)
    found = Predictor(Limited(), RECIPE, probabilities=True, tile=600).one(one)
    whole = Predictor(Limited(), RECIPE, probabilities=True).one(one)
    assert found.probabilities is not None
    assert whole.probabilities is not None
    assert np.array_equal(found.probabilities["labels"], whole.probabilities["labels"])
    assert found.probabilities["labels"].dtype == np.float32
    assert found.nbytes == whole.nbytes == 1100 * 700 * (1 + 4 * 4)


def test_probabilities_that_memory_does_not_hold_fail_their_image() -> None:
    class ManyClasses(Limited):
        def infer(self, inputs: Any, probabilities: bool = False) -> Any:
            labels, _ = super().infer(inputs, probabilities)
            shape = labels["labels"].shape
            return labels, {"labels": np.broadcast_to(np.float32(0), (shape[0], 1 << 30, *shape[1:]))}

    with pytest.raises(ImageError, match="GiB of results"):
        Predictor(ManyClasses(), RECIPE, probabilities=True, tile=600).one(frame("a", 700, 700))
