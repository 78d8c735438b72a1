"""Pixel counts: of one pair of label maps, and summed over all pairs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.pairing import Pair
from fcnseg.io.raw_map import naming
from fcnseg.scoring.bands import band_tallies, boundary_tally, distance_to_other
from fcnseg.scoring.codes import FOREIGN, check_range, codes_of
from fcnseg.scoring.confusion import Counts, Map, joint_counts
from fcnseg.scoring.label_encoding import LabelEncoding, check_sizes
from fcnseg.scoring.measures import BINS, Floats, confidence_bins


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

    `rows`, `columns` and `counts` are the entries of its confusion matrix that are not 0, `void` the pixels that do not
    count. `void_255`: its ground truth has the value 255 as void. `variable` is that of a `.mat` file. `boundary` is
    3 x K and `bands` W x 3 x K: right, in the ground truth, predicted.
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

    def margins(self, classes: int) -> Counts:
        """Return its right, ground truth and predicted pixels of each class, 3 x K."""
        margins = np.zeros((3, classes), np.int64)
        right = self.rows == self.columns
        np.add.at(margins[0], self.rows[right], self.counts[right])
        np.add.at(margins[1], self.rows, self.counts)
        np.add.at(margins[2], self.columns, self.counts)
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
        truth, truth_table = how.truth.interpret(raw_truth)
    with naming(pair.prediction):
        predicted, predicted_table = how.prediction.interpret(raw_predicted)
    if raw_truth.kind == "probabilities":
        raise LabelsError(f"{pair.truth} holds probabilities; ground truth must be labels")
    check_sizes({pair.prediction: predicted.shape, pair.truth: truth.shape})
    # values are few: they are checked and translated after counting
    truth_values, predicted_values, counts = joint_counts(truth, predicted)
    rows, columns = truth_table(truth_values), predicted_table(predicted_values)
    hints = _hints(k := how.classes, f"--ignore {k} takes it as void, --reduce-labels classes as counted from 1")
    check_range(pair.truth, truth_values, rows == FOREIGN, counts, truth_table, hints)
    wrong = (columns < 0) & ((rows >= 0) | (columns == FOREIGN))
    hints = _hints(how.classes, "--pred-label-map FILE says what its values mean")
    check_range(pair.prediction, predicted_values, wrong, counts, predicted_table, hints)
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
    if how.bands:
        result = _with_bands(result, codes_of(truth, truth_table), codes_of(predicted, predicted_table), how)
    probable = raw_predicted.kind == "probabilities"
    confidence = raw_predicted.values.max(0) if probable else raw_predicted.confidence
    if confidence is not None:
        result = replace(result, bins=confidence_bins(confidence, predicted, codes_of(truth, truth_table)))
    return result


def _hints(classes: int, advice: str) -> dict[int, str]:
    """Return the options that may explain single stray values."""
    return {classes: advice} | ({255: "--binary reads 0/255 masks"} if classes == 2 else {})


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

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes), np.int64)
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

    def add_bins(self, bins: Floats | None) -> None:
        """Add bins of confidence, if there are any."""
        if bins is not None:
            self.bins = bins + (np.zeros((3, BINS)) if self.bins is None else self.bins)

    def sort(self) -> None:
        """Order images and faults by their keys: pairs come in any order."""
        self.images = dict(sorted(self.images.items()))
        self.faults.sort(key=lambda fault: fault.key)
