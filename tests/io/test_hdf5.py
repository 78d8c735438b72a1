"""HDF5 files opened, and what is said of those that cannot be."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from fcnseg.errors import LabelsError, SourceError
from fcnseg.io.label_maps import read_map
from fcnseg.io.label_maps_hdf5 import has_dataset, locate_in_hdf5
from fcnseg.io.sources import open_source
from tests.io.hdf5_files import COLOR, RNG, references, write
from tests.io.image_files import without_privileges


def test_files_that_are_damaged_or_something_else(tmp_path: Path) -> None:
    whole = write(
        tmp_path / "whole.h5", lambda file: file.update({"x": RNG.integers(0, 256, (50, 30, 40, 3), np.uint8)})
    )
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole.read_bytes()[:-30_000])
    with pytest.raises(SourceError, match="truncated file") as caught:
        open_source(f"{cut}::x")
    assert "\n" not in str(caught.value)
    for content, reason in ((b"", "whole HDF5"), (b"no" * 999, "whole HDF5"), (b"MATLAB 5.0 MAT-file", "-v7.3")):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(SourceError, match=reason):
            open_source(tmp_path / "a.mat")
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "absent.h5")
    with pytest.raises(SourceError, match="does not exist"):
        open_source(f"{tmp_path}/absent::x")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(SourceError, match="is no file"):
        open_source(tmp_path / "pipe.h5")


def test_names_of_any_bytes_are_listed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        for name, pixels in ((b"g/caf\xe9", COLOR[0]), (b"g/caf\xe8/x", COLOR[1]), ("g/ü".encode(), COLOR[2])):
            file[name] = pixels

    path = write(tmp_path / "a.h5", fill)
    with pytest.raises(SourceError, match=r"it holds /g/caf.*, /g; name one"):
        open_source(path)
    source = open_source(f"{path}::g")
    found = {os.fsencode(reference.key): source.load(reference).inputs["color"] for reference in references(source)}
    assert found.keys() == {b"g/caf\xe9", b"g/caf\xe8/x", "g/ü".encode()}
    assert np.array_equal(found[b"g/caf\xe9"], COLOR[0])
    assert np.array_equal(found[b"g/caf\xe8/x"], COLOR[1])
    (below,) = references(open_source(os.fsdecode(os.fsencode(path) + b"::/g/caf\xe8")))
    assert os.fsencode(below.key) == b"g/caf\xe8/x"


def test_label_maps_have_names_of_any_bytes(tmp_path: Path) -> None:
    labels = COLOR[0, ..., 0]

    def fill(file: h5py.File) -> None:
        for name, values in ((b"g/caf\xe9", labels), (b"g/many\xe8", COLOR[..., 0])):
            file[name] = values

    path = str(write(tmp_path / "a.h5", fill))
    one, many = os.fsdecode(b"caf\xe9"), os.fsdecode(b"many\xe8")
    locations = locate_in_hdf5(path, "g")
    assert locations.keys() == {one, *(f"{many}/{i:06}" for i in range(4))}
    assert np.array_equal(read_map(locations[one]).values, labels)
    assert np.array_equal(read_map(locations[f"{many}/000002"]).values, COLOR[2, ..., 0])
    assert has_dataset(path, f"g/{one}")
    with pytest.raises(LabelsError, match="has no other; it holds g"):
        locate_in_hdf5(path, "other")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.h5", lambda file: file.update({"x": COLOR}))
    tmp_path.chmod(0o755)
    path.chmod(0)
    monkeypatch.chdir(tmp_path)
    with without_privileges(), pytest.raises(SourceError, match="Permission denied; check its permissions"):
        open_source("a.h5")
