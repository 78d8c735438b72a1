"""Splits: held-out images, and images of both sides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import SourceError
from fcnseg.training.datasets import check_apart, open_samples
from fcnseg.training.datasets.splits import HELD_OUT, held_out
from tests.training.data_sets import (
    hdf5_groups,
    indexed,
    labels_of,
    pairs,
    pairs_listed,
    photo,
    text,
    voc,
)
from tests.training.datasets.helpers import (
    VOC,
    fault,
)


def test_an_image_in_both_lists_is_named(tmp_path: Path) -> None:
    copy = pairs_listed(tmp_path)
    text(tmp_path / "val.txt", ["d", "a"])
    for split in ("train", "val"):
        assert "the first a;" in fault(copy.data, copy.model, split)


def test_a_copy_of_a_training_image_in_validation_is_named(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    photo(tmp_path / "val/images/other.png", "a")
    indexed(tmp_path / "val/labels/other.png", labels_of("a", 21))
    said = fault(copy.data, copy.model)
    assert f"{tmp_path}/train/images/a.png and {tmp_path}/val/images/other.png" in said


def test_images_that_only_begin_alike_are_two(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    for split, name, last in (("train", "x", 0), ("train", "y", 1), ("val", "z", 2)):
        pixels = np.zeros((60, 80, 3), np.uint8)
        pixels[-1, -1] = last
        Image.fromarray(pixels).save(tmp_path / split / "images" / f"{name}.bmp")
        indexed(tmp_path / split / "labels" / f"{name}.png", labels_of(name, 21, size=(60, 80)))
    assert len(open_samples(copy.data, VOC, "train")) == 4
    shutil.copy(tmp_path / "train/images/x.bmp", tmp_path / "val/images/z.bmp")
    assert f"{tmp_path}/train/images/x.bmp and {tmp_path}/val/images/z.bmp" in fault(copy.data, copy.model, "val")


def test_data_sets_are_kept_apart(tmp_path: Path) -> None:
    one, other = voc(tmp_path / "one"), pairs_listed(tmp_path / "other")
    val = open_samples(one.data, VOC, "val")
    check_apart(open_samples(one.data, VOC, "train"), val)
    check_apart(open_samples(other.data, VOC, "train"), val)
    with pytest.raises(SourceError, match=r"1 images .*2007_000033\.jpg"):
        check_apart(open_samples(one.data, VOC, "val"), val)
    shutil.copy(one.data / "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg", other.data / "images/a.jpg")
    with pytest.raises(SourceError, match=r"images/a\.jpg and .*2007_000033\.jpg are one image"):
        check_apart(open_samples(other.data, VOC, "train"), val)
    rows = open_samples(hdf5_groups(tmp_path).data, VOC, "train")
    check_apart(rows, val)
    with pytest.raises(SourceError, match=r"2 images .*data\.h5::/train/images\[0\]"):
        check_apart(rows, rows)


def test_a_fifth_is_held_out_by_the_hash_of_its_name() -> None:
    names = [f"photo {i}" for i in range(2000)]
    chosen = held_out(names)
    assert abs(len(chosen) / 2000 - HELD_OUT) < 0.03
    assert held_out(names[::-1]) == chosen
    assert held_out(names[:900]) == chosen & set(names[:900])  # none changes sides as images are added
    assert all(0 < len(held_out(names[:i])) < i for i in range(2, 30))
    assert all(len(held_out([f"{i} a", f"{i} b"])) == 1 for i in range(100))
    assert chosen & set(names[:10]) == {"photo 5", "photo 6", "photo 8"}  # whatever the machine


def test_one_folder_is_divided(tmp_path: Path) -> None:
    names = [f"{i:02}" for i in range(20)]
    for name in names:
        photo(tmp_path / "images" / f"{name}.png", name)
        indexed(tmp_path / "labels" / f"{name}.png", labels_of(name, 21))
    train, val = (open_samples(tmp_path, VOC, split) for split in ("train", "val"))
    assert sorted([*train.names, *val.names]) == names
    assert set(val.names) == held_out(names)
    assert "no split test" in fault(tmp_path, "voc-fcn8s", "test")


def test_one_image_cannot_be_divided(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png", "a")
    indexed(tmp_path / "labels/a.png", labels_of("a", 21))
    assert "one image" in fault(tmp_path, "voc-fcn8s")
