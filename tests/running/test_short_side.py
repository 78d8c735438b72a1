"""Images resized to a short side: torchvision's labels, at the images' own sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from fcnseg.errors import ImageError
from fcnseg.running.short_side import ShortSide, interpolated, resized_size
from fcnseg.types import Frame, Prediction

SIDES = st.integers(1, 90)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 60))
def test_sizes_are_torchvisions(height: int, width: int, short: int) -> None:
    functional_of_images = pytest.importorskip("torchvision.transforms.functional")
    image = Image.new("RGB", (width, height))
    theirs = functional_of_images.resize(image, [short])
    assert theirs.size[::-1] == resized_size((height, width), short)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 1 << 30))
def test_interpolation_is_torchs(height: int, width: int, to_height: int, to_width: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(0, 10, (3, height, width)).astype(np.float32)
    strips = {rows.start: strip for rows, strip in interpolated(scores, (to_height, to_width))}
    found = np.moveaxis(np.concatenate([strips[top] for top in sorted(strips)]), -1, 0)
    expected = functional.interpolate(
        torch.from_numpy(scores)[None], (to_height, to_width), mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


def test_large_results_are_made_in_strips() -> None:
    scores = np.random.default_rng(0).normal(size=(21, 4, 5)).astype(np.float32)
    strips = list(interpolated(scores, (1000, 700)))
    assert len(strips) > 5
    assert [rows.start for rows, _ in strips[1:]] == [rows.stop for rows, _ in strips[:-1]]
    assert sum(len(strip) for _, strip in strips) == 1000


@pytest.mark.parametrize("probabilities", [False, True])
def test_labels_are_those_of_the_scores_however_small_their_probabilities(probabilities: bool) -> None:
    """A mean of probabilities would decide otherwise."""
    scores = np.random.default_rng(1).normal(0, 10, (1, 6, 40, 50)).astype(np.float32)
    side = ShortSide(40, probabilities)
    frame = side.resized(Frame("a", "a", {"color": np.zeros((97, 121, 3), np.uint8)}))
    assert frame.size == (40, 49)
    values = torch.from_numpy(scores[..., :49]).softmax(1)[0].numpy()
    found = side.restored(frame, Prediction({"labels": values.argmax(0).astype(np.uint8)}, {"labels": values}))
    expected = functional.interpolate(
        torch.from_numpy(scores[..., :49]), (97, 121), mode="bilinear", align_corners=False
    )[0]
    assert found.labels["labels"].dtype == np.uint8
    assert (found.labels["labels"] == expected.argmax(0).numpy()).mean() > 0.999
    assert (found.probabilities is not None) == probabilities
    if found.probabilities:
        np.testing.assert_allclose(found.probabilities["labels"], expected.softmax(0).numpy(), atol=1e-3)
        assert (found.probabilities["labels"].argmax(0) == found.labels["labels"]).all()


def test_an_image_that_would_become_too_large_is_refused() -> None:
    line = Frame("line", "line", {"color": np.zeros((1, 10_000, 3), np.uint8)})
    with pytest.raises(ImageError, match=r"a short side of 520 px makes it 5200000 x 520, more than 178,956,970 px"):
        ShortSide(520).resized(line)
    with pytest.raises(ImageError, match="more than 100 px"):
        ShortSide(11, max_pixels=100).resized(Frame("a", "a", {"color": np.zeros((11, 11, 3), np.uint8)}))


def test_an_image_of_that_size_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    frame = ShortSide(30).resized(Frame("a", "a", {"color": pixels}))
    assert np.array_equal(frame.inputs["color"], pixels)
    labels = np.zeros((30, 41), np.uint8)
    prediction = Prediction({"labels": labels}, {"labels": np.ones((2, 30, 41), np.float32)})
    assert ShortSide(30).restored(frame, prediction).probabilities is None
    assert ShortSide(30, True).restored(frame, prediction).probabilities is not None
