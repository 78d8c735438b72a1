"""Label maps that claim or unpack to more than there is memory for, and files one would wait for."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.label_maps_matlab import check_mat
from fcnseg.io.raw_map import MapLocation
from tests.io.hostile import READ_MAPS, end_of

LABELS = np.arange(30, dtype=np.uint8).reshape(5, 6)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, *, depth: int = 8) -> bytes:
    header = struct.pack(">LLBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def npy(shape: tuple[int, ...], content: bytes, dtype: str = "|u1") -> bytes:
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content


def npz(**arrays: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def mat(nbytes: int, content: bytes) -> bytes:
    """A file of version 5 with one packed variable, uint8 1 x nbytes."""
    flags, sizes = struct.pack("<4L", 6, 8, 9, 0), struct.pack("<4L", 5, 8, 1, nbytes)
    name, values = struct.pack("<2L8s", 1, 1, b"a"), struct.pack("<2L", 2, nbytes) + content
    variable = flags + sizes + name + values
    packed = zlib.compress(struct.pack("<2L", 14, len(variable)) + variable)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + struct.pack("<2L", 15, len(packed)) + packed


def hdf5(shape: tuple[int, ...], chunks: tuple[int, ...], fill: bool = False) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        data = h5.create_dataset("a", shape, np.uint8, chunks=chunks, maxshape=(None,) * len(shape), compression=9)
        if fill:
            data.id.write_direct_chunk((0,) * len(shape), zlib.compress(bytes(int(np.prod(chunks))), 9))
    return file.getvalue()


SIDE = 40_000
HARM: dict[str, Callable[[], bytes]] = {
    "claims.png": lambda: png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(99))),
    "claims16.png": lambda: png(2**20, 2**20, zlib.compress(bytes(99)), depth=16),
    "bomb.png": lambda: png(6, 5, zlib.compress(bytes(1 << 30), 9)),
    "large.png": lambda: png(SIDE, SIDE, zlib.compress(bytes(SIDE * (SIDE + 1)), 9)),
    "claims.npy": lambda: npy((10**6, 10**6), bytes(99)),
    "negative.npy": lambda: npy((-5, 6), bytes(99)),
    "overflow.npy": lambda: npy((2**40, 2**40), bytes(99)),
    "claims.npz": lambda: npz(classes=npy((1, 10**6, 10**6), b""), probabilities=npy((1, 10**6, 10**6), b"")),
    "bomb.npz": lambda: npz(classes=npy((1, SIDE, SIDE), bytes(SIDE * SIDE)), probabilities=npy((1, 5, 6), bytes(30))),
    "bomb.mat": lambda: mat(2 << 30, bytes(2 << 30)),
    "claims.mat": lambda: mat(2 << 30, bytes(99)),
    "claims.h5": lambda: hdf5((10**6, 10**6), (100, 100)),
    "chunk.h5": lambda: hdf5((10, 10), (60_000, 60_000)),
    "large.h5": lambda: hdf5((30_000, 30_000), (30_000, 30_000), fill=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HARM)
def test_what_a_map_claims_is_not_believed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HARM[name]())
    (end,) = end_of(path, code=READ_MAPS, seconds=60, memory_bytes=1100 << 20).values()
    assert isinstance(end, str) or name == "bomb.png", end  # what is left over is not unpacked


def test_a_map_that_does_not_fit_the_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(400_000, 400_000, zlib.compress(bytes(1 << 20)) * 200))
    with (tmp_path / "b.npy").open("wb") as file:
        file.write(npy((1 << 20, 1 << 22), b""))
        file.truncate(1 << 43)
    (tmp_path / "c.h5").write_bytes(hdf5((10**6, 10**6), (100, 100)))
    for location in (MapLocation(f"{tmp_path}/b.npy"), MapLocation(f"{tmp_path}/c.h5", "/a")):
        with pytest.raises(LabelsError, match="more than the memory that is free"):
            read_map(location)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.png", "b.npy", "c.npz", "d.mat", "e.tif"):
        os.mkfifo(tmp_path / name)
    found = end_of(tmp_path, code=READ_MAPS)
    assert len(found) == 5
    assert all("is no regular file" in end for end in found.values())


def test_what_is_no_label_map_runs_no_other_program(tmp_path: Path) -> None:
    """Pillow gives PostScript to Ghostscript, whatever a file is called."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    (end,) = end_of(tmp_path / "a.png", code=READ_MAPS).values()
    assert "no image" in end


def test_maps_of_every_form_are_what_they_were(tmp_path: Path) -> None:
    for order in "CF":
        for values in (LABELS, LABELS.astype(np.int64), LABELS.astype(">u2"), LABELS > 3):
            np.save(tmp_path / "a.npy", np.asarray(values, order=order))  # type: ignore[call-overload]
            assert np.array_equal(read_map(MapLocation(f"{tmp_path}/a.npy")).values, values)
    for options in ({}, {"do_compression": True}, {"format": "4"}):
        savemat(tmp_path / "a.mat", {"x": LABELS}, **options)
        check_mat(tmp_path / "a.mat")
        assert np.array_equal(read_map(MapLocation(f"{tmp_path}/a.mat")).values, LABELS)
    probabilities = np.zeros((2, 5, 6), np.float32)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", classes=np.stack([LABELS, LABELS]), probabilities=probabilities)
        assert np.array_equal(read_map(MapLocation(f"{tmp_path}/a.npz")).values, LABELS)
    large = np.zeros((3000, 30_000), np.uint8)
    large[7, 9] = 5
    Image.fromarray(large).save(tmp_path / "a.png")
    assert np.array_equal(read_map(MapLocation(f"{tmp_path}/a.png")).values, large)
