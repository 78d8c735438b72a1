"""Labels from coarse scores against the whole graph's last layers in OpenVINO, ties and near ties among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import openvino
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fcnseg.engine import coarse_labels as module
from fcnseg.engine.coarse_labels import LEAD, Blocks, coarse_labels, has_coarse_labels
from fcnseg.engine.runtimes.openvino_last_layers import LastLayers
from fcnseg.models import network_spec
from fcnseg.models.geometry import Window
from fcnseg.models.layers import bilinear_kernel, initial_values
from fcnseg.models.spec import Head, NetworkSpec, plan_fusion
from fcnseg.recipes import find_recipe, recipe_names
from fcnseg.weights.tensors import Array

SPECS = {
    "same 8s": NetworkSpec("vgg16", 8, (Head(5),), geometry="same"),
    "caffe 8s": NetworkSpec("vgg16", 8, (Head(5),)),
    "caffe 16s": NetworkSpec("vgg16", 16, (Head(3),)),
    "caffe 32s": NetworkSpec("vgg16", 32, (Head(2),)),
    "odd kernel": NetworkSpec("alexnet", 32, (Head(3),)),
    "many classes": NetworkSpec("vgg16", 8, (Head(300),), geometry="same"),
}

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


@cache
def last_layers(classes: int, window: Window) -> LastLayers:
    return LastLayers(classes, window, lambda model: openvino.Core().compile_model(model, "CPU", SETTINGS))


class Case:
    """A network's last layers, and a map of the size that an image needs."""

    def __init__(self, name: str, height: int, width: int) -> None:
        self.spec, self.size = SPECS[name], (height, width)
        self.blocks, self.classes = Blocks.of(self.spec), self.spec.heads[0].classes
        self.last = last_layers(self.classes, plan_fusion(self.spec)[-1].window)
        self.map = tuple(max(1, self.blocks.range_of(n)[1] - 1) for n in self.size)
        self.calls: list[tuple[int, ...]] = []

    def check(self, scores: Array) -> None:
        scores = np.ascontiguousarray(scores, np.float32)
        before = scores.copy()
        offset, (height, width) = self.blocks.offset_px, self.size
        expected = self.last(scores)[offset : offset + height, offset : offset + width]
        found = coarse_labels(scores, self.size, self.blocks, self._counted)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        assert np.array_equal(scores, before, equal_nan=True)

    def _counted(self, scores: Array) -> Array:
        self.calls.append(scores.shape)
        return self.last(scores)


def smooth(rng: np.random.Generator, classes: int, rows: int, columns: int) -> Array:
    """Scores with regions, as a network gives them."""
    noise = rng.normal(size=(classes, rows + 4, columns + 4))
    return 30 * sum(noise[:, i : i + rows, j : j + columns] for i in range(5) for j in range(5)) / 25


def nudged(rng: np.random.Generator, scores: Array) -> Array:
    """Scores whose second best class is the best one's equal, or a few units in the last place from it."""
    scores = np.asarray(scores, np.float32)
    second, first = np.argsort(scores, axis=0)[-2:]
    top = np.take_along_axis(scores, first[None], 0)
    off = rng.integers(-3, 4, top.shape).astype(np.float32) * np.spacing(np.abs(top))
    np.put_along_axis(scores, second[None], top + off, 0)
    return scores


