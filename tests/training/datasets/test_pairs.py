"""Folders of images and label maps, CamVid among them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import LabelsError
from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import open_samples
from tests.training.data_sets import (
    COPIES,
    camvid,
    indexed,
    labels_of,
    pairs,
    pairs_listed,
    photo,
    pixels_of,
    text,
)
from tests.training.datasets.helpers import (
    STREET,
    VOC,
    fault,
    reading_fault,
)


def test_11_is_void_in_camvid_alone(tmp_path: Path) -> None:
    camvid(tmp_path / "a")
    assert (open_samples(tmp_path / "a", STREET, "train")[0].labels["labels"] == 255).any()
    sample = open_samples(tmp_path / "a", VOC, "train")[0]  # of 21 classes in the same layout
    assert (sample.labels["labels"] == labels_of(sample.name, 11, 11)).all()
    for split, name in (("train", "x"), ("val", "y")):
        photo(tmp_path / "b" / split / "images" / f"{name}.png", name)
        indexed(tmp_path / "b" / split / "labels" / f"{name}.png", labels_of(name, 11, 11))
    assert (open_samples(tmp_path / "b", STREET, "train")[0].labels["labels"] == 255).any()
    assert "label 11 on" in fault_of_pairs(tmp_path / "b")


def fault_of_pairs(data: Path) -> str:
    """What is said when a folder of CamVid's classes is not taken for CamVid."""
    samples = open_samples(data, STREET, "train", "pairs")
    with pytest.raises(LabelsError) as caught:
        samples[0]
    return str(caught.value)


@pytest.mark.parametrize("kind", ["pairs", "pairs-inside"])
def test_a_split_without_folder_is_named(kind: str, tmp_path: Path) -> None:
    copy = COPIES[kind][1](tmp_path)
    assert "no split test" in fault(copy.data, copy.model, "test")
    shutil.rmtree(tmp_path / ("val" if kind == "pairs" else "images/val"))
    assert "no split val" in fault(copy.data, copy.model, "val")


def test_a_label_map_without_image_is_named(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    indexed(tmp_path / "train/labels/z.png", labels_of("z", 21))
    assert "z.png" in fault(copy.data, copy.model)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    photo(tmp_path / "train/images/a.jpg", "a")
    assert "a.jpg" in fault(copy.data, copy.model)


def test_companions_and_heads_of_pairs(tmp_path: Path) -> None:
    recipe = find_recipe("siftflow-fcn8s")
    for name in "ab":
        photo(tmp_path / "images" / f"{name}.png", name)
        for head in recipe.heads:
            indexed(tmp_path / "labels" / head.name / f"{name}.png", labels_of(name, head.labels.classes))
    samples = open_samples(tmp_path, recipe, "train")
    assert set(samples[0].labels) == {"semantic", "geometric"}
    nyud_pairs = find_recipe("nyud-fcn32s-color-hha")
    for name in "ab":
        photo(tmp_path / "new/images" / f"{name}.png", name)
        photo(tmp_path / "new/hha" / f"{name}.png", f"hha {name}")
        indexed(tmp_path / "new/labels" / f"{name}.png", labels_of(name, 40))
    sample = open_samples(tmp_path / "new", nyud_pairs, "train")[0]
    np.testing.assert_array_equal(sample.inputs["hha"], pixels_of(f"hha {sample.name}"))
    (tmp_path / "new/hha/b.png").unlink()
    assert "no hha image named b" in fault(tmp_path / "new", nyud_pairs.name)


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_link_to_nowhere_is_named(side: str, tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    link = tmp_path / side / "images/z.png"
    link.symlink_to(tmp_path / "nowhere.png")
    indexed(tmp_path / side / "labels/z.png", labels_of("z", 21))
    assert f"{link} cannot be read" in reading_fault(copy.data)


def test_lists_name_images_of_any_suffix(tmp_path: Path) -> None:
    copy = pairs_listed(tmp_path)
    (tmp_path / "images/a.jpg").rename(tmp_path / "images/a.jfif")
    text(tmp_path / "train.txt", ["a.jfif"])
    assert open_samples(copy.data, VOC, "train").names == ("a",)


def test_lists_name_each_image_once(tmp_path: Path) -> None:
    camvid(tmp_path)
    text(tmp_path / "train.txt", [f"{root}/0001TP_1.png {root}/0001TP_1.png" for root in ("/a", "/b")])
    assert "names 0001TP_1 in" in reading_fault(tmp_path, find_recipe("street-fcn8s"))
