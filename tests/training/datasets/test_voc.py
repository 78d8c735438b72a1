"""PASCAL VOC and SBD."""

from __future__ import annotations

import shutil
from pathlib import Path

from fcnseg.training.datasets import open_samples
from tests.training.data_sets import (
    sbd,
    text,
    voc,
)
from tests.training.datasets.helpers import (
    VOC,
    fault,
)


def test_seg11valid_is_voc_2011_val_without_sbd_train(tmp_path: Path) -> None:
    sbd(tmp_path)
    for split in ("val", "seg11valid"):
        assert open_samples(tmp_path, VOC, split).names == ("v2", "v3")
    assert not {"v2", "v3"} & set(open_samples(tmp_path, VOC, "trainval").names)


def test_validation_labels_are_those_of_voc(tmp_path: Path) -> None:
    sbd(tmp_path)
    assert (open_samples(tmp_path, VOC, "seg11valid")[0].labels["labels"] == 255).any()  # which SBD has not


def test_the_list_seg11valid_counts_more(tmp_path: Path) -> None:
    sbd(tmp_path)
    text(tmp_path / "seg11valid.txt", ["v3", "v1"])
    assert open_samples(tmp_path, VOC, "seg11valid").names == ("v3", "v1")
    assert open_samples(tmp_path, VOC, "train").names == ("s1", "s2")


def test_seg11valid_is_not_of_another_year(tmp_path: Path) -> None:
    sbd(tmp_path)
    (tmp_path / "VOCdevkit/VOC2011").rename(tmp_path / "VOCdevkit/VOC2012")
    assert "VOC2011" in fault(tmp_path, "voc-fcn8s", "seg11valid")
    assert open_samples(tmp_path, VOC, "val").names == ("v2", "v3")


def test_sbd_without_voc_validates_on_its_own(tmp_path: Path) -> None:
    sbd(tmp_path)
    shutil.rmtree(tmp_path / "VOCdevkit")
    assert open_samples(tmp_path, VOC, "val").names == ("s3", "v2")
    assert "VOC2011" in fault(tmp_path, "voc-fcn8s", "seg11valid")


def test_any_folder_of_the_devkit_will_do(tmp_path: Path) -> None:
    voc(tmp_path)
    for place in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit/VOC2012"):
        assert open_samples(place, VOC, "val").names == ("2007_000033",)
