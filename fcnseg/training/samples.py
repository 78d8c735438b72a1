"""Labelled samples, and the data sets that give them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fcnseg.types import Labels, Pixels


@dataclass(frozen=True)
class LabelledSample:
    """One labelled image. `inputs` maps each modality of the recipe to its pixels, as `fcnseg.types.Frame` holds them;
    `labels` maps each head of the recipe to its label map, of the same H x W. Void pixels hold the head's `ignore`.
    """

    name: str
    inputs: Mapping[str, Pixels]
    labels: Mapping[str, Labels]


KEPT_BYTES = 2 << 30
"""Decoded samples that are kept in memory take at most so much, and at most a quarter of what is free."""


class Samples(Protocol):
    """A data set: a map-style `torch.utils.data.Dataset` that can be pickled to worker processes.

    Reading a sample raises a FcnsegError that names the file and its fault.
    """

    @property
    def names(self) -> Sequence[str]:
        """Names of the samples, in their order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LabelledSample: ...


class KeptSamples:
    """Samples that are kept in memory once they were decoded, as far as `most_bytes` reach."""

    def __init__(self, samples: Samples, most_bytes: int) -> None:
        self.samples, self.names = samples, samples.names
        self._left, self._kept = most_bytes, dict[int, LabelledSample]()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> LabelledSample:
        """Return a sample. Raises what reading it raises."""
        if index in self._kept:
            return self._kept[index]
        sample = self.samples[index]
        size = sum(array.nbytes for arrays in (sample.inputs, sample.labels) for array in arrays.values())
        if size <= self._left:
            self._left -= size
            self._kept[index] = sample
        return sample
