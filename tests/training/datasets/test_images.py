"""Several data sets as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcnseg.training.datasets import open_samples
from fcnseg.training.datasets.images import JoinedImages
from tests.training.data_sets import (
    pairs,
    pairs_listed,
)
from tests.training.datasets.helpers import (
    VOC,
)


def test_joint_data_sets_are_counted_through(tmp_path: Path) -> None:
    one, other = (open_samples(write(tmp_path / write.__name__).data, VOC, "train") for write in (pairs, pairs_listed))
    both = JoinedImages([one, other])
    assert [both[i].name for i in range(len(both))] == [*one.names, *other.names] == list(both.names)
    assert both[-1].name == other.names[-1]
    with pytest.raises(IndexError):
        both[len(both)]
