"""Verify that an engine gives the fp32 network's labels, on real images at every corner of its range of sizes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from fcnseg.errors import EngineError, ImageError
from fcnseg.models import network_spec
from fcnseg.models.arithmetic import network_gflop
from fcnseg.recipes import Recipe, Shapes
from fcnseg.types import Engine, Labels, Pixels, Verification

COMPARED = 8
"""Images that an engine is compared with the network on at most, evenly spaced; two at the largest size, where the
network takes seconds for each."""

LEAST_COMPARED = 2

BUDGET_GFLOP = 500
"""The arithmetic spent on the images of one size, in 10^9 operations of the network: some seconds of two cores."""

TIMED_RUNS = 3

NOT_COMPARED = ": not compared, "
"""Between a case that memory does not hold and the reason."""

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


class ReferenceNetwork:
    """The fp32 network's labels and probabilities of each photograph at each size, computed once."""

    def __init__(self, network: Engine, recipe: Recipe, photographs: Sequence[Mapping[str, Pixels]]) -> None:
        self.network, self.recipe, self.photographs = network, recipe, photographs
        self._known: dict[tuple[int, int, int], tuple[Labels, ...]] = {}

    def inputs(self, index: int, height: int, width: int) -> dict[str, Pixels]:
        """Return a photograph at that size, 1 x H x W x C by modality."""
        return {m: at_size(pixels, height, width)[None] for m, pixels in self.photographs[index].items()}

    def labels(self, index: int, height: int, width: int) -> tuple[Labels, ...]:
        """Return the network's label map H x W of every head."""
        key = (index, height, width)
        if key not in self._known:
            by_head, _ = self.network.infer(self.inputs(index, height, width))
            self._known[key] = tuple(labels[0] for labels in by_head.values())
        return self._known[key]


def verify(
    engine: Engine,
    reference: ReferenceNetwork,
    shapes: Sequence[Shapes],
    *,
    min_agreement: float,
    images: str,
    fixed_sizes: bool,
    probabilities: bool = False,
    on_progress: OnProgress = lambda phase, fraction: None,
) -> Verification:
    """Compare an engine with the network at the smallest, typical and largest size: see `cases_of`.

    `images` says whose the photographs are; with `probabilities` these are compared too. A case passes if at least
    `min_agreement` (0..1) of its pixels, or all but one, are the same.
    Raises EngineError if the engine gives what no network gives: unknown classes, NaN, wrong sizes.
    """
    cases = cases_of(reference.recipe, shapes, len(reference.photographs), fixed_sizes=fixed_sizes)
    total = right = compared = 0
    passed, worst, worst_share, done, largest = True, "nowhere", 1.0, [], None
    for number, case in enumerate(cases):
        on_progress("verifying", number / len(cases))
        try:
            wrong, pixels, confused = _compare(engine, reference, case)
        except ImageError as error:
            done.append(f"{case}{NOT_COMPARED}{error}")
            continue
        done.append(str(case))
        compared = max(compared, case.images)
        total, right = total + pixels, right + pixels - wrong
        if wrong and 1 - wrong / pixels < worst_share:
            worst_share = 1 - wrong / pixels
            worst = f"{case}: {worst_share:.2%} agree{confused}"
        passed = passed and wrong <= max(1, (1 - min_agreement) * pixels)
        if probabilities and case.batch == 1:
            largest = max(largest or 0.0, _probability_difference(engine, reference, case))
    if not total:
        raise EngineError(f"no size of the engine's range could be compared: {done[0]}")
    seconds = _typical_seconds(engine, reference, shapes[0])
    return Verification(
        passed, min_agreement, right / total, worst, largest, tuple(done), f"{compared} of {images}", seconds
    )


def meets(verification: Verification | None, min_agreement: float) -> bool:
    """Tell whether an engine is verified at `min_agreement` or better, or was right on every pixel.

    One that cannot be compared here (None) counts as verified.
    """
    if verification is None:
        return True
    return verification.passed and (verification.min_agreement >= min_agreement or verification.agreement == 1)


def _compare(engine: Engine, reference: ReferenceNetwork, case: Case) -> tuple[int, int, str]:
    """Count differing pixels and all pixels, and put the commonest confusion in words."""
    wrong = pixels = 0
    confusions: Counter[tuple[str, str]] = Counter()
    for chosen in case.calls(len(reference.photographs)):
        expected = [reference.labels(i, case.height, case.width) for i in chosen]
        rows = [reference.inputs(i, case.height, case.width) for i in chosen]
        by_head, _ = engine.infer({m: np.concatenate([row[m] for row in rows]) for m in rows[0]})
        for h, head in enumerate(reference.recipe.heads):
            labels = by_head[head.name]
            shape = (case.batch, case.height, case.width)
            if labels.shape != shape:
                raise EngineError(f"at {case} the engine gives labels of shape {labels.shape} instead of {shape}")
            if int(labels.max()) >= head.labels.classes:
                raise EngineError(f"at {case} the engine gives class {int(labels.max())} of {head.labels.classes}")
            truth = np.stack([maps[h] for maps in expected])
            differs = labels != truth
            wrong, pixels = wrong + int(differs.sum()), pixels + differs.size
            pairs, counts = np.unique(np.stack([truth[differs], labels[differs]]), axis=1, return_counts=True)
            for (was, became), count in zip(pairs.T, counts, strict=True):
                confusions[head.labels.names[was], head.labels.names[became]] += int(count)
    if not wrong:
        return 0, pixels, ""
    (was, became), count = confusions.most_common(1)[0]
    return wrong, pixels, f", {count} of {wrong} pixels that differ are {became!r} instead of {was!r}"


def _probability_difference(engine: Engine, reference: ReferenceNetwork, case: Case) -> float:
    """Return the largest difference of any class probability of one image."""
    inputs = reference.inputs(0, case.height, case.width)
    (_, actual), (_, expected) = engine.infer(inputs, True), reference.network.infer(inputs, True)
    assert actual is not None
    assert expected is not None
    differences = [float(np.abs(actual[head].astype(np.float32) - expected[head]).max()) for head in expected]
    if not np.isfinite(differences).all():
        raise EngineError(f"at {case} the engine gives probabilities that are no numbers; use a higher precision")
    return max(differences)


def _typical_seconds(engine: Engine, reference: ReferenceNetwork, profile: Shapes) -> float:
    inputs = reference.inputs(0, *profile.typical)
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        engine.infer(inputs)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


# ---------------------------------------------------------------------- images


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
