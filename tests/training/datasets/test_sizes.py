"""Label maps whose headers show that they are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data_sets import (
    Array,
    pairs,
)
from tests.training.datasets.helpers import (
    reading_fault,
)


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
