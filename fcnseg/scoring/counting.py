"""Counting: one pair of label maps, and the sums over all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.scoring.bands import band_counts, boundary_tally, distance_to_other
from fcnseg.scoring.calibration import BINS, Bins, confidence_bins
from fcnseg.scoring.confusion import Counts, Map, joint_counts
from fcnseg.scoring.meaning import FOREIGN, Decode, Meaning
from fcnseg.scoring.pairing import Pair
from fcnseg.scoring.reading import Place, read_map


@dataclass(frozen=True)
class Comparison:
    """How pairs are compared: what the values of each side mean, and which bands (px) are measured, if any."""

    truth: Meaning
    prediction: Meaning
    bands: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """K."""
        return self.truth.space.classes


@dataclass(frozen=True)
class PairCounts:
    """What one pair adds. `rows`, `columns`, `counts` are the entries of its confusion matrix that are not 0;
    `void` its pixels that do not count; `void_255` whether its ground truth has the value 255 as void.
    """

    key: str
    rows: Counts
    columns: Counts
    counts: Counts
    void: int
    void_255: bool = False
    boundary: Counts | None = None
    bands: Counts | None = None
    bins: Bins | None = None


@dataclass(frozen=True)
class Fault:
    """A pair that cannot be compared, and why; `all_void`: because its ground truth has nothing that counts."""

    key: str
    reason: str
    all_void: bool = False


def compare(pair: Pair, how: Comparison) -> PairCounts | Fault:
    """Read and count one pair; what is wrong with it is its result."""
    try:
        raw_truth, raw_predicted = read_map(pair.truth), read_map(pair.prediction)
        with _about(pair.truth):
            truth, truth_codes = how.truth.interpret(raw_truth)
        with _about(pair.prediction):
            predicted, predicted_codes = how.prediction.interpret(raw_predicted)
        if raw_truth.kind == "probabilities":
            raise LabelsError(f"{pair.truth} holds probabilities; ground truth must be labels")
        if truth.shape != predicted.shape:
            raise LabelsError(_sizes(pair.prediction, predicted.shape, pair.truth, truth.shape))
        values, others, counts = joint_counts(truth, predicted)
        rows, columns = truth_codes(values), predicted_codes(others)
        _check_range(pair.truth, values, rows == FOREIGN, counts, how.truth)
        wrong = (columns < 0) & ((rows >= 0) | (columns == FOREIGN))
        _check_range(pair.prediction, others, wrong, counts, how.prediction)
        with _about(pair.truth):
            how.truth.check_palette(raw_truth.palette, values)
        with _about(pair.prediction):
            how.prediction.check_palette(raw_predicted.palette, others)
    except LabelsError as error:
        return Fault(pair.key, str(error))
    counted = rows >= 0
    if not counted.any():
        return Fault(pair.key, f"{pair.truth} is all void: none of its pixels counts", all_void=True)
    found = PairCounts(
        pair.key,
        rows[counted],
        columns[counted],
        counts[counted],
        void=int(counts[~counted].sum()),
        void_255=bool((values[~counted] == 255).any()),
    )
    if how.bands:
        coded = _coded(truth, truth_codes), _coded(predicted, predicted_codes)
        to_other = distance_to_other(coded[0])
        found = replace(
            found,
            boundary=boundary_tally(*coded, to_other, how.classes),
            bands=band_counts(*coded, to_other, how.bands, how.classes),
        )
    probable = raw_predicted.kind == "probabilities"
    confidence = raw_predicted.values.max(0) if probable else raw_predicted.confidence
    if confidence is not None:
        found = replace(found, bins=confidence_bins(confidence, predicted, _coded(truth, truth_codes)))
    return found


def read_codes(pair: Pair, how: Comparison) -> tuple[Map, Map]:
    """The codes of both sides, H x W: classes, VOID or FOREIGN. Raises LabelsError for what cannot be read."""
    return read_place(pair.truth, how.truth), read_place(pair.prediction, how.prediction)


def read_place(place: Place, meaning: Meaning) -> Map:
    """The codes of one map, as `read_codes`."""
    raw = read_map(place)
    with _about(place):
        values, codes = meaning.interpret(raw)
        if raw.palette:
            meaning.check_palette(raw.palette, np.flatnonzero(np.bincount(values.ravel())))
    return _coded(values, codes)


def check_codes(first: Place, codes: Map, second: Place, others: Map) -> None:
    """Whether two maps of codes can be compared. Raises LabelsError for other sizes, and for values of no class."""
    if codes.shape != others.shape:
        raise LabelsError(_sizes(first, codes.shape, second, others.shape))
    check_foreign(first, codes)
    check_foreign(second, others)


def check_foreign(place: Place, codes: Map) -> None:
    """Raises LabelsError if a map of codes has values of no class."""
    if (codes == FOREIGN).any():
        raise LabelsError(
            f"{place} has {int((codes == FOREIGN).sum())} pixels with labels of no class; --model says whose"
        )


@contextmanager
def _about(place: Place) -> Iterator[None]:
    """Errors that name the file."""
    try:
        yield
    except LabelsError as error:
        raise LabelsError(f"{place} {error}") from error


def _sizes(first: Place, shape: tuple[int, ...], second: Place, other: tuple[int, ...]) -> str:
    turned = "; one of them is turned" if shape == other[::-1] else ""
    ours, theirs = (f"{width} x {height}" for height, width in (shape, other))
    return f"{first} is {ours}, but {second} {theirs} px{turned}"


def _check_range(place: Place, values: Counts, wrong: NDArray[np.bool_], counts: Counts, meaning: Meaning) -> None:
    if not wrong.any():
        return
    found = {int(v): int(counts[wrong & (values == v)].sum()) for v in np.unique(values[wrong])}
    value, count = next(iter(found.items()))
    more = f" (and {len(found) - 1} more values)" if len(found) > 1 else ""
    classes = meaning.space.classes
    expected = "the label map has no such value" if meaning.table is not None else f"labels are 0 to {classes - 1}"
    hint = ""
    if not (meaning.binary or meaning.reduced) and meaning.table is None:
        if classes == 2 and set(found) == {255}:
            hint = "; --binary reads 0/255 masks"
        elif set(found) == {classes}:
            hint = f"; --ignore {classes} takes it as void, --reduce-labels classes as counted from 1"
    raise LabelsError(f"{place} has label {value} on {count} pixels{more}, but {expected}{hint}")


def _coded(values: Map, codes: Decode) -> NDArray[np.int64]:
    """The code of every pixel."""
    if values.dtype in (np.uint8, np.uint16):
        return codes(np.arange(int(values.max()) + 1))[values]
    found, places = np.unique(values, return_inverse=True)
    return codes(found.astype(np.int64))[places.reshape(values.shape)]


# ---------------------------------------------------------------------- all pairs


@dataclass
class Totals:
    """The sums over pairs, in the order of the pairs. `images` holds hits, truth and predicted pixels, 3 x K each;
    `band_counts` those of the bands of these widths, W x K x K."""

    classes: int
    bands: tuple[int, ...] = ()
    counts: Counts = field(init=False)
    keys: list[str] = field(default_factory=list)
    images: list[NDArray[np.int64]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    void: int = 0
    void_255: bool = False
    boundary: Counts = field(init=False)
    band_counts: Counts = field(init=False)
    bins: Bins | None = None

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes), np.int64)
        self.boundary = np.zeros((3, self.classes), np.int64)
        self.band_counts = np.zeros((len(self.bands), self.classes, self.classes), np.int64)

    def add(self, found: PairCounts | Fault) -> None:
        """Count one pair in, or note why not."""
        if isinstance(found, Fault):
            self.faults.append(found)
            return
        np.add.at(self.counts, (found.rows, found.columns), found.counts)
        self.keys.append(found.key)
        self.images.append(self._margins(found))
        self.void += found.void
        self.void_255 |= found.void_255
        if found.boundary is not None and found.bands is not None:
            self.boundary += found.boundary
            self.band_counts += found.bands
        if found.bins is not None:
            self.bins = found.bins + (np.zeros((3, BINS)) if self.bins is None else self.bins)

    def _margins(self, found: PairCounts) -> NDArray[np.int64]:
        margins = np.zeros((3, self.classes), np.int64)
        right = found.rows == found.columns
        np.add.at(margins[0], found.rows[right], found.counts[right])
        np.add.at(margins[1], found.rows, found.counts)
        np.add.at(margins[2], found.columns, found.counts)
        return margins
