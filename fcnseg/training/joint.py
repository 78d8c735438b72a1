"""Several data sets as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from torch.utils.data import Dataset

from fcnseg.training.samples import Sample, Samples


class Joint(Dataset[Sample]):
    """The samples of several data sets, one after the other."""

    def __init__(self, parts: Sequence[Samples]) -> None:
        self.parts = tuple(parts)
        self.ends = tuple(accumulate(len(part) for part in parts))
        self.names = tuple(name for part in parts for name in part.names)

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        part = bisect_right(self.ends, index)
        return self.parts[part][index - (self.ends[part] - len(self.parts[part]))]
