"""Files that are no images of the usual formats: read by a further library, or named in the reason."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io import file_kinds
from fcnseg.io.images import read_color

PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((64, 48))
)


def heic(**options: object) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PIXELS)).save(file, quality=-1, **options)
    return file.getvalue()


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def test_heic_avif_and_jpeg_2000_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    contents = {"a.jpg": heic(), "b.png": saved("AVIF", quality=100, subsampling="4:4:4"), "c.tif": saved("JPEG2000")}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        difference = np.abs(read_color(tmp_path / name).astype(int) - PIXELS)
        assert difference.mean() <= (0 if name == "c.tif" else 8), name
        np.testing.assert_array_equal(read_color(content), read_color(tmp_path / name))


def test_heic_names_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(file_kinds, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match="it is HEIC, which needs pillow-heif; `pip install pillow-heif` installs it"):
        read_color(content)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"<?xml version='1.0'?>\n<svg xmlns=", "SVG"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "a raw file of a camera (CR3)"),
        (b"FUJIFILMCCD-RAW 0201", "a raw file of a camera"),
        (b"v/1\x01\2\0\0\0", "OpenEXR"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, not the file itself"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "the shadow of a file that macOS leaves"),
        (bytes(4096), "zeros"),
        (b"some text", ""),
    ],
)
def test_other_files_are_named(start: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as raised:
        read_color(start)
    assert str(raised.value) == "not an image of a known format" + (f" (it is {kind})" if kind else "")
