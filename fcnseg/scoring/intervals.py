"""Bootstrap confidence intervals of the figures: percentiles over resampled images (Efron 1979)."""

import numpy as np
from numpy.typing import NDArray

from fcnseg.scoring.measures import FIGURES, Floats, Tally, class_iu

LEVEL = 0.95
SEED = 0
RESAMPLINGS = 1000

AT_ONCE = 10_000_000
"""Limit of the resamplings measured together, times the images: it bounds memory."""

IMAGES_AT_ONCE = 8192


def intervals(
    images: NDArray[np.int64], included: NDArray[np.bool_], resamplings: int = RESAMPLINGS
) -> tuple[dict[str, tuple[float, float]], Floats]:
    """Return the 95 % confidence interval of each of `FIGURES`, and that of each class's IoU, K x 2.

    A class that occurs in one image alone has none (NaN): every resampling would give the same IoU.
    `images` are the right, ground truth and predicted pixels of each image, N x 3 x K. N images are drawn with
    replacement `resamplings` times, always the same ones for the same N.
    """
    rng = np.random.default_rng(SEED)
    figures: dict[str, list[Floats]] = {name: [] for name in FIGURES}
    ius = []
    step = max(1, min(64, AT_ONCE // len(images)))
    for start in range(0, resamplings, step):
        sums = _resampled(images, min(step, resamplings - start), rng)
        tally = Tally.of_margins(sums, included)
        for name, measure in FIGURES.items():
            figures[name].append(measure(tally))
        ius.append(class_iu(tally))
    class_ranges = _bounds(np.concatenate(ius)).T
    class_ranges[images[:, 1:].any(1).sum(0) < 2] = np.nan
    return {name: _interval(np.concatenate(v)) for name, v in figures.items()}, class_ranges


def paired_intervals(
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    included: NDArray[np.bool_],
    resamplings: int = RESAMPLINGS,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % confidence interval of the difference, after minus before, of each of `FIGURES`.

    `before` and `after` are the right, ground truth and predicted pixels of the same images, N x 3 x K each. The same
    images are drawn for both, so that what makes an image hard for both cancels. Empty for one image.
    """
    if len(before) < 2 or not resamplings:
        return {}
    count, _, classes = before.shape
    both = np.concatenate([before, after], axis=2)  # N x 3 x 2K: one drawing for both
    rng = np.random.default_rng(SEED)
    differences: dict[str, list[Floats]] = {name: [] for name in FIGURES}
    step = max(1, min(64, AT_ONCE // count))
    for start in range(0, resamplings, step):
        sums = _resampled(both, min(step, resamplings - start), rng)
        sides = [Tally.of_margins(sums[..., half], included) for half in (slice(classes), slice(classes, None))]
        for name, measure in FIGURES.items():
            differences[name].append(measure(sides[1]) - measure(sides[0]))
    return {name: _interval(np.concatenate(values)) for name, values in differences.items()}


def _resampled(images: NDArray[np.int64], resamplings: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the sums over images drawn with replacement, R x 3 x K."""
    count, _, classes = images.shape
    times = np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(resamplings)])
    sums = np.zeros((resamplings, 3 * classes))
    for start in range(0, count, IMAGES_AT_ONCE):
        rows = slice(start, start + IMAGES_AT_ONCE)  # floats are multiplied faster, and exact below 2**53
        sums += times[:, rows].astype(np.float64) @ images[rows].reshape(-1, 3 * classes).astype(np.float64)
    return sums.astype(np.int64).reshape(resamplings, 3, classes)


def _bounds(values: Floats) -> Floats:
    """Return the ends of the interval of each column, 2 x ..., NaN where no resampling has a value."""
    tail = 50 * (1 - LEVEL)
    bounds = np.full((2, *values.shape[1:]), np.nan)
    known = ~np.isnan(values).all(0)
    bounds[:, known] = np.nanpercentile(values[:, known], (tail, 100 - tail), axis=0)
    return bounds


def _interval(values: Floats) -> tuple[float, float]:
    low, high = _bounds(values[:, None])[:, 0]
    return float(low), float(high)
