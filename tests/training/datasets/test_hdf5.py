"""HDF5 files of images and label maps, with or without classes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fcnseg.errors import SettingsError, SourceError
from fcnseg.labels import LabelSpace
from fcnseg.training.datasets import open_samples, own_labels
from tests.training.data_sets import (
    hdf5_groups,
    hdf5_split,
    labels_of,
    matlab73,
    pixels_of,
    put,
)
from tests.training.datasets.helpers import (
    BLACK,
    BLUE,
    GREEN,
    VOC,
    fault,
    reading_fault,
)


def test_hdf5_pieces_that_are_missing(tmp_path: Path) -> None:
    copy = hdf5_split(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        del file["labels/b"]
    assert "has no b" in fault(copy.data, copy.model)
    with h5py.File(copy.data, "r+") as file:
        file["labels/b"] = labels_of("b", 21, size=(5, 4))
    assert "labels/b 4 x 5 px" in fault(copy.data, copy.model, "val")
    with h5py.File(copy.data, "r+") as file:
        del file["split"]
        file["split"] = ["train"]
    assert "1 texts for 3 images" in fault(copy.data, copy.model)
    with h5py.File(copy.data, "r+") as file:
        del file["labels"]
    assert "labels" in fault(copy.data, copy.model)
    copy.data.write_bytes(b"cut short")
    assert str(copy.data) in fault(copy.data, copy.model)


def test_hdf5_labels_out_of_range(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        file["train/labels"][1, 0, :2] = 77
    assert "data.h5::/train/labels[1] has label 77 on 2 pixels" in fault(copy.data, copy.model, read=True)


def test_hdf5_without_split_is_divided(tmp_path: Path) -> None:
    copy = hdf5_split(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        del file["split"]
    train, val = (open_samples(copy.data, VOC, split) for split in ("train", "val"))
    assert {*train.names, *val.names} == {"a", "b", "c"}
    assert not set(train.names) & set(val.names)


def test_classes_as_attributes(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    assert own_labels(copy.data) is None
    with h5py.File(copy.data, "r+") as file:
        file["train/labels"].attrs.update({"classes": ["a", "b"], "colors": np.array([[1, 2, 3], [4, 5, 6]], np.uint8)})
    assert own_labels(copy.data) == LabelSpace(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    with h5py.File(copy.data, "r+") as file:
        file["train/labels"].attrs["colors"] = np.array([[1, 2, 3]], np.uint8)
    with pytest.raises(SettingsError, match="1 colours for 2 classes"):
        own_labels(copy.data)


def test_void_among_the_attributes(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        colors = np.array([BLUE, GREEN, BLACK], np.uint8)
        file["train/labels"].attrs.update({"classes": ["a", "b", "Void"], "colors": colors, "ignore": 2})
    assert own_labels(copy.data) == LabelSpace(("a", "b"), (BLUE, GREEN), 2)


def test_a_folder_is_no_hdf5_file(tmp_path: Path) -> None:
    assert f"{tmp_path} is no file" in reading_fault(tmp_path, kind="hdf5")


@pytest.mark.parametrize(("name", "written_by"), [("own.h5", matlab73), ("own.mat", lambda path: h5py.File(path, "w"))])
def test_axes_must_be_as_the_name_says(name: str, written_by: Callable[[Path], Any], tmp_path: Path) -> None:
    square = (13, 13)  # turned label maps would fit
    with written_by(tmp_path / name) as file:
        if written_by is matlab73:
            put(file, "images", np.stack([pixels_of(n, square) for n in "abc"]).transpose(1, 2, 3, 0))
            put(file, "labels", np.stack([labels_of(n, 21, size=square) for n in "abc"]).transpose(1, 2, 0))
        else:
            file["images"] = np.stack([pixels_of(n, square) for n in "abc"])
            file["labels"] = np.stack([labels_of(n, 21, size=square) for n in "abc"])
    assert "MATLAB" in reading_fault(tmp_path / name)


@pytest.mark.parametrize("signature", [b"HEAP", b"TREE", b"SNOD"])
def test_a_damaged_hdf5_file_is_named(signature: bytes, tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    content = copy.data.read_bytes()
    assert signature in content
    copy.data.write_bytes(content.replace(signature, b"gone"))
    for opened in (lambda: own_labels(copy.data), lambda: open_samples(copy.data, VOC, "train")):
        with pytest.raises(SourceError, match=rf"{re.escape(str(copy.data))} cannot be read"):
            opened()
