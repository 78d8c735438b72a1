"""SIFT Flow."""

from __future__ import annotations

from pathlib import Path

from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import open_samples
from tests.training.data_sets import (
    siftflow,
)


def test_unannotated_images_of_siftflow_are_left_out(tmp_path: Path) -> None:
    copy = siftflow(tmp_path)
    for split in ("trainval", "test"):
        names = open_samples(copy.data, find_recipe(copy.model), split).names
        assert not {"highway_bost181", "street_urb506"} & set(names)
