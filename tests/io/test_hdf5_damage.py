"""Damaged HDF5 files end in errors, neither in endless loops nor in crashes."""

import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.sources import open_source
from fcnseg.types import Failure
from tests.io.hdf5_files import COLOR, FILES, references, write


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flipped_bytes_end_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("g/x", data=COLOR, chunks=(2, 5, 7, 3), compression="gzip", fletcher32=True)
        file["g/y"] = COLOR[0]
        file["g/z"] = np.frombuffer(FILES[0], np.uint8)

    path = write(tmp_path_factory.mktemp("damaged") / "a.h5", fill)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    reasons = []
    try:
        source = open_source(f"{path}::{data.draw(st.sampled_from(['g', 'g/x', '']))}", max_pixels=10_000)
        for found in source:
            if isinstance(found, Failure):
                reasons.append(found.reason)
                continue
            try:
                source.load(found)
            except ImageError as error:
                reasons.append(str(error))
    except SourceError as error:
        reasons.append(str(error))
    assert not any("\n" in reason for reason in reasons)


def test_a_chunk_that_is_damaged_fails_its_images_only(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data.h5", lambda file: file.create_dataset("x", data=COLOR, chunks=(1, 5, 7, 3), fletcher32=True)
    )
    with h5py.File(path) as file:
        offset = file["x"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    source = open_source(path)
    outcomes = []
    for found in references(source):
        try:
            outcomes.append(np.array_equal(source.load(found).inputs["color"], COLOR[len(outcomes)]))
        except ImageError as error:
            outcomes.append("cannot be read" in str(error) and "\n" not in str(error) and None)
    assert outcomes == [True, True, None, True]


HEAPS = {
    "as it is": {},
    "in chunks": {"chunks": (3,)},
    "compressed": {"chunks": (2,), "compression": "gzip", "shuffle": True},
}


READING = """
import sys
from fcnseg.errors import ImageError, SourceError
from fcnseg.io.sources import open_source
for i, name in enumerate(sys.argv[1:]):
    try:
        source = open_source(name)
        for reference in source:
            try:
                print(i, source.load(reference).size)
            except ImageError as error:
                print(i, error)
    except SourceError as error:
        print(i, error)
"""


@pytest.mark.parametrize("zeros", [False, True])
def test_a_damaged_heap_is_an_error_and_no_endless_loop(tmp_path: Path, zeros: bool) -> None:
    """The HDF5 library walks such heaps for ever, so they are read in another process."""
    names = []
    for number, options in enumerate(HEAPS.values()):

        def fill(file: h5py.File, options: dict[str, object] = options) -> None:
            data = file.create_dataset("x", (4,), h5py.vlen_dtype(np.uint8), **options)
            for i, content in enumerate(FILES):
                data[i] = np.frombuffer(content, np.uint8)

        path = write(tmp_path / f"{number}.h5", fill, matlab=bool(number))
        content = bytearray(path.read_bytes())
        heap = content.index(b"GCOL")
        if zeros:
            content[heap + 16 : heap + 4096] = bytes(4080)
        path.write_bytes(content)
        names.append(f"{path}::x")
    command = [sys.executable, "-c", READING, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    if zeros:
        assert len(lines) == len(HEAPS) * len(FILES)
        assert all("so is the heap it lies in" in line for line in lines)
    else:
        assert lines == [f"{i} (5, 7)" for i in range(len(HEAPS)) for _ in FILES]


def test_a_chunk_of_no_bytes_fails_its_images_only(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("x", data=COLOR, chunks=(1, 5, 7, 2), compression="gzip", fletcher32=True)

    path = write(tmp_path / "a.h5", fill)
    with h5py.File(path) as file:
        size = next(i.size for n in range(8) if (i := file["x"].id.get_chunk_info(n)).chunk_offset == (2, 0, 0, 2))
    content = path.read_bytes()
    entry = struct.pack("<2I5Q", size, 0, 2, 0, 0, 2, 0)  # the chunk's place in the tree of them
    assert content.count(entry) == 1
    path.write_bytes(content.replace(entry, bytes(4) + entry[4:]))
    command = [sys.executable, "-c", READING, f"{path}::x"]  # the library crashes
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "0 (5, 7)",
        "0 (5, 7)",
        "0 cannot be read",
        "0 (5, 7)",
    ]


READING_MAPS = """
import sys
from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.label_maps_hdf5 import locate_in_hdf5
for location in locate_in_hdf5(sys.argv[1]).values():
    try:
        print(read_map(location).values.shape)
    except LabelsError as error:
        print(str(error).removeprefix(str(location)))
"""


def test_a_chunk_of_no_bytes_fails_its_label_map_only(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("x", data=COLOR[..., 0], chunks=(1, 5, 7), compression="gzip", fletcher32=True)

    path = write(tmp_path / "a.h5", fill)
    with h5py.File(path) as file:
        size = file["x"].id.get_chunk_info_by_coord((2, 0, 0)).size
    content = path.read_bytes()
    entry = struct.pack("<2I4Q", size, 0, 2, 0, 0, 0)  # the chunk's place in the tree of them
    assert content.count(entry) == 1
    path.write_bytes(content.replace(entry, bytes(4) + entry[4:]))
    command = [sys.executable, "-c", READING_MAPS, str(path)]  # the library crashes
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    first, second, third, fourth = done.stdout.splitlines()
    assert {first, second, fourth} == {"(5, 7)"}
    assert third.startswith(" cannot be read: its chunk at ")
