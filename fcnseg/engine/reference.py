"""The fp32 network's labels, on real images at every corner of a range of sizes: what engines are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from fcnseg.errors import ImageError
from fcnseg.models import network_spec
from fcnseg.models.arithmetic import network_gflop
from fcnseg.recipes import Recipe, Shapes
from fcnseg.types import Engine, Labels, Pixels, Probabilities

COMPARED = 8
"""Images that an engine is compared with the network on at most, evenly spaced; two at the largest size, where the
network takes seconds for each."""

LEAST_COMPARED = 2

BUDGET_GFLOP = 500
"""The arithmetic spent on the images of one size, in 10^9 operations of the network: some seconds of two cores."""

OnProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class Case:
    """One comparison: `images` of the photographs, evenly spaced, at H x W; each alone, or in a batch that repeats
    them."""

    height: int
    width: int
    batch: int
    images: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height}, batch {self.batch}"

    def calls(self, photographs: int) -> list[list[int]]:
        """List the indices of the photographs in each batch."""
        chosen = [i * photographs // self.images for i in range(self.images)]
        return [[i] for i in chosen] if self.batch == 1 else [(chosen * self.batch)[: self.batch]]


def cases_of(recipe: Recipe, shapes: Sequence[Shapes], photographs: int, *, fixed_sizes: bool) -> list[Case]:
    """List the cases of ranges of sizes: smallest, typical and largest, alone and in a full batch.

    Most images are compared at the typical size, where each is compared alone too; fewer of a network that takes long.
    A runtime without `fixed_sizes` computes the images of a batch one by one and any size by the same kernels: each is
    compared alone, the largest at no more than what BUDGET_GFLOP pays for.
    """
    spec, cases = network_spec(recipe), {}
    for profile in shapes:
        most = int(BUDGET_GFLOP / network_gflop(spec, *profile.typical))
        compared = max(LEAST_COMPARED, min(COMPARED, most))
        largest, max_batch = profile.largest, profile.max_batch
        if not fixed_sizes:
            max_batch, excess = 1, network_gflop(spec, *largest) / BUDGET_GFLOP
            height, width = (int(side / max(1, excess) ** 0.5) for side in largest)
            largest = max(height, profile.typical[0]), max(width, profile.typical[1])
        for (height, width), alone, together in (
            (profile.smallest, 1, compared),
            (largest, 1, 2),
            (profile.typical, compared, compared),
        ):
            for batch, images in ((max_batch, min(together, max_batch)), (1, alone)):
                cases[height, width, batch] = Case(height, width, batch, min(images, photographs))
    return [cases[key] for key in sorted(cases)]


class ReferenceLabels:
    """The fp32 network's labels and probabilities of photographs, at the sizes that engines are compared at.

    They are computed once, before any engine is opened: a GPU need not hold both.
    """

    def __init__(self, recipe: Recipe, photographs: Sequence[Mapping[str, Pixels]]) -> None:
        self.recipe, self.photographs = recipe, photographs
        self._labels: dict[tuple[int, int, int], tuple[Labels, ...] | ImageError] = {}
        self._probabilities: dict[tuple[int, int], Mapping[str, Probabilities]] = {}

    def compute(
        self,
        network: Engine,
        shapes: Sequence[Shapes],
        *,
        fixed_sizes: bool,
        probabilities: bool = False,
        on_progress: OnProgress = lambda phase, fraction: None,
    ) -> Self:
        """Compute all that `verify` asks for at these ranges of sizes; what memory does not hold it is told then."""
        cases = cases_of(self.recipe, shapes, len(self.photographs), fixed_sizes=fixed_sizes)
        for number, case in enumerate(cases):
            on_progress("computing the network's labels", number / len(cases))
            for index in {i for call in case.calls(len(self.photographs)) for i in call}:
                self._compute(network, index, case.height, case.width, probabilities and index == 0)
        return self

    def _compute(self, network: Engine, index: int, height: int, width: int, probabilities: bool) -> None:
        key = (index, height, width)
        if key in self._labels and (not probabilities or (height, width) in self._probabilities):
            return
        try:
            by_head, probable = network.infer(self.inputs(index, height, width), probabilities)
        except ImageError as error:
            self._labels[key] = error
            return
        self._labels[key] = tuple(labels[0] for labels in by_head.values())
        if probable is not None:
            self._probabilities[height, width] = probable

    def inputs(self, index: int, height: int, width: int) -> dict[str, Pixels]:
        """Return a photograph at that size, 1 x H x W x C by modality."""
        return {m: at_size(pixels, height, width)[None] for m, pixels in self.photographs[index].items()}

    def labels(self, index: int, height: int, width: int) -> tuple[Labels, ...]:
        """Return the network's label map H x W of every head. Raises the network's ImageError if it has none."""
        labels = self._labels[index, height, width]
        if isinstance(labels, ImageError):
            raise labels
        return labels

    def probabilities(self, height: int, width: int) -> Mapping[str, Probabilities]:
        """Return the network's probabilities 1 x K x H x W of the first photograph, by head."""
        return self._probabilities[height, width]


def at_size(pixels: Pixels, height: int, width: int) -> Pixels:
    """Cut or repeat an H x W x C image to height x width x C without resampling: its middle, or mirrored repeats."""
    for axis, size in ((0, height), (1, width)):
        have = pixels.shape[axis]
        if size <= have:
            start = (have - size) // 2
            pixels = pixels.take(range(start, start + size), axis=axis)
        else:
            there_and_back = np.concatenate([np.arange(have), np.arange(have)[::-1]])
            pixels = pixels.take(np.resize(there_and_back, size), axis=axis)
    return np.ascontiguousarray(pixels)
