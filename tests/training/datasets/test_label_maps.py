"""Label maps of training: their kinds, headers that show that they are none, and values of no class."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.labels import voc_color
from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import open_samples, own_labels
from fcnseg.training.preparation import with_labels
from tests.training.data_sets import SIZE, Array, hdf5_groups, indexed, labels_of, mat, pairs, photo, text
from tests.training.datasets.helpers import VOC, fault, folder_of, own_recipe, read, reading_fault, save_grey


def test_a_label_of_no_class_is_named_with_its_value_and_count(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    values = labels_of("a", 21)
    values[0, :3] = 21
    path = indexed(tmp_path / "train/labels/a.png", values)
    said = fault(copy.data, copy.model, read=True)
    assert f"{path} has label 21 on 3 pixels" in said
    assert "21 classes" in said


def test_label_maps_of_other_kinds(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    values = copy.labels["a"]["labels"]
    (tmp_path / "train/labels/a.png").unlink()
    np.save(tmp_path / "train/labels/a.npy", values)
    colors = np.array([voc_color(i) for i in range(256)], np.uint8)[copy.labels["b/c"]["labels"]]
    Image.fromarray(colors).save(tmp_path / "train/labels/b/c.png")
    samples = open_samples(copy.data, VOC, "train")
    for i, name in enumerate(("a", "b/c")):
        np.testing.assert_array_equal(samples[i].labels["labels"], copy.labels[name]["labels"])
    colors[0, 0] = 3, 5, 7
    Image.fromarray(colors).save(tmp_path / "train/labels/b/c.png")
    assert re.search(r"c\.png has 1 colour .*\(3, 5, 7\); .*classes\.txt", fault(copy.data, copy.model, read=True))
    np.save(tmp_path / "train/labels/a.npy", values.T)
    assert "one of them is turned" in fault(copy.data, copy.model)
    (tmp_path / "train/labels/a.npy").unlink()
    Image.fromarray(values).save(tmp_path / "train/labels/a.jpg")
    assert "a.jpg" in fault(copy.data, copy.model)
    (tmp_path / "train/labels/a.jpg").rename(tmp_path / "train/labels/a.png")
    assert "JPEG changes labels" in fault(copy.data, copy.model)


def test_own_mat_files_are_counted_from_zero_whatever_their_variable_is_called(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("one\ntwo\nthree\n")
    for part in ("train", "val"):
        photo(tmp_path / part / "images" / "a.png", part)
        values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8) % 3
        mat(tmp_path / part / "labels" / "a.mat", segmentation=values)
    labels = own_labels(tmp_path)
    assert labels is not None
    recipe = with_labels(find_recipe("street-fcn8s"), labels, tmp_path)
    np.testing.assert_array_equal(open_samples(tmp_path, recipe, "train")[0].labels["labels"], values)


def test_probabilities_are_no_ground_truth_but_one_hot_labels_are(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    (tmp_path / "train/labels/a.png").unlink()
    values = copy.labels["a"]["labels"]
    hot = np.eye(21, dtype=np.float32)[np.minimum(values, 20)] * (values < 255)[..., None]
    np.save(tmp_path / "train/labels/a.npy", hot.astype(np.uint8))
    np.testing.assert_array_equal(read(open_samples(copy.data, VOC, "train"))["a"], values)
    soft = (np.eye(21)[np.minimum(values, 20)] + 1) / 22
    np.save(tmp_path / "train/labels/a.npy", soft.transpose(2, 0, 1))
    assert "a.npy holds probabilities; ground truth is whole numbers" in reading_fault(copy.data)
    volume = hdf5_groups(tmp_path)
    with h5py.File(volume.data, "r+") as file:
        del file["train/labels"]
        file["train/labels"] = np.stack([hot.transpose(2, 0, 1)] * 2)
    assert "/train/labels[0]: holds float32" in reading_fault(volume.data)


def test_what_to_do_is_said_of_each_fault(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    path = tmp_path / "train/labels/a.png"
    Image.fromarray(copy.labels["a"]["labels"]).convert("RGB").save(path)
    assert reading_fault(copy.data).endswith("it is grey: save it with one channel if its levels are labels")
    Image.new("LA", SIZE[::-1], (1, 5)).save(path)
    assert reading_fault(copy.data).endswith("save it without alpha")
    Image.new("RGB", SIZE[::-1], (3, 5, 7)).save(path)
    assert reading_fault(copy.data).endswith("name the classes with their colours in classes.txt, void as the last")


def test_masks_of_0_and_255_are_not_taken_for_void(tmp_path: Path) -> None:
    masks = {name: np.where(labels_of(name, 2) == 1, 255, 0) for name in "abc"}
    data = folder_of(tmp_path, masks)
    text(tmp_path / "classes.txt", ["background", "cell"])
    said = reading_fault(data, own_recipe(data))
    assert said.startswith("no label map has cell (1), but 3 have 255")
    assert said.endswith("save cell as 1, or give --binary")
    save_grey(masks["c"] // 255, tmp_path / "labels/c.png")  # void elsewhere is fine
    assert set(np.unique(read(open_samples(data, own_recipe(data), "train"))["a"])) == {0, 255}


@pytest.mark.parametrize("values", [np.array(3), np.arange(3)])
def test_arrays_without_planes_are_named(values: Array, tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    (tmp_path / "train/labels/a.png").unlink()
    np.save(tmp_path / "train/labels/a.npy", values)
    assert "a.npy: holds int64" in reading_fault(copy.data)


@pytest.mark.parametrize("orientation", [3, 6])
def test_label_maps_with_an_orientation_are_refused(orientation: int, tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(copy.labels["a"]["labels"]).save(tmp_path / "train/labels/a.png", exif=exif)
    assert "a.png: its EXIF data turn it" in reading_fault(copy.data)
