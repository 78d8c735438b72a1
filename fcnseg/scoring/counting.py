"""Counting: one pair of label maps, and the sums over all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.label_maps import read_map
from fcnseg.io.pairing import Pair
from fcnseg.io.raw_map import MapLocation
from fcnseg.scoring.bands import band_tallies, boundary_tally, distance_to_other
from fcnseg.scoring.calibration import Bins, confidence_bins
from fcnseg.scoring.confusion import Counts, Map, joint_counts
from fcnseg.scoring.meaning import FOREIGN, Meaning, Scheme


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

    @property
    def truth_hint(self) -> dict[int, str]:
        """What a stray value of ground truth may come from."""
        k = self.classes
        counted = f"--ignore {k} takes it as void, --reduce-labels classes as counted from 1"
        return {k: counted} | self._masks

    @property
    def prediction_hint(self) -> dict[int, str]:
        """What a stray value of a prediction may come from."""
        return {self.classes: "--pred-label-map FILE says what its values mean"} | self._masks

    @property
    def _masks(self) -> dict[int, str]:
        return {255: "--binary reads 0/255 masks"} if self.classes == 2 else {}


@dataclass(frozen=True)
class PairCounts:
    """What one pair adds. `rows`, `columns`, `counts` are the entries of its confusion matrix that are not 0;
    `void` its pixels that do not count; `void_255` whether its ground truth has the value 255 as void; `variable` that
    of a `.mat` file. `boundary` is 3 x K and `bands` W x 3 x K: right, in the ground truth, predicted.
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
    bins: Bins | None = None

    def margins(self, classes: int) -> Counts:
        """Its right, ground truth and predicted pixels of each class, 3 x K."""
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
    """Read and count one pair; what is wrong with it is its result."""
    try:
        raw_truth, raw_predicted = read_map(pair.truth), read_map(pair.prediction)
        with _about(pair.truth):
            truth, truth_codes = how.truth.interpret(raw_truth)
        with _about(pair.prediction):
            predicted, predicted_codes = how.prediction.interpret(raw_predicted)
        if raw_truth.kind == "probabilities":
            raise LabelsError(f"{pair.truth} holds probabilities; ground truth must be labels")
        check_sizes(pair.prediction, predicted, pair.truth, truth)
        values, others, counts = joint_counts(truth, predicted)
        rows, columns = truth_codes(values), predicted_codes(others)
        _check_range(pair.truth, values, rows == FOREIGN, counts, truth_codes, how.truth_hint)
        wrong = (columns < 0) & ((rows >= 0) | (columns == FOREIGN))
        _check_range(pair.prediction, others, wrong, counts, predicted_codes, how.prediction_hint)
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
        variable=raw_truth.variable,
    )
    if how.bands:
        coded = _coded(truth, truth_codes), _coded(predicted, predicted_codes)
        to_other = distance_to_other(coded[0])
        found = replace(
            found,
            boundary=boundary_tally(*coded, to_other, how.classes),
            bands=band_tallies(*coded, to_other, how.bands, how.classes),
        )
    probable = raw_predicted.kind == "probabilities"
    confidence = raw_predicted.values.max(0) if probable else raw_predicted.confidence
    if confidence is not None:
        found = replace(found, bins=confidence_bins(confidence, predicted, _coded(truth, truth_codes)))
    return found


def read_codes(place: MapLocation, meaning: Meaning) -> Map:
    """The codes of one map, H x W: classes, VOID or FOREIGN. Raises LabelsError for what cannot be read."""
    return _coded(*_read(place, meaning))


def read_classes(place: MapLocation, meaning: Meaning) -> Map:
    """The codes of one map, H x W: classes or VOID. Raises LabelsError for what cannot be read or is no class."""
    values, scheme = _read(place, meaning)
    codes = _coded(values, scheme)
    if (foreign := codes == FOREIGN).any():
        found, counts = np.unique(values[foreign], return_counts=True)
        _check_range(place, found, np.ones(found.shape, bool), counts, scheme, {})
    return codes


def _read(place: MapLocation, meaning: Meaning) -> tuple[Map, Scheme]:
    raw = read_map(place)
    with _about(place):
        values, scheme = meaning.interpret(raw)
        if raw.palette:
            meaning.check_palette(raw.palette, np.flatnonzero(np.bincount(values.ravel())))
    return values, scheme


def check_sizes(first: MapLocation, values: Map, second: MapLocation, others: Map) -> None:
    """Raises LabelsError for maps of different sizes."""
    if values.shape != others.shape:
        turned = "; one of them is turned" if values.shape == others.shape[::-1] else ""
        ours, theirs = (f"{width} x {height}" for height, width in (values.shape, others.shape))
        raise LabelsError(f"{first} is {ours}, but {second} {theirs} px{turned}")


@contextmanager
def _about(place: MapLocation) -> Iterator[None]:
    """Errors that name the file."""
    try:
        yield
    except LabelsError as error:
        raise LabelsError(f"{place} {error}") from error


def _check_range(
    place: MapLocation,
    values: Counts,
    wrong: NDArray[np.bool_],
    counts: Counts,
    scheme: Scheme,
    hint: Mapping[int, str],
) -> None:
    if not wrong.any():
        return
    found = np.unique(values[wrong]).tolist()
    count = int(counts[wrong & (values == found[0])].sum())
    more = f" (and {len(found) - 1} more values)" if len(found) > 1 else ""
    help_ = f"; {hint[found[0]]}" if scheme.plain and len(found) == 1 and found[0] in hint else ""
    raise LabelsError(f"{place} has label {found[0]} on {count} pixels{more}, but {scheme.expected}{help_}")


def _coded(values: Map, codes: Scheme) -> NDArray[np.int32]:
    """The code of every pixel."""
    if values.dtype in (np.uint8, np.uint16):
        return codes(np.arange(int(values.max()) + 1)).astype(np.int32)[values]
    found, places = np.unique(values, return_inverse=True)
    return codes(found.astype(np.int64)).astype(np.int32)[places.reshape(values.shape)]
