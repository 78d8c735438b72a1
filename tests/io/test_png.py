"""Label maps as PNG: encoded as others read them; unfiltered ones read as Pillow reads them, or left to it."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnseg.io.label_maps_image import read_from_image
from fcnseg.io.png import STRIP_BYTES, encode, read_unfiltered
from fcnseg.io.raw_map import palette_colors
from fcnseg.types import Labels

PALETTE = bytes(range(256)) * 3


def read(content: bytes) -> Labels:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return np.asarray(image)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([np.uint8, np.uint16]), st.integers(0, 2**32 - 1))
def test_every_label_map_is_read_back_as_it_was(height: int, width: int, dtype: type, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)
    content = b"".join(encode(labels, PALETTE, {}))
    assert np.array_equal(read(content), labels)
    unchanged = cv2.IMREAD_UNCHANGED if dtype is np.uint16 else cv2.IMREAD_COLOR
    by_opencv = cv2.imdecode(np.frombuffer(content, np.uint8), unchanged)
    assert by_opencv is not None
    if dtype is np.uint16:
        assert np.array_equal(by_opencv, labels)
    else:
        assert np.array_equal(by_opencv[..., ::-1], np.frombuffer(PALETTE, np.uint8).reshape(256, 3)[labels])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_maps_of_several_strips(dtype: type) -> None:
    labels = (np.arange(1500 * 1501) // 7 % 300).astype(dtype).reshape(1500, 1501)
    assert labels.nbytes > 2 * STRIP_BYTES
    content = b"".join(encode(labels, PALETTE, {}))
    assert np.array_equal(read(content), labels)
    assert b"".join(encode(labels, PALETTE, {})) == content


def test_text_that_is_not_latin_is_kept() -> None:
    content = b"".join(encode(np.zeros((1, 1), np.uint8), PALETTE, {"fcnseg:model": "街路"}))
    with Image.open(io.BytesIO(content)) as image:
        assert image.text == {"fcnseg:model": "街路"}


def test_a_large_label_map_is_encoded_without_a_second_copy() -> None:
    labels = np.zeros((4000, 4000), np.uint16)
    tracemalloc.start()
    try:
        for _ in encode(labels, PALETTE, {}):
            pass
        assert tracemalloc.get_traced_memory()[1] < labels.nbytes / 4
    finally:
        tracemalloc.stop()


def test_label_maps_that_are_views_are_encoded_as_they_read() -> None:
    labels = np.arange(600, dtype=np.uint16).reshape(20, 30).T[::2]
    assert np.array_equal(read(b"".join(encode(labels, PALETTE, {}))), labels)
    assert np.array_equal(read(b"".join(encode(labels.astype(np.uint8, order="K"), PALETTE, {}))), labels % 256)


# ---------------------------------------------------------------------- unfiltered ones


def saved(image: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **how)
    return file.getvalue()


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
    by_pillow = read_from_image(data)
    np.testing.assert_array_equal(found[0], by_pillow.values)
    assert palette_colors(found[1]) == by_pillow.palette


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
