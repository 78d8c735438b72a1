"""Images of training: as a run sees them, from files that no two processes share; several data sets as one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import open_samples
from fcnseg.training.datasets.images import JoinedImages
from tests.training.data_sets import SIZE, hdf5_groups, indexed, labels_of, nyud, pairs, pairs_listed, pixels_of
from tests.training.datasets.helpers import VOC


def test_joint_data_sets_are_counted_through(tmp_path: Path) -> None:
    one, other = (open_samples(write(tmp_path / write.__name__).data, VOC, "train") for write in (pairs, pairs_listed))
    both = JoinedImages([one, other])
    assert [both[i].name for i in range(len(both))] == [*one.names, *other.names] == list(both.names)
    assert both[-1].name == other.names[-1]
    with pytest.raises(IndexError):
        both[len(both)]


def test_no_hdf5_file_is_open_in_two_processes(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    open_samples(copy.data, VOC, "train")[0]
    with pytest.raises(OSError, match="already open"):
        h5py.File(copy.data, "r+")
    pid = os.fork()
    if not pid:
        with contextlib.suppress(OSError), h5py.File(copy.data, "r+"):
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_pixels_are_those_of_the_run(tmp_path: Path) -> None:
    nyud(tmp_path)
    sample = open_samples(tmp_path, find_recipe("nyud-fcn32s-color-hha"), "train")[0]
    np.testing.assert_array_equal(sample.inputs["color"], pixels_of("img_5003"))
    np.testing.assert_array_equal(sample.inputs["hha"], pixels_of("hha img_5003"))


def test_images_are_taken_upright(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "ab":
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.fromarray(pixels_of(name, (SIZE[1], SIZE[0])))
        image.save(tmp_path / "images" / f"{name}.png", exif=exif)
        indexed(tmp_path / "labels" / f"{name}.png", labels_of(name, 21))
    samples = open_samples(tmp_path, VOC, "val")
    assert samples[0].inputs["color"].shape == (*SIZE, 3)
