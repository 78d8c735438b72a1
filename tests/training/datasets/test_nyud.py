"""NYUDv2 in both its forms."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import open_samples, own_labels
from tests.training.data_sets import (
    Array,
    depth_of,
    mat,
    nyud,
    nyud_original,
    pairs,
    pixels_of,
    text,
)
from tests.training.datasets.helpers import (
    fault,
    own_recipe,
    reading_fault,
)


@pytest.mark.parametrize("write", [nyud, nyud_original])
def test_depth_is_in_millimetres(write: Callable[..., Any], tmp_path: Path) -> None:
    copy = write(tmp_path, "nyud-fcn32s-color-d")
    sample = open_samples(copy.data, find_recipe(copy.model), "train")[0]
    np.testing.assert_allclose(sample.inputs["depth"][..., 0], depth_of(sample.name), rtol=1e-6)
    np.testing.assert_array_equal(sample.inputs["color"], pixels_of(sample.name))


def test_labels_beyond_the_894_of_nyud_are_refused(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["labels"][2, 0, 0] = 81
    assert "nyu_depth_v2_labeled.mat::/labels[2] has label 81 on 1 pixels" in fault(copy.data, copy.model, read=True)


@pytest.mark.parametrize("name", ["classMapping40.mat", "splits.mat"])
def test_what_lies_beside_the_file_of_nyud_is_named(name: str, tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    (tmp_path / name).write_bytes(b"")
    assert name in fault(copy.data, copy.model)
    (tmp_path / name).unlink()
    assert f"there is no {tmp_path / name}" in fault(copy.data, copy.model)
    scipy.io.savemat(tmp_path / name, {"other": 1})
    assert name in fault(copy.data, copy.model)


@pytest.mark.parametrize(
    ("name", "variables", "said"),
    [
        ("classMapping40.mat", {"mapClass": np.full((1, 80), 41)}, "has the class 41"),
        ("splits.mat", {"trainNdxs": np.array([[1], [1]]), "testNdxs": np.array([[2]])}, "one twice"),
        ("splits.mat", {"trainNdxs": np.zeros((0, 1)), "testNdxs": np.array([[2]])}, "no image for train"),
        ("splits.mat", {"trainNdxs": np.array([[0]]), "testNdxs": np.array([[2]])}, "counts from 0"),
    ],
)
def test_what_lies_beside_the_file_of_nyud_is_checked(
    name: str, variables: dict[str, Array], said: str, tmp_path: Path
) -> None:
    copy = nyud_original(tmp_path)
    mat(tmp_path / name, **variables)
    found = reading_fault(copy.data, find_recipe(copy.model))
    assert name in found
    assert said in found


def test_the_file_of_nyud_without_labels(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "r+") as file:
        del file["labels"]
    assert "labels" in fault(copy.data, copy.model)


def test_splits_of_nyud_that_count_beyond_the_file(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path)
    mat(tmp_path / "splits.mat", trainNdxs=np.array([[5]]), testNdxs=np.array([[1]]))
    assert "counts from 5 to 5" in fault(copy.data, copy.model)


def test_hha_of_the_original_file_must_be_there(tmp_path: Path) -> None:
    copy = nyud_original(tmp_path, "nyud-fcn32s-color-hha")
    shutil.rmtree(tmp_path / "hha")
    assert "hha/depths/000002.png" in fault(copy.data, copy.model)


@pytest.mark.parametrize("name", ["notes.txt", "._train.txt"])
def test_other_texts_beside_the_lists_of_nyud(name: str, tmp_path: Path) -> None:
    copy = nyud(tmp_path, "nyud-fcn32s-color")
    (tmp_path / name).write_bytes(b"one\none\n\xff")
    assert list(open_samples(copy.data, find_recipe(copy.model), "train").names) == copy.splits["train"]


def test_a_folder_called_segmentation_is_not_nyud_yet(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    (tmp_path / "segmentation").mkdir()
    text(tmp_path / "classes.txt", range(21))
    assert own_labels(tmp_path) is not None
    assert list(open_samples(copy.data, own_recipe(tmp_path), "train").names) == copy.splits["train"]
