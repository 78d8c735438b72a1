"""Verify that an engine gives the fp32 network's labels, on real images at every corner of its range of sizes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from fcnseg.engine.reference import Case, OnProgress, ReferenceLabels, cases_of
from fcnseg.errors import EngineError, ImageError, TooLargeError
from fcnseg.recipes import Shapes
from fcnseg.types import Engine, Pixels, Verification

TIMED_RUNS = 3
"""The images that a speed is measured on, one by one."""

TIMED_BATCHES = 10
"""The same for GPUs, where a batch takes milliseconds."""

NOT_COMPARED = ": not compared, "
"""Between a case that memory does not hold and the reason."""


def verify(
    engine: Engine,
    reference: ReferenceLabels,
    shapes: Sequence[Shapes],
    *,
    min_agreement: float,
    images: str,
    fixed_sizes: bool,
    probabilities: bool = False,
    on_progress: OnProgress = lambda phase, fraction: None,
) -> Verification:
    """Compare an engine with the network at the smallest, typical and largest size: see `cases_of`.

    `reference` has been computed for these `shapes`; `images` says whose the photographs are; with `probabilities`
    these are compared too. A case passes if at least `min_agreement` (0..1) of its pixels, or all but one, are equal.
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
    seconds = _typical_seconds(engine, reference, shapes[0], full_batches=fixed_sizes)
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


def _compare(engine: Engine, reference: ReferenceLabels, case: Case) -> tuple[int, int, str]:
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


def _probability_difference(engine: Engine, reference: ReferenceLabels, case: Case) -> float:
    """Return the largest difference of any class probability of one image."""
    inputs = reference.inputs(0, case.height, case.width)
    expected, (_, actual) = reference.probabilities(case.height, case.width), engine.infer(inputs, True)
    assert actual is not None
    differences = [float(np.abs(actual[head].astype(np.float32) - expected[head]).max()) for head in expected]
    if not np.isfinite(differences).all():
        raise EngineError(f"at {case} the engine gives probabilities that are no numbers; use a higher precision")
    return max(differences)


def _typical_seconds(engine: Engine, reference: ReferenceLabels, profile: Shapes, *, full_batches: bool) -> float:
    """Return the median time of an image of the typical size after a warm-up: in a full batch, which is what a run
    consists of, where these are computed as such, else alone. Batches that memory does not hold are halved."""
    batch, runs = (profile.max_batch, TIMED_BATCHES) if full_batches else (1, TIMED_RUNS)
    image = reference.inputs(0, *profile.typical)
    while batch:
        inputs = {m: np.repeat(pixels, batch, axis=0) for m, pixels in image.items()}
        try:
            seconds = [_seconds(engine, inputs) for _ in range(1 + runs)]
        except TooLargeError:
            batch //= 2
            continue
        return median(seconds[1:]) / batch
    return float("inf")


def _seconds(engine: Engine, inputs: Mapping[str, Pixels]) -> float:
    start = time.perf_counter()
    engine.infer(inputs)
    return time.perf_counter() - start
