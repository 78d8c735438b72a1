"""PASCAL-Context."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fcnseg.errors import SettingsError
from fcnseg.training.datasets import open_samples
from tests.training.data_sets import (
    context,
    text,
)
from tests.training.datasets.helpers import (
    STREET,
    fault,
)


def test_context_is_read_by_names(tmp_path: Path) -> None:
    context(tmp_path)
    with pytest.raises(SettingsError, match="street-fcn8s has classes that PASCAL-Context has not"):
        open_samples(tmp_path, STREET, "train", "pascalcontext")
    text(tmp_path / "labels.txt", [f"{i}: thing" for i in range(1, 460)])
    assert "does not give aeroplane the number 2" in fault(tmp_path, "pascalcontext-fcn8s")


def test_context_without_its_images(tmp_path: Path) -> None:
    context(tmp_path)
    shutil.rmtree(tmp_path / "VOCdevkit")
    assert "VOC2010" in fault(tmp_path, "pascalcontext-fcn8s")