HARD: dict[str, Callable[[np.random.Generator, Array], Array]] = {
    "regions": lambda rng, scores: scores,
    "near ties in every cell": nudged,
    "near ties in few cells": lambda rng, scores: np.where(
        rng.random(scores.shape[1:]) < 0.05, nudged(rng, scores.copy()), scores
    ),
    "whole numbers": lambda rng, scores: np.rint(scores / 10),
    "small numbers": lambda rng, scores: scores * 1e-38,
    "one large number": lambda rng, scores: np.where(scores == scores.max(), 1e30, scores),
    "all zero": lambda rng, scores: 0 * scores,
    "all below zero": lambda rng, scores: scores - 1e4,
    "two of one": lambda rng, scores: np.concatenate([scores[:-1], scores[:1]]),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("kind", HARD)
def test_labels_are_those_of_the_whole_graph(name: str, kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    for size in ((1, 1), (1, 97), (70, 3), (75, 100)):
        case = Case(name, *size)
        case.check(HARD[kind](rng, smooth(rng, case.classes, *case.map)))


@given(
    st.sampled_from(["same 8s", "caffe 8s", "odd kernel"]),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(HARD)),
    st.integers(0, 2),
)
@settings(max_examples=60, deadline=None)
@example("same 8s", 300, 300, 0, "regions", 0)
def test_at_every_size(name: str, height: int, width: int, seed: int, kind: str, more: int) -> None:
    case, rng = Case(name, height, width), np.random.default_rng(seed)
    rows, columns = case.map
    case.check(HARD[kind](rng, smooth(rng, case.classes, rows + more, columns + more)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_left_to_the_whole_graph(value: float) -> None:
    case = Case("same 8s", 60, 80)
    scores = smooth(np.random.default_rng(0), case.classes, *case.map)
    scores[1, 2, 3] = value
    case.check(scores)
    assert case.calls == [scores.shape]


def test_regions_are_not_computed() -> None:
    case = Case("same 8s", 160, 240)
    scores = np.zeros((5, *case.map), np.float32)
    scores[1, :, :9], scores[3, :, 9:] = 7, 5
    case.check(scores)
    assert case.calls == []
    scores[2, 4:6, 4:6] = 7
    case.check(scores)
    assert case.calls == [(5, 2, 2 * module.UNDECIDED)]


@pytest.mark.parametrize("kind", HARD)
def test_no_order_of_a_sum_takes_away_the_lead(kind: str) -> None:
    """What is decided here is decided so in exact arithmetic, with a quarter of the lead to spare for any order."""
    case, rng = Case("same 8s", 100, 120), np.random.default_rng(5)
    scores = np.asarray(HARD[kind](rng, smooth(rng, case.classes, *case.map)), np.float32)
    ranges = [case.blocks.range_of(n) for n in case.size]
    grid = module._Grid(scores, ranges)
    labels = grid.best.repeat(8, axis=0).repeat(8, axis=1)
    undecided = module._compute_mixed(grid, case.blocks, labels)
    every = np.argwhere(np.ones(grid.best.shape, bool))
    corners = np.stack(grid.corners(every), axis=-1).astype(np.longdouble)
    exact = (corners @ case.blocks.weights.astype(np.longdouble)).reshape(case.classes, *grid.best.shape, 8, 8)
    lead = np.sort(exact, axis=0)[-1] - np.sort(exact, axis=0)[-2]
    decided = np.ones(grid.best.shape, bool)
    decided[tuple(undecided.T)] = False
    tiles = labels.reshape(grid.best.shape[0], 8, grid.best.shape[1], 8).swapaxes(1, 2)
    assert np.array_equal(exact.argmax(0)[decided], tiles[decided])
    there = np.stack(module._Grid(np.ones_like(scores), ranges).corners(every), axis=-1)[0]
    share = (there @ case.blocks.weights).reshape(*grid.best.shape, 8, 8)
    if decided.any():
        assert (lead[decided] > 0.25 * LEAD * np.abs(scores).max() * share[decided]).all()


@pytest.mark.parametrize("name", recipe_names())
def test_it_holds_for_bilinear_kernels_of_one_class_each(name: str) -> None:
    spec = network_spec(find_recipe(name))
    weights = dict(initial_values(spec))
    plan = plan_fusion(spec)
    assert has_coarse_labels(spec, weights) == bool(plan)
    if plan:
        key = f"{plan[-1].name}{spec.heads[-1].suffix}.weight"
        kernel = bilinear_kernel(plan[-1].window.kernel)
        classes = spec.heads[-1].classes
        trained = weights[key].copy()
        trained[-1, 0, 0, 0] += 1e-3
        dense = np.eye(classes, dtype=np.float32)[:, :, None, None] * kernel
        for other in (trained, -weights[key], dense):
            assert not has_coarse_labels(spec, {**weights, key: other})
        assert not has_coarse_labels(
            replace(spec, heads=(Head(1),)), dict(initial_values(replace(spec, heads=(Head(1),))))
        )
