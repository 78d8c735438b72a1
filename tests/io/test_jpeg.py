"""JPEGs of every kind: sound ones have libjpeg's pixels, damaged ones are refused, harmless faults are remarked on."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.images import read_color, read_hha
from fcnseg.io.remarks import remarks
from fcnseg.io.sources import open_source
from fcnseg.types import Reference

RNG = np.random.default_rng(0)


def scene(height: int, width: int) -> Image.Image:
    """A picture with large shapes and fine texture, as photographs have."""
    coarse = cv2.resize(
        RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return Image.fromarray(np.clip(coarse + RNG.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8))


SCENE = scene(300, 400)
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts of rows": {"restart_marker_rows": 2},
    "restarts of blocks": {"restart_marker_blocks": 7},
    "coarse": {"quality": 30, "optimize": True},
    "fine": {"quality": 95, "subsampling": "4:4:4"},
}
MODES = ("RGB", "L", "CMYK")


def encoded(kind: str, mode: str = "RGB", image: Image.Image = SCENE) -> bytes:
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", **KINDS[kind])
    return file.getvalue()


DAMAGE: dict[str, Callable[[bytes, int], bytes]] = {
    "cut": lambda content, at: content[:at],
    "cut and closed": lambda content, at: content[:at] + b"\xff\xd9",
    "512 bytes missing": lambda content, at: content[:at] + content[at + 512 :],
    "a hole of 4 KB": lambda content, at: content[:at] + bytes(4096) + content[at + 4096 :],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused(kind: str, damage: str) -> None:
    """Except what libjpeg does not see: scans that refine coefficients may have lost bytes."""
    for mode in MODES:
        content = encoded(kind, mode)
        read_color(content)
        for share in (0.2, 0.4) if kind == "progressive" else (0.2, 0.4, 0.55, 0.7, 0.9):
            damaged = DAMAGE[damage](content, int(len(content) * share))
            with pytest.raises(ImageError, match=r"damaged|truncated|cannot be (read|decoded)"):
                read_color(damaged)


def test_the_reason_is_libjpegs() -> None:
    content = encoded("baseline")
    with pytest.raises(ImageError, match=r"its pixels are damaged \(premature end of data segment\); fetch or copy it"):
        read_color(content[: len(content) // 2] + b"\xff\xd9")


def with_profile(content: bytes, body: bytes) -> bytes:
    return content[:2] + b"\xff\xe2" + (len(body) + 2).to_bytes(2, "big") + body + content[2:]


def with_bytes_between(content: bytes) -> bytes:
    at = content.index(b"\xff\xdb")
    return content[:at] + b"noise" + content[at:]


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "bytes before the end": lambda content: content[:-2] + b"twelve bytes" + content[-2:],
    "zeros before the end": lambda content: content[:-2] + bytes(300) + content[-2:],
    "bytes behind the end": lambda content: content + RNG.bytes(500),
    "no end": lambda content: content[:-2],
    "bytes between segments": with_bytes_between,
    "a bad profile": lambda content: with_profile(content, b"ICC_PROFILE\0\1\2" + b"x" * 50),
    "profiles out of order": lambda content: with_profile(content, b"ICC_PROFILE\0\3\2" + b"x" * 50),
    "an unknown JFIF": lambda content: content.replace(b"JFIF\0\1\1", b"JFIF\0\7\1", 1),
    "fill bytes": lambda content: content[:2] + b"\xff\xff\xff" + content[2:],
}


@pytest.mark.parametrize("fault", HARMLESS)
@pytest.mark.parametrize("mode", MODES)
def test_harmless_faults_do_not_matter_and_hide_no_damage(fault: str, mode: str) -> None:
    for kind in ("baseline", "progressive", "restarts of rows"):
        content = encoded(kind, mode)
        np.testing.assert_array_equal(read_color(HARMLESS[fault](content)), read_color(content))
        with pytest.raises(ImageError):
            read_color(HARMLESS[fault](DAMAGE["512 bytes missing"](content, len(content) // 2)))


def test_a_remark_tells_of_bytes_behind_the_pixels() -> None:
    content = encoded("baseline")
    with remarks() as faults:
        read_color(content)
        assert faults == []
        read_color(HARMLESS["bytes before the end"](content))
    assert faults == ["there are extraneous bytes behind its pixels, which are whole"]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpegs_are_those_of_opencv(mode: str) -> None:
    for kind in KINDS:
        for size in ((1, 1), (17, 33), (300, 400)):
            content = encoded(kind, mode, scene(*size))
            by_opencv = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            assert np.abs(read_color(content).astype(int) - by_opencv[..., ::-1]).max() <= 4
            if mode == "RGB":
                np.testing.assert_array_equal(read_hha(content), read_color(content))


def test_damage_is_refused_in_every_source(tmp_path: Path) -> None:
    sound, damaged = encoded("baseline"), DAMAGE["cut and closed"](encoded("baseline"), 9000)
    members = {"a.jpg": sound, "b.jpg": damaged}
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in members.items():
            (tmp_path / "folder" / name).write_bytes(content)
            archive.writestr(name, content)
            tar.add(tmp_path / "folder" / name, name)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        files = file.create_dataset("files", 2, h5py.vlen_dtype(np.uint8))
        files[0], files[1] = (np.frombuffer(content, np.uint8) for content in members.values())
    for name in ("folder", "a.zip", "a.tar", "a.h5::/files"):
        source = open_source(f"{tmp_path}/{name}")
        first, second = (found for found in source if isinstance(found, Reference))
        assert source.load(first).size == (300, 400)
        with pytest.raises(ImageError, match="damaged"):
            source.load(second)
        source.close()
