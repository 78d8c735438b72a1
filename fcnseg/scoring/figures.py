"""Figures of a score, computed from the sums over all pairs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.io.pairing import Pairing
from fcnseg.labels import LabelSpace
from fcnseg.scoring import measures
from fcnseg.scoring.counting import Totals
from fcnseg.scoring.intervals import intervals
from fcnseg.scoring.measures import BINS, FIGURES, Tally, calibration_error
from fcnseg.scoring.numbering import misnumbering
from fcnseg.scoring.result import Band, Calibration, ClassCounts, ClassScore, ImageScore, ReliabilityBin, Score
from fcnseg.scoring.thresholds import threshold_curve


def score_from_totals(
    totals: Totals,
    space: LabelSpace,
    excluded: frozenset[int],
    pairing: Pairing,
    resamplings: int,
    settings: Mapping[str, Any],
) -> Score:
    """Compute the score of paired images; `excluded` classes are in no mean."""
    included = np.array([i not in excluded for i in range(space.classes)])
    tally = Tally.of(totals.counts, included)
    images = np.stack([*totals.images.values()])
    abstained = totals.counts[:, space.classes]
    warning = misnumbering(totals.counts, space.names)
    figures: dict[str, Any] = {name: float(measure(tally)) for name, measure in FIGURES.items()}
    ranges, class_ranges = intervals(images, included, resamplings) if resamplings and len(images) > 1 else ({}, None)
    boundary = Tally.of_margins(totals.boundary, included)
    return Score(
        **figures,
        images=len(totals.images),
        pixels=int(tally.truth.sum()),
        void_pixels=totals.void,
        intervals=ranges,
        per_class=_per_class(tally, abstained, space, class_ranges, boundary if totals.widths else None),
        confusion=totals.counts[:, : space.classes],
        absent=tuple(name for name, pixels in zip(space.names, tally.truth, strict=True) if not pixels),
        excluded_classes=tuple(space.names[i] for i in sorted(excluded)),
        missing=pairing.missing,
        extra=pairing.extra,
        invalid=tuple(fault for fault in totals.faults if not fault.all_void),
        all_void=tuple(fault.key for fault in totals.faults if fault.all_void),
        excluded_images=pairing.excluded,
        boundary_iu=float(measures.mean_iu(boundary)) if totals.widths else None,
        bands=tuple(_band(w, counts, included) for w, counts in zip(totals.widths, totals.bands, strict=True)),
        calibration=None if totals.bins is None else _calibration(totals.bins),
        settings=settings,
        averaged_over=measures.averaged_classes(tally),
        predicted_only=_predicted_only(tally, space),
        per_image=measures.per_image_means(Tally.of_margins(images, included)),
        predicted_void_pixels=int(abstained.sum()),
        thresholds=None if totals.curve is None else threshold_curve(totals.curve),
        warnings=(warning,) if warning else (),
        image_scores=_image_scores([*totals.images], images, included),
    )


def _predicted_only(tally: Tally, space: LabelSpace) -> tuple[str, ...]:
    """Return the classes in the means that are predicted, but not in the ground truth."""
    included = np.ones(space.classes, bool) if tally.included is None else tally.included
    return tuple(space.names[i] for i in np.flatnonzero(included & (tally.truth == 0) & (tally.predicted > 0)))


def _per_class(
    tally: Tally,
    abstained: NDArray[np.int64],
    space: LabelSpace,
    ranges: measures.Floats | None,
    boundary: Tally | None,
) -> tuple[ClassScore, ...]:
    iu, accuracy, dice = measures.class_iu(tally), measures.class_accuracy(tally), measures.class_dice(tally)
    precision = measures.class_precision(tally)
    boundary_iu = None if boundary is None else measures.class_iu(boundary)
    return tuple(
        ClassScore(
            index=i,
            name=name,
            iu=float(iu[i]),
            accuracy=float(accuracy[i]),
            dice=float(dice[i]),
            pixels=int(tally.truth[i]),
            predicted_pixels=int(tally.predicted[i]),
            iu_interval=None
            if ranges is None or np.isnan(ranges[i, 0])
            else (float(ranges[i, 0]), float(ranges[i, 1])),
            boundary_iu=None if boundary_iu is None else float(boundary_iu[i]),
            included=bool(tally.included is None or tally.included[i]),
            boundary_counts=None
            if boundary is None
            else (int(boundary.hits[i]), int(boundary.truth[i]), int(boundary.predicted[i])),
            precision=float(precision[i]),
            predicted_void_pixels=int(abstained[i]),
        )
        for i, name in enumerate(space.names)
    )


def _band(width: int, margins: NDArray[np.int64], included: NDArray[np.bool_]) -> Band:
    tally = Tally.of_margins(margins, included)
    accuracy, iu = measures.pixel_accuracy(tally), measures.mean_iu(tally)
    return Band(width, int(tally.truth.sum()), float(accuracy), float(iu), class_counts(margins))


def class_counts(margins: NDArray[np.int64]) -> ClassCounts:
    """Return the counts of the classes that occur, from right, ground truth and predicted pixels, 3 x K."""
    occur = np.flatnonzero(margins.any(0))
    return tuple((i, *numbers) for i, numbers in zip(occur.tolist(), margins[:, occur].T.tolist(), strict=True))


def margins_of(counts: Iterable[Sequence[int]], classes: int) -> NDArray[np.int64]:
    """Return what `class_counts` was given, 3 x K."""
    margins = np.zeros((3, classes), np.int64)
    for index, *numbers in counts:
        margins[:, index] = numbers
    return margins


def _calibration(bins: NDArray[np.float64]) -> Calibration:
    pixels, right, confidence = bins
    shares = np.full((2, BINS), np.nan)
    np.divide((confidence, right), pixels, out=shares, where=pixels > 0)
    edges = np.linspace(0, 1, BINS + 1).tolist()
    rows = zip(edges, edges[1:], pixels.astype(int).tolist(), *shares.tolist(), strict=False)
    return Calibration(calibration_error(bins), tuple(ReliabilityBin(*row) for row in rows))


def _image_scores(keys: list[str], images: NDArray[np.int64], included: NDArray[np.bool_]) -> tuple[ImageScore, ...]:
    tally = Tally.of_margins(images, included)
    ius, dices = measures.mean_iu(tally), measures.mean_dice(tally)
    figures = zip(keys, ius, measures.pixel_accuracy(tally), dices, images, strict=True)
    return tuple(
        ImageScore(key, float(iu), float(accuracy), int(margins[1].sum()), class_counts(margins), float(dice))
        for key, iu, accuracy, dice, margins in figures
    )
