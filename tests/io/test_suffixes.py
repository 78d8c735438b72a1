"""Every consumer takes a file for the same thing by its name."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.io.folders import ImageFolder
from fcnseg.io.names import is_hdf5_name, stem_of
from fcnseg.io.pairing import find_maps, is_single
from fcnseg.io.photographs import Photographs
from fcnseg.io.raw_map import MapLocation
from fcnseg.io.sources import open_source
from fcnseg.io.suffixes import ARCHIVES, HDF5, IMAGES, LABEL_MAPS, MATLAB, has_suffix
from fcnseg.running.options import is_hdf5
from fcnseg.scoring.labelling import find_labelling, locate_heads
from fcnseg.scoring.view import read_labelled
from fcnseg.training.datasets import hdf5 as training

PIXELS = np.zeros((2, 4, 5, 3), np.uint8)


@pytest.mark.parametrize("suffix", [*HDF5, *map(str.upper, HDF5)])
def test_hdf5_files_are_hdf5_everywhere(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    with h5py.File(path, "w") as file:
        file["images"] = PIXELS
        file["labels"] = PIXELS[..., 0]
    assert is_hdf5(path)  # as an output of `run`
    assert is_hdf5_name(str(path))
    assert len(list(open_source(f"{path}::/images"))) == 2
    assert not is_single(str(path))
    assert find_maps(f"{path}::/labels").keys() == {"000000", "000001"}
    assert find_maps(str(path)).keys() >= {"labels/000000", "labels/000001"}
    assert training.is_hdf5(path)
    with h5py.File(path, "w") as file:
        file["semantic/one"] = PIXELS[0, ..., 0]
    assert read_labelled(str(path), classes="2").codes.shape == (4, 5)
    labelling = find_labelling("siftflow-fcn8s", None, False, str(path))
    assert [sides[1] for sides in locate_heads(labelling, str(path), str(path), "semantic")] == [f"{path}::/semantic"]


def test_matlab_files_are_only_read(tmp_path: Path) -> None:
    path = tmp_path / "m.mat"
    path.touch()
    assert not is_hdf5(path)
    assert is_hdf5_name(str(path))
    assert is_single(str(path))
    assert find_maps(str(path)) == {"m": [MapLocation(str(path))]}
    assert training.is_hdf5(path)


@pytest.mark.parametrize("suffix", [*IMAGES, ".JPG"])
def test_images_are_images_everywhere(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photos/a{suffix}"
    path.parent.mkdir()
    formats = {".jpe": "JPEG", ".pgm": "PPM", ".pnm": "PPM", ".jpf": "JPEG2000", ".dib": "BMP"}
    formats |= dict.fromkeys((".heic", ".heif", ".hif"), "AVIF")  # content tells what is in it
    Image.new("RGB", (5, 4)).save(path, formats.get(suffix))
    (reference,) = ImageFolder(str(path.parent))
    assert (reference.key, stem_of(reference.key)) == (path.name, "a")
    assert find_maps(str(path.parent)).keys() == {"a"}
    with Photographs(open_source(path.parent)) as photographs:
        assert photographs.find("a", 4, 5) is not None


def test_no_file_is_two_things() -> None:
    kinds = (LABEL_MAPS, HDF5, ARCHIVES)
    assert len({suffix for kind in kinds for suffix in kind}) == sum(map(len, kinds))
    assert set(IMAGES) < set(LABEL_MAPS)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for kind in kinds for suffix in kind)
    assert has_suffix(Path("A.TAR.GZ"), ARCHIVES)
    assert has_suffix("a.MAT", MATLAB)
