"""Pixel counts: of one pair of label maps, and summed over all pairs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.pairing import Pair
from fcnseg.io.raw_map import naming
from fcnseg.scoring.bands import band_tallies, boundary_tally, distance_to_other
from fcnseg.scoring.codes import FOREIGN, VOID, check_range, codes_of
from fcnseg.scoring.confusion import Counts, Map, joint_counts
from fcnseg.scoring.label_encoding import ClassMap, LabelEncoding, check_sizes
from fcnseg.scoring.measures import BINS, Floats, confidence_bins
from fcnseg.scoring.thresholds import threshold_counts


@dataclass(frozen=True)
class Comparison:
    """Encodings of both sides, and the widths, px, of the bands that are measured."""

    truth: LabelEncoding
    prediction: LabelEncoding
    bands: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """K."""
        return self.truth.space.classes


@dataclass(frozen=True)
class PairCounts:
    """Counts of one pair.

    `rows`, `columns` and `counts` are the entries of its confusion matrix that are not 0 (a prediction that abstains is
    in column -1), `void` the pixels that do not count. `void_255`: its ground truth has the value 255 as void.
    `variable` is that of a `.mat` file. `boundary` is 3 x K and `bands` W x 3 x K: right, in the ground truth,
    predicted. `bins` are those of `confidence_bins`, `curve` those of `threshold_counts`.
    """

    key: str
    rows: Counts
    columns: Counts
    counts: Counts
    void: int
    void_255: bool = False
    variable: str = ""
    boundary: Counts | None = None
    bands: Counts | None = None
    bins: Floats | None = None
    curve: Counts | None = None

    def margins(self, classes: int) -> Counts:
        """Return its right, ground truth and predicted pixels of each class, 3 x K."""
        margins = np.zeros((3, classes), np.int64)
        right = self.rows == self.columns
        np.add.at(margins[0], self.rows[right], self.counts[right])
        np.add.at(margins[1], self.rows, self.counts)
        named = self.columns >= 0
        np.add.at(margins[2], self.columns[named], self.counts[named])
        return margins


@dataclass(frozen=True)
class Fault:
    """A pair that cannot be compared, and why; `all_void`: because its ground truth has nothing that counts."""

    key: str
    reason: str
    all_void: bool = False


def compare(pair: Pair, how: Comparison) -> PairCounts | Fault:
    """Read and count one pair. Returns a Fault for a pair that cannot be compared."""
    try:
        return _count(pair, how)
    except LabelsError as error:
        return Fault(pair.key, str(error))


def _count(pair: Pair, how: Comparison) -> PairCounts | Fault:
    raw_truth, raw_predicted = read_map(pair.truth), read_map(pair.prediction)
    with naming(pair.truth):
        truth = how.truth.interpret(raw_truth)
        if truth.soft:
            raise LabelsError("holds probabilities; ground truth must be labels")
    with naming(pair.prediction):
        predicted = how.prediction.interpret(raw_predicted)
    check_sizes({pair.prediction: predicted.values.shape, pair.truth: truth.values.shape})
    # values are few: they are checked and translated after counting
    truth_values, predicted_values, counts = joint_counts(truth.values, predicted.values)
    rows, columns = truth.table(truth_values), predicted.table(predicted_values)
    check_range(pair.truth, truth_values, rows == FOREIGN, counts, truth.table, _truth_hints(how.classes))
    abstained = (columns == VOID) & how.prediction.abstains(raw_predicted, predicted_values)
    wrong = (columns < 0) & ((rows >= 0) | (columns == FOREIGN)) & ~abstained
    check_range(pair.prediction, predicted_values, wrong, counts, predicted.table, _prediction_hints(how))
    with naming(pair.truth):
        how.truth.check_palette(raw_truth.palette, truth_values)
    with naming(pair.prediction):
        how.prediction.check_palette(raw_predicted.palette, predicted_values)
    counted = rows >= 0
    if not counted.any():
        return Fault(pair.key, f"{pair.truth} is all void: none of its pixels counts", all_void=True)
    result = PairCounts(
        pair.key,
        rows[counted],
        columns[counted],
        counts[counted],
        void=int(counts[~counted].sum()),
        void_255=bool((truth_values[~counted] == 255).any()),
        variable=raw_truth.variable,
    )
    return _with_pixels(result, truth, predicted, how)


def _truth_hints(classes: int) -> dict[int, str]:
    """Return the options that may explain single stray values of ground truth."""
    advice = f"--ignore {classes} takes it as void, --reduce-labels classes as counted from 1"
    return {classes: advice} | ({255: "--binary reads 0/255 masks"} if classes == 2 else {})


def _prediction_hints(how: Comparison) -> dict[int, str]:
    """Return the options that may explain single stray values of predictions."""
    classes, void = how.classes, how.truth.space.ignore
    as_miss = {value: f"`{value}: void` in the file of --pred-label-map counts it as a miss" for value in (void, -1)}
    if classes == 2 and void == 255:
        as_miss[void] = f"--binary reads 0/255 masks, {as_miss[void]}"
    counted_from_1 = "--reduce-pred-labels takes classes as counted from 1, --pred-label-map FILE says what values mean"
    return {**as_miss, classes: counted_from_1}


def _with_pixels(result: PairCounts, truth: ClassMap, predicted: ClassMap, how: Comparison) -> PairCounts:
    """Add what the places of pixels or their probabilities are needed for, if it is asked for or there."""
    if not how.bands and predicted.confidence is None:
        return result
    true, given = codes_of(truth.values, truth.table), codes_of(predicted.values, predicted.table)
    if how.bands:
        result = _with_bands(result, true, given, how)
    if predicted.confidence is not None:
        result = replace(result, bins=confidence_bins(predicted.confidence, given, true))
    if predicted.foreground is not None:
        result = replace(result, curve=threshold_counts(predicted.foreground, true))
    return result


def _with_bands(result: PairCounts, truth: Map, predicted: Map, how: Comparison) -> PairCounts:
    to_other = distance_to_other(truth)
    return replace(
        result,
        boundary=boundary_tally(truth, predicted, to_other, how.classes),
        bands=band_tallies(truth, predicted, to_other, how.bands, how.classes),
    )


@dataclass
class Totals:
    """Sums over pairs, and the pairs that could not be compared.

    `counts` is K x (K + 1), rows ground truth, the last column predictions that abstain.
    `images` holds the right, ground truth and predicted pixels of each image, 3 x K; `boundary` those of boundaries,
    and `bands` those in bands of `widths`, W x 3 x K. `variables` are those of the `.mat` files that were read.
    """

    classes: int
    widths: tuple[int, ...] = ()
    counts: Counts = field(init=False)
    images: dict[str, Counts] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    void: int = 0
    void_255: bool = False
    variables: set[str] = field(default_factory=set)
    boundary: Counts = field(init=False)
    bands: Counts = field(init=False)
    bins: Floats | None = None
    curve: Counts | None = None

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes + 1), np.int64)
        self.boundary = np.zeros((3, self.classes), np.int64)
        self.bands = np.zeros((len(self.widths), 3, self.classes), np.int64)

    @property
    def keys(self) -> set[str]:
        """The keys of all pairs that were read."""
        return {*self.images, *(fault.key for fault in self.faults)}

    def add(self, pair: PairCounts | Fault) -> None:
        """Add the counts of one pair, or its fault."""
        if isinstance(pair, Fault):
            self.faults.append(pair)
            return
        np.add.at(self.counts, (pair.rows, pair.columns), pair.counts)
        self.images[pair.key] = pair.margins(self.classes)
        self.void += pair.void
        self.void_255 |= pair.void_255
        self.variables.add(pair.variable)
        if pair.boundary is not None and pair.bands is not None:
            self.boundary += pair.boundary
            self.bands += pair.bands
        self.add_bins(pair.bins)
        self.add_curve(pair.curve)

    def merge(self, other: Totals) -> None:
        """Add the sums over other pairs."""
        self.counts += other.counts
        self.images |= other.images
        self.faults += other.faults
        self.void += other.void
        self.void_255 |= other.void_255
        self.variables |= other.variables
        self.boundary += other.boundary
        self.bands += other.bands
        self.add_bins(other.bins)
        self.add_curve(other.curve)

    def add_bins(self, bins: Floats | None) -> None:
        """Add bins of confidence, if there are any."""
        if bins is not None:
            self.bins = bins + (np.zeros((3, BINS)) if self.bins is None else self.bins)

    def add_curve(self, curve: Counts | None) -> None:
        """Add the counts of a threshold curve, if there are any."""
        if curve is not None:
            self.curve = curve if self.curve is None else self.curve + curve

    def sort(self) -> None:
        """Order images and faults by their keys: pairs come in any order."""
        self.images = dict(sorted(self.images.items()))
        self.faults.sort(key=lambda fault: fault.key)
