"""Keys and stems."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.io.names import safe_key, stem_of


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        ("a/b.c.jpg", "a/b.c"),
        ("a.JPEG", "a"),
        ("a.png/b.tif", "a.png/b"),
        ("frame.0001", "frame.0001"),
        ("a.raw", "a.raw"),
        (".jpg", ".jpg"),
        ("a/.png", "a/.png"),
        ("images/000123", "images/000123"),
    ],
)
def test_outputs_are_called_by_the_key_without_its_image_suffix(key: str, stem: str) -> None:
    assert stem_of(key) == stem


@given(st.text(st.sampled_from("ab./\\\0\n"), max_size=12))
def test_no_member_key_leads_outside(name: str) -> None:
    key = safe_key(name)
    if key is None:
        assert name.startswith("/") or ".." in name.split("/") or not name.replace("/", "").replace(".", "")
    else:
        assert os.path.normpath(key) == key
        assert not key.startswith("/")
        assert not key.startswith("../")
        assert key not in (".", "..")
