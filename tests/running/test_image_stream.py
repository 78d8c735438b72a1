"""Segmenters called with many images: in order, in batches, ahead by a bounded number, the labels of single ones."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fcnseg
from fcnseg.drawing import areas
from fcnseg.errors import ImageError, SettingsError
from fcnseg.io.overlays import overlay
from fcnseg.labels import LabelSpace
from fcnseg.running import segmenter as segmenter_module
from fcnseg.types import Prediction
from tests.conftest import TinyModel, make_tiny, photograph
from tests.fakes import RedEngine

BATCH = 3


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> RedEngine:
    made = RedEngine(max_batch=BATCH)
    monkeypatch.setattr(segmenter_module, "engine_from", lambda *arguments, **options: made)
    return made


def pixels(seed: int, height: int = 4, width: int = 6) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_many_images_give_the_labels_of_single_ones_in_order(engine: RedEngine) -> None:
    images = [pixels(i, height=4 + i // 7) for i in range(20)]
    with fcnseg.load() as segmenter:
        together = segmenter(images)
        rows = [shape[0] for shape in engine.seen]
        lazily = list(segmenter(image for image in images))
        assert max(rows) == BATCH
        assert sum(rows) == len(images)
        for image, *found in zip(images, together, lazily, strict=True):
            alone = segmenter(image).labels["labels"]
            assert all(np.array_equal(one.labels["labels"], alone) for one in found)
        stacked = np.stack([pixels(i) for i in range(5)])
        of_array = segmenter(stacked)
        assert np.array_equal([one.labels["labels"] for one in of_array], stacked[..., 0] >> 6)
        assert segmenter([]) == []
        assert list(segmenter(iter([]))) == []


@pytest.mark.usefixtures("engine")
def test_a_generator_is_taken_as_its_results_are() -> None:
    taken = 0

    def camera() -> Iterator[np.ndarray[Any, Any]]:
        nonlocal taken
        while True:
            taken += 1
            yield pixels(taken)

    with fcnseg.load() as segmenter:
        results = segmenter(camera())
        assert taken == 0
        for number in range(1, 101):
            assert np.array_equal(next(results).labels["labels"], pixels(number)[..., 0] >> 6)
        assert taken < 100 + 40
        results.close()  # type: ignore[attr-defined]
        assert np.array_equal(segmenter(pixels(0)).labels["labels"], pixels(0)[..., 0] >> 6)


@pytest.mark.parametrize("fault", ["file", "form", "engine", "iterable"])
def test_what_fails_comes_in_its_place(fault: str, engine: RedEngine, tmp_path: Path) -> None:
    engine.widest_px = 50
    bad = {"file": tmp_path / "gone.png", "form": np.zeros((4, 6)), "engine": pixels(0, width=60)}

    def images() -> Iterator[Any]:
        yield from (pixels(i) for i in range(7))
        if fault == "iterable":
            raise OSError("the camera is gone")
        yield bad[fault]
        yield from (pixels(i) for i in range(7))

    with fcnseg.load() as segmenter:
        results = segmenter(images())
        assert len([next(results) for _ in range(7)]) == 7
        with pytest.raises(OSError if fault == "iterable" else ImageError) as caught:
            next(results)
        assert ("camera" if fault == "iterable" else "image 7") in str(caught.value)
        if fault == "file":
            assert "gone.png" in str(caught.value)
        assert segmenter(pixels(0)).labels["labels"].shape == (4, 6)


def test_the_networks_labels_do_not_depend_on_the_form_of_the_call(tmp_path: Path, tiny: TinyModel) -> None:
    photos = [photograph(tmp_path / f"{i}.png", seed=i) for i in range(4)]
    with fcnseg.load(str(tiny.recipe), tiny.weights, backend="torch", device="cpu") as segmenter:
        alone = [segmenter(photo) for photo in photos]
        for together in (segmenter(photos), list(segmenter(iter(photos), probabilities=True))):
            for one, other in zip(alone, together, strict=True):
                assert np.array_equal(one.labels["labels"], other.labels["labels"])
        assert together[0].probabilities["labels"].shape == (5, 30, 40)


def test_a_prediction_shows_itself(tmp_path: Path, tiny: TinyModel) -> None:
    photo = photograph(tmp_path / "a.png")
    with fcnseg.load(str(tiny.recipe), tiny.weights, backend="torch", device="cpu") as segmenter:
        (prediction,) = segmenter([photo])
        assert segmenter.classes["labels"].names == tuple("abcde")
        assert segmenter.classes == prediction.classes
    labels, space = prediction.labels["labels"], segmenter.classes["labels"]
    drawn = overlay(np.asarray(Image.open(photo)), labels, space)
    assert np.array_equal(np.asarray(prediction.overlay()), drawn)
    png = prediction._repr_png_()
    assert png
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), drawn)
    found = prediction.areas()
    assert sum(found.values()) == labels.size
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(found[space.names[i]] == (labels == i).sum() for i in np.unique(labels))


def test_of_several_heads_one_is_named(tmp_path: Path) -> None:
    model, photo = make_tiny(tmp_path, heads=2), photograph(tmp_path / "a.png")
    with fcnseg.load(str(model.recipe), model.weights, backend="torch", device="cpu") as segmenter:
        assert list(segmenter.classes) == ["head0", "head1"]
        prediction = segmenter(photo)
    assert prediction.overlay("head1").size == (40, 30)
    assert sum(prediction.areas("head0").values()) == 1200
    with pytest.raises(SettingsError, match="several heads; name one of head0, head1"):
        prediction.areas()
    with pytest.raises(SettingsError, match="no head 'labels'"):
        prediction.overlay("labels")
    png = prediction._repr_png_()
    assert png
    assert Image.open(io.BytesIO(png)).size == (80, 30)


def test_large_images_are_shown_small_and_drawn_whole() -> None:
    space = LabelSpace(("a", "b"), ((255, 0, 0), (0, 255, 0)))
    image = np.zeros((20, 4000, 3), np.uint8)
    prediction = Prediction({"labels": image[..., 0]}, classes={"labels": space}, picture=lambda: image)
    png = prediction._repr_png_()
    assert png
    assert Image.open(io.BytesIO(png)).size == (1600, 8)
    assert prediction.overlay().size == (4000, 20)


def test_a_prediction_without_an_image_says_so() -> None:
    bare = Prediction({"labels": np.zeros((2, 2), np.uint8)})
    assert bare._repr_png_() is None
    with pytest.raises(SettingsError, match="none is known"):
        bare.areas()


def test_areas_leave_void_out() -> None:
    space = LabelSpace(("a", "void", "a"), ((0, 0, 0),) * 3, ignore=1)
    assert areas(np.array([[0, 1, 2, 2, 9]], np.uint8), space) == {"a": 3}
