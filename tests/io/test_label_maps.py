"""Label maps in every form people keep them in."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.label_maps_hdf5 import locate_in_hdf5
from fcnseg.io.raw_map import MapLocation
from fcnseg.labels import LabelSpace, voc_color
from tests.scoring.maps import save

LABELS = np.array([[0, 1, 2, 2], [20, 255, 3, 0]], np.uint8)
SPACE = LabelSpace(tuple("abc"), tuple(voc_color(i) for i in range(3)))


def few_bits_png(levels: np.ndarray[Any, Any], depth: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel, written out: Pillow writes none."""
    height, width = levels.shape
    rows = b""
    for row in levels:
        bits = "".join(f"{int(v):0{depth}b}" for v in row)
        bits += "0" * (-len(bits) % 8)
        rows += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def mat73(path: Path, name: str, values: np.ndarray[Any, Any]) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file[name] = values.T
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\x02IM")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "grey.png": lambda p: save(p, LABELS),
    "sixteen.png": lambda p: save(p, LABELS.astype(np.uint16)),
    "indexed.png": lambda p: save(p, LABELS, SPACE.palette),
    "grey.tif": lambda p: save(p, LABELS),
    "grey.pgm": lambda p: save(p, LABELS),
    "grey.bmp": lambda p: save(p, LABELS),
    "opaque.png": lambda p: Image.fromarray(np.dstack([LABELS, np.full_like(LABELS, 255)]), "LA").save(p),
    "uint8.npy": lambda p: np.save(p, LABELS),
    "int64.npy": lambda p: np.save(p, LABELS.astype(np.int64)),
    "big_endian.npy": lambda p: np.save(p, LABELS.astype(">i4")),
    "leading.npy": lambda p: np.save(p, LABELS[None]),
    "trailing.npy": lambda p: np.save(p, LABELS[..., None]),
    "float.npy": lambda p: np.save(p, LABELS.astype(np.float32)),
    "float.tif": lambda p: Image.fromarray(LABELS.astype(np.float32)).save(p),
    "plain.npz": lambda p: np.savez_compressed(p, LABELS),
    "named.npz": lambda p: np.savez(p, image=np.zeros((2, 4, 3)), label=LABELS),
    "sbd.mat": lambda p: scipy.io.savemat(p, {"GTcls": {"Segmentation": LABELS, "Boundaries": np.zeros((9, 9))}}),
    "siftflow.mat": lambda p: scipy.io.savemat(p, {"S": LABELS.astype(float), "names": np.zeros((5, 1))}),
    "nyud.mat": lambda p: scipy.io.savemat(p, {"segmentation": LABELS.astype(np.uint16)}),
    "only.mat": lambda p: scipy.io.savemat(p, {"mask": LABELS}),
    "new.mat": lambda p: mat73(p, "LabelMap", LABELS.astype(float)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_labels_come_out_of_every_form(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    raw = read_map(MapLocation(str(tmp_path / name)))
    assert raw.kind == "labels"
    assert raw.values.dtype.kind in "iu"
    np.testing.assert_array_equal(raw.values, LABELS)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits_keeps_its_levels(depth: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(depth).integers(0, 1 << depth, (5, 11))
    (tmp_path / "few.png").write_bytes(few_bits_png(levels, depth))
    np.testing.assert_array_equal(read_map(MapLocation(str(tmp_path / "few.png"))).values, levels)


def test_labels_of_sixteen_bits_keep_their_values(tmp_path: Path) -> None:
    labels = np.array([[0, 299, 65535]], np.uint16)
    np.testing.assert_array_equal(read_map(MapLocation(str(save(tmp_path / "a.png", labels)))).values, labels)


def test_volumes_hold_many_maps(tmp_path: Path) -> None:
    file = tmp_path / "maps.h5"
    with h5py.File(file, "w") as h5:
        h5["street/a.png"] = LABELS
        h5["stack"] = np.stack([LABELS, LABELS + 1])
        h5["probabilities/b"] = np.full((3, 2, 4), 1 / 3, np.float16)
        h5["note"] = "not a map"
    places = locate_in_hdf5(str(file))
    assert set(places) == {"street/a.png", "stack/000000", "stack/000001", "probabilities/b"}
    np.testing.assert_array_equal(read_map(places["stack/000001"]).values, LABELS + 1)
    assert read_map(places["probabilities/b"]).kind == "probabilities"
    assert set(locate_in_hdf5(str(file), "/street")) == {"a.png"}


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text.png": (lambda p: p.write_text("no image"), "no image that can be read"),
    "cut.png": (
        lambda p: p.write_bytes(
            save(p, np.random.default_rng(0).integers(0, 9, (50, 60), np.uint8)).read_bytes()[:300]
        ),
        "cannot be read",
    ),
    "lossy.jpg": (lambda p: Image.fromarray(LABELS).save(p), "JPEG"),
    "misnamed.png": (lambda p: Image.fromarray(LABELS).save(p, "JPEG"), "JPEG"),
    "rank.npy": (lambda p: np.save(p, np.zeros((2, 2, 2, 2))), "2 x 2 x 2 x 2"),
    "row.npy": (lambda p: np.save(p, np.zeros(4, np.uint8)), "uint8 4"),
    "pickle.npy": (lambda p: np.save(p, np.array([{}]), allow_pickle=True), "cannot be read"),
    "empty.npy": (lambda p: np.save(p, np.zeros((0, 4), np.uint8)), "empty"),
    "empty.png": (lambda p: p.write_bytes(b""), "cannot be read"),
    "two.mat": (lambda p: scipy.io.savemat(p, {"a": LABELS, "b": LABELS}), "several"),
    "half.mat": (lambda p: scipy.io.savemat(p, {"S": LABELS + 0.5}), "whole numbers"),
    "text.mat": (lambda p: p.write_text("x" * 300), "cannot be read"),
    "pages.tif": (
        lambda p: Image.fromarray(LABELS).save(p, save_all=True, append_images=[Image.fromarray(LABELS)]),
        "2 frames",
    ),
    "deep.png": (lambda p: cv2.imwrite(str(p), np.zeros((2, 3, 3), np.uint16)), "16 bits"),
    "yuv.tif": (lambda p: Image.new("YCbCr", (3, 2)).save(p), "YCbCr colours"),
    "huge.npy": (lambda p: np.save(p, np.array([[2**63 + 1]], np.uint64)), "9223372036854775809"),
    "sbd.mat": (lambda p: scipy.io.savemat(p, {"GTcls": {"Boundaries": LABELS}}), "without Segmentation"),
    "infinite.mat": (lambda p: scipy.io.savemat(p, {"S": np.array([[np.inf, 1]])}), "whole numbers"),
    "clear.png": (lambda p: Image.new("RGBA", (3, 2), (1, 2, 3, 90)).save(p), "transparent"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_label_map_is_named(name: str, tmp_path: Path) -> None:
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(LabelsError, match=reason) as refused:
        read_map(MapLocation(str(tmp_path / name)))
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_volumes_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no volume")
    for name, reason in (("text.h5", "it is no HDF5 file"), ("gone.h5", "No such file or directory")):
        with pytest.raises(LabelsError, match=rf"{name} cannot be read: {reason}$"):
            locate_in_hdf5(str(tmp_path / name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"gone.png cannot be read: No such file"):
        read_map(MapLocation(str(tmp_path / "gone.png")))
