"""Labels drawn over images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcnseg.io.overlays import legend, overlay
from fcnseg.labels import LabelSpace, voc_color

SPACE = LabelSpace(("sky", "road", "car"), ((0, 0, 255), (128, 64, 128), (255, 255, 255)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([np.uint8, np.uint16]))
def test_classes_are_mixed_and_void_stays(seed: int, opacity: float, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (5, 7, 3), np.uint8)
    labels: NDArray[np.uint8] = rng.choice([0, 1, 2, 3, 200, 255], (5, 7)).astype(dtype)
    drawn = overlay(pixels, labels, SPACE, opacity)
    assert drawn.dtype == np.uint8
    for place in np.ndindex(labels.shape):
        if labels[place] >= 3:
            assert (drawn[place] == pixels[place]).all()
        else:
            mixed = (1 - opacity) * pixels[place] + opacity * np.array(SPACE.colors[labels[place]])
            assert np.abs(drawn[place] - mixed).max() <= 0.5 + 1e-4


def test_what_does_not_fit_is_refused() -> None:
    pixels, labels = np.zeros((4, 6, 3), np.uint8), np.zeros((6, 4), np.uint8)
    with pytest.raises(ValueError, match="H x W x 3"):
        overlay(pixels, labels, SPACE)
    with pytest.raises(ValueError, match="opacity"):
        overlay(pixels, labels.T, SPACE, 1.5)


@pytest.mark.parametrize("classes", [1, 3, 21, 60])
def test_the_legend_shows_every_colour(classes: int) -> None:
    space = LabelSpace(tuple(f"class {i}" for i in range(classes)), tuple(voc_color(i) for i in range(classes)))
    shown = {color for _, color in legend(space).getcolors(1 << 24)}
    assert set(space.colors) <= shown


def test_a_legend_of_some_keeps_their_labels() -> None:
    assert legend(SPACE, [2]).tobytes() != legend(LabelSpace(SPACE.names[2:], SPACE.colors[2:])).tobytes()
    shown = {color for _, color in legend(SPACE, [0, 2]).getcolors(1 << 24)}
    assert SPACE.colors[1] not in shown
