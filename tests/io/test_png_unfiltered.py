"""Unfiltered PNGs are read as Pillow reads them, or left to it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnseg.io import label_maps as reading
from fcnseg.io.png_unfiltered import read_unfiltered


def saved(image: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **how)
    return file.getvalue()


def by_pillow(data: bytes) -> reading.RawMap:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "read_unfiltered", lambda data: None)
        return reading._from_image(data)


@given(
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=70)),
    st.integers(17, 256),  # fewer take fewer bits
    st.integers(0, 9),
    st.booleans(),
)
def test_values_and_palette_are_pillows(values: np.ndarray[Any, Any], colors: int, level: int, text: bool) -> None:
    values = (values.astype(int) % colors).astype(np.uint8)
    image = Image.fromarray(values)
    image.putpalette(np.random.default_rng(colors).integers(0, 256, 3 * colors, np.uint8).tobytes())
    notes = PngInfo()
    if text:
        notes.add_text("model", "street")
    data = saved(image, compress_level=level, bits=8, pnginfo=notes)
    found = read_unfiltered(data)
    assert found is not None
    np.testing.assert_array_equal(found[0], values)
    ours, theirs = reading._from_image(data), by_pillow(data)
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert ours.palette == theirs.palette


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16) // 3)),  # filtered
        saved(Image.new("P", (9, 7)), transparency=0),
        saved(Image.new("L", (9, 7)), transparency=3),
        saved(Image.new("P", (9, 7)), bits=4),
        saved(Image.new("1", (9, 7))),
        saved(Image.new("I;16", (9, 7))),
        saved(Image.new("RGB", (9, 7))),
        saved(Image.new("P", (9, 7)), save_all=True, append_images=[Image.new("P", (9, 7), 3)]),
        b"",
        b"GIF89a" + bytes(40),
    ],
    ids=["filtered", "transparent", "transparent grey", "4 bits", "1 bit", "16 bits", "colours", "moving", "", "GIF"],
)
def test_other_pictures_are_left_to_pillow(data: bytes) -> None:
    assert read_unfiltered(data) is None


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_one_is_left_to_pillow(place: int, change: int) -> None:
    image = Image.fromarray(np.arange(40, dtype=np.uint8).reshape(5, 8))
    image.putpalette(bytes(range(256)) * 3)
    data = bytearray(saved(image, bits=8))
    assert read_unfiltered(bytes(data)) is not None
    assert read_unfiltered(bytes(data[: place % len(data)])) is None
    data[place % len(data)] ^= change
    assert read_unfiltered(bytes(data)) is None
