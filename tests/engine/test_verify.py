"""Comparing an engine with the network: what counts, what fails, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.engine.calibration import stand_ins
from fcnseg.engine.reference import ReferenceLabels, at_size, cases_of
from fcnseg.engine.verify import TIMED_BATCHES, TIMED_RUNS, verify
from fcnseg.errors import EngineError, ImageError, TooLargeError
from fcnseg.recipes import Recipe, Shapes, find_recipe
from fcnseg.types import Labels, Verification
from tests.fakes import RedEngine

RECIPE = find_recipe("street-fcn8s")
SHAPES = (Shapes((1, 1), (40, 50), (60, 80), 3),)
PHOTOGRAPHS = [{"color": np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)} for i in range(4)]


class Altered(RedEngine):
    """An engine whose labels are those of RedEngine after a change."""

    def __init__(self, change: Callable[[Labels], Labels], nan: bool = False) -> None:
        super().__init__()
        self.change, self.nan = change, nan

    def infer(self, inputs: Mapping[str, np.ndarray], probabilities: bool = False):  # type: ignore[no-untyped-def,override]
        labels = {"labels": self.change(inputs["color"][..., 0] % 11)}
        values = {"labels": np.full((len(inputs["color"]), 11, *inputs["color"].shape[1:3]), 1 / 11, np.float32)}
        if self.nan:
            values["labels"][0, 0, 0, 0] = np.nan
        return labels, values if probabilities else None


def compare(engine: Altered, min_agreement: float = 0.99, recipe: Recipe = RECIPE) -> Verification:
    network = Altered(lambda labels: labels)
    return verify(
        engine,
        ReferenceLabels(recipe, PHOTOGRAPHS).compute(network, SHAPES, fixed_sizes=True, probabilities=True),
        SHAPES,
        min_agreement=min_agreement,
        images="noise",
        fixed_sizes=True,
        probabilities=True,
    )


def test_equal_engines_agree_at_every_corner() -> None:
    found = compare(Altered(lambda labels: labels))
    assert (found.passed, found.agreement, found.max_probability_difference) == (True, 1.0, 0.0)
    assert found.cases == tuple(f"{size}, batch {n}" for size in ("1 x 1", "50 x 40", "80 x 60") for n in (1, 3))
    assert found.typical_seconds > 0


def test_the_worst_place_and_the_confusion_are_named() -> None:
    def sky_is_car(labels: Labels) -> Labels:
        labels = labels.copy()
        if labels.shape[1:] == (60, 80) and len(labels) == 3:  # only the largest full batch is wrong
            labels[labels == 0] = 8
        return labels

    found = compare(Altered(sky_is_car))
    assert not found.passed
    assert found.worst.startswith("80 x 60, batch 3: 9")
    assert "pixels that differ are 'car' instead of 'sky'" in found.worst
    assert compare(Altered(sky_is_car), min_agreement=0.8).passed


def test_one_pixel_of_a_tiny_image_may_differ() -> None:
    def first_pixel(labels: Labels) -> Labels:
        labels = labels.copy()
        if labels.shape[1:] == (1, 1):
            labels[0] = (labels[0] + 1) % 11
        return labels

    assert compare(Altered(first_pixel)).passed
    assert not compare(Altered(lambda labels: (labels + 1) % 11)).passed


@pytest.mark.parametrize(
    "engine",
    [Altered(lambda labels: labels + 11), Altered(lambda labels: labels[:, :, :-1]), Altered(lambda x: x, nan=True)],
    ids=["unknown class", "wrong size", "NaN"],
)
def test_what_no_network_gives_is_an_error(engine: Altered) -> None:
    with pytest.raises(EngineError, match="at 1 x 1, batch 1 the engine gives"):
        compare(engine)


def test_a_size_that_memory_does_not_hold_is_said_and_not_counted() -> None:
    def small_only(labels: Labels) -> Labels:
        if labels.shape[1] > 50:
            raise ImageError("no memory", "predict")
        return labels

    found = compare(Altered(small_only))
    assert found.passed
    assert found.cases[-1] == "80 x 60, batch 3: not compared, no memory"

    def never(labels: Labels) -> Labels:  # noqa: ARG001
        raise ImageError("no memory", "predict")

    with pytest.raises(EngineError, match="no size of the engine's range could be compared"):
        compare(Altered(never))


def test_a_size_that_the_network_does_not_take_is_said_too() -> None:
    def small_only(labels: Labels) -> Labels:
        if labels.shape[1] > 50:
            raise TooLargeError("no memory")
        return labels

    network = Altered(small_only)
    reference = ReferenceLabels(RECIPE, PHOTOGRAPHS).compute(network, SHAPES, fixed_sizes=True)
    engine = Altered(lambda labels: labels)
    found = verify(engine, reference, SHAPES, min_agreement=0.9, images="noise", fixed_sizes=True)
    assert found.passed
    assert found.cases[-1] == "80 x 60, batch 3: not compared, no memory"


@pytest.mark.parametrize(("fixed_sizes", "batch"), [(True, 3), (False, 1)])
def test_the_speed_is_that_of_full_batches_where_there_are_any(fixed_sizes: bool, batch: int) -> None:
    calls: list[int] = []

    class Counted(Altered):
        def infer(self, inputs: Mapping[str, np.ndarray], probabilities: bool = False):  # type: ignore[no-untyped-def,override]
            calls.append(len(inputs["color"]))
            return super().infer(inputs, probabilities)

    engine = Counted(lambda labels: labels)
    reference = ReferenceLabels(RECIPE, PHOTOGRAPHS).compute(engine, SHAPES, fixed_sizes=fixed_sizes)
    calls.clear()
    verify(engine, reference, SHAPES, min_agreement=0.9, images="noise", fixed_sizes=fixed_sizes)
    timed = 1 + (TIMED_BATCHES if fixed_sizes else TIMED_RUNS)
    assert calls[-timed:] == [batch] * timed


def test_batches_that_memory_does_not_hold_are_timed_smaller() -> None:
    def alone(labels: Labels) -> Labels:
        if len(labels) > 1:
            raise TooLargeError("no memory")
        return labels

    found = compare(Altered(alone))
    assert found.cases[1] == "1 x 1, batch 3: not compared, no memory"
    assert 0 < found.typical_seconds < float("inf")


def test_images_are_spread_evenly_and_those_compared_are_counted() -> None:
    many = [{"color": np.full((20, 20, 3), i, np.uint8)} for i in range(32)]
    seen: list[int] = []

    class Watched(Altered):
        def infer(self, inputs: Mapping[str, np.ndarray], probabilities: bool = False):  # type: ignore[no-untyped-def,override]
            seen.extend(inputs["color"][:, 0, 0, 0].tolist())
            return super().infer(inputs, probabilities)

    network = Altered(lambda labels: labels)
    for batch, together in ((1, []), (3, [0, 10, 21]), (10, [*range(0, 32, 4), 0, 4])):
        seen.clear()
        shapes = [Shapes((9, 9), (9, 9), (9, 9), batch)]
        reference = ReferenceLabels(RECIPE, many).compute(network, shapes, fixed_sizes=True)
        found = verify(
            Watched(lambda labels: labels), reference, shapes, min_agreement=0.9, images="mine", fixed_sizes=True
        )
        assert found.images == "8 of mine"
        expected = [*range(0, 32, 4), *together]
        assert seen[: len(expected)] == expected


def test_a_single_size_is_compared_once() -> None:
    assert names([Shapes((9, 9), (9, 9), (9, 9), 1)], fixed_sizes=True) == ["9 x 9, batch 1"]


def test_an_engine_of_any_size_is_compared_alone_and_no_larger_than_is_worth_the_wait() -> None:
    shapes = [Shapes((1, 1), (375, 500), (1024, 1024), 8)]
    assert names(shapes, fixed_sizes=False) == ["1 x 1, batch 1", "500 x 375, batch 1", "1024 x 1024, batch 1"]
    slow = find_recipe("voc-fcn8s")
    assert names(shapes, slow, fixed_sizes=False) == ["1 x 1, batch 1", "500 x 375, batch 1", "666 x 666, batch 1"]
    assert names(shapes, slow, fixed_sizes=True)[-1] == "1024 x 1024, batch 8"
    assert [case.images for case in cases_of(slow, shapes, 32, fixed_sizes=False)] == [1, 2, 1]
    assert [case.images for case in cases_of(RECIPE, shapes, 32, fixed_sizes=False)] == [1, 8, 1]


def names(shapes: Sequence[Shapes], recipe: Recipe = RECIPE, *, fixed_sizes: bool) -> list[str]:
    return [str(case) for case in cases_of(recipe, shapes, 4, fixed_sizes=fixed_sizes)]


@given(st.integers(1, 200), st.integers(1, 200))
def test_images_are_cropped_or_mirrored_never_resampled(height: int, width: int) -> None:
    image = PHOTOGRAPHS[0]["color"]
    found = at_size(image, height, width)
    assert found.shape == (height, width, 3)
    colours = {tuple(c) for c in image.reshape(-1, 3)}
    assert {tuple(c) for c in found.reshape(-1, 3)} <= colours


def test_other_modalities_get_stand_ins() -> None:
    made = dict(stand_ins(PHOTOGRAPHS[0]["color"], ("color", "depth", "hha")))
    assert (made["depth"].dtype, made["depth"].shape) == (np.float32, (48, 64, 1))
    assert (made["depth"] >= 1000).all()
    assert made["hha"].shape == (48, 64, 3)
