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


class Samples(Protocol):
    """A data set: a map-style `torch.utils.data.Dataset` that can be pickled to worker processes.

    Reading a sample raises a FcnsegError that names the file and its fault.
    """

    @property
    def names(self) -> Sequence[str]:
        """Names of the samples, in their order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LabelledSample: ...
