"""What changed between two sets of predictions of the same images: what `fcnseg diff` calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring import measures
from fcnseg.scoring.confusion import Map
from fcnseg.scoring.counting import Comparison, check_codes, read_codes
from fcnseg.scoring.labelling import find_labelling, recorded_classes
from fcnseg.scoring.meaning import Meaning, color_codes
from fcnseg.scoring.measures import Tally
from fcnseg.scoring.pairing import Pair, PairingOptions, pair_sources
from fcnseg.scoring.result import plain
from fcnseg.scoring.score import heads_of

SIDES = ("map of the first run", "map of the second run")


@dataclass(frozen=True)
class DiffOptions:
    """How two runs are compared: the options of the same names in `ScoreOptions`.

    `truth` is ground truth, which says of changes whether they helped. `allow_missing` leaves out images that only
    one of the runs has.
    """

    model: str | None = None
    head: str | None = None
    classes: str | None = None
    pair: str = "auto"
    truth: str | None = None
    gt_pattern: str | None = None
    ignore: tuple[int, ...] = ()
    reduce_labels: bool = False
    allow_missing: bool = False


@dataclass(frozen=True)
class ImageDiff:
    """One image: its pixels, and how many changed; with ground truth also how many of those became right (`helped`)
    or wrong (`hurt`), else None."""

    key: str
    pixels: int
    changed: int
    helped: int | None = None
    hurt: int | None = None

    @property
    def share(self) -> float:
        """The share of its pixels that changed, 0..1."""
        return self.changed / max(1, self.pixels)


@dataclass(frozen=True)
class ClassDiff:
    """One class: its pixels before and after, how many it lost to others and gained from others, and the IU of before
    and after. With ground truth, `iu_before` and `iu_after` are the IUs of either with the truth, else None."""

    index: int
    name: str
    pixels_before: int
    pixels_after: int
    lost: int
    gained: int
    agreement_iu: float
    iu_before: float | None = None
    iu_after: float | None = None


@dataclass(frozen=True)
class TruthDiff:
    """What ground truth says of the changes. Figures 0..1 are pairs, before and after; `neither` were wrong and are
    wrong otherwise."""

    helped: int
    hurt: int
    neither: int
    mean_iu: tuple[float, float]
    pixel_accuracy: tuple[float, float]


@dataclass(frozen=True)
class Diff:
    """What changed from one run to another. `transitions` is K x K, int64: rows before, columns after. `images` are
    those that changed most first, `only_before` and `only_after` are in one run alone."""

    pixels: int
    changed: int
    agreement: float
    identical_images: int
    per_class: tuple[ClassDiff, ...]
    transitions: NDArray[np.int64]
    images: tuple[ImageDiff, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    truth: TruthDiff | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 everything was compared, 3 some images were left out, as allowed."""
        return 3 if self.only_before or self.only_after else 0

    def as_dict(self) -> dict[str, Any]:
        """The keys of `--json`: this object's fields as numbers, texts, lists and dicts; NaN becomes None."""
        values: dict[str, Any] = plain(self)
        return values


@dataclass(frozen=True)
class DiffTask:
    """What is compared: the pairs (prediction: before, truth: after), how, and the ground truth of each."""

    head: HeadRecipe
    pairs: tuple[Pair, ...]
    comparison: Comparison
    truths: Mapping[str, Pair]
    truth_comparison: Comparison | None
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def diff(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    options: DiffOptions | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Diff:
    """What changed between two sets of label maps, each a folder, a file, or HDF5.

    Raises SettingsError for options and for runs of other classes, LabelsError that names files without a partner or
    that cannot be compared.
    """
    options = options or DiffOptions()
    task = plan_diff(os.fspath(before), os.fspath(after), options)
    sums = _Sums(task)
    for done, pair in enumerate(task.pairs, 1):
        sums.add(pair)
        on_progress(done, len(task.pairs))
    return sums.result({"before": os.fspath(before), "after": os.fspath(after), **asdict(options)})


def plan_diff(before: str, after: str, options: DiffOptions) -> DiffTask:
    """What is to be compared, before any map is read. Raises as `diff`."""
    ours, theirs = recorded_classes(before), recorded_classes(after)
    if ours and theirs and ours != theirs:
        raise SettingsError(
            f"{before} and {after} were predicted with different classes; compare runs of the same ones"
        )
    labelling = find_labelling(options.model, options.classes, False, after)
    found = heads_of(labelling, before, after, options.head)
    if len(found) > 1:
        names = ", ".join(head.name for head, _, _ in found)
        raise SettingsError(f"{labelling.model} has the heads {names}; --head says which one to compare")
    head, first, second = found[0]
    lenient = options.allow_missing
    sides = PairingOptions(options.pair, allow_missing=lenient, allow_extra=lenient, what=SIDES)
    pairing = pair_sources(first, second, sides)
    space, checked = head.labels, labelling.colored
    predicted = Meaning(space, frozenset({space.ignore}), colors=color_codes(space), checked=checked)
    truths, truth_comparison = dict[str, Pair](), None
    if options.truth is not None:
        truth = heads_of(labelling, second, options.truth, head.name)[0][2]
        judged = PairingOptions(options.pair, None, options.gt_pattern, allow_missing=True, allow_extra=True)
        truths = {str(pair.prediction): pair for pair in pair_sources(second, truth, judged).pairs}
        missing = [pair.key for pair in pairing.pairs if str(pair.truth) not in truths]
        if missing:
            named = ", ".join(missing[:3])
            raise LabelsError(f"{len(missing)} without a ground truth: {named}; add them, or leave --gt away")
        void = frozenset({space.ignore, *options.ignore})
        reduced = options.reduce_labels
        meaning = Meaning(space, void, None, reduced, colors=predicted.colors, checked=checked, conventional=True)
        truth_comparison = Comparison(meaning, predicted)
    comparison = Comparison(predicted, predicted)
    return DiffTask(head, pairing.pairs, comparison, truths, truth_comparison, pairing.extra, pairing.missing)


class _Sums:
    """The sums over images."""

    def __init__(self, task: DiffTask) -> None:
        classes = task.head.labels.classes
        self.task = task
        self.transitions = np.zeros((classes, classes), np.int64)
        self.with_truth = np.zeros((2, classes, classes), np.int64)
        self.images = list[ImageDiff]()
        self.neither = 0

    def add(self, pair: Pair) -> None:
        """Count one image."""
        after, before = read_codes(pair, self.task.comparison)
        check_codes(pair.prediction, before, pair.truth, after)
        counted = (before >= 0) & (after >= 0)
        _add(self.transitions, before[counted], after[counted])
        changed = counted & (before != after)
        helped = hurt = None
        if self.task.truth_comparison is not None:
            found = self.task.truths[str(pair.truth)]
            truth, _ = read_codes(found, self.task.truth_comparison)
            check_codes(found.truth, truth, pair.truth, after)
            known = counted & (truth >= 0)
            for matrix, labels in zip(self.with_truth, (before, after), strict=True):
                _add(matrix, truth[known], labels[known])
            judged = changed & known
            helped, hurt = int((judged & (after == truth)).sum()), int((judged & (before == truth)).sum())
            self.neither += int(judged.sum()) - helped - hurt
        self.images.append(ImageDiff(pair.key, int(counted.sum()), int(changed.sum()), helped, hurt))

    def result(self, settings: Mapping[str, Any]) -> Diff:
        """The difference of all images."""
        tally = Tally.of(self.transitions)
        agreement = measures.class_iu(tally)
        sides = [Tally.of(matrix) for matrix in self.with_truth] if self.task.truth_comparison else []
        ius = [measures.class_iu(side) for side in sides]
        return Diff(
            pixels=int(tally.truth.sum()),
            changed=int(tally.truth.sum() - tally.hits.sum()),
            agreement=float(measures.pixel_accuracy(tally)),
            identical_images=sum(image.changed == 0 for image in self.images),
            per_class=tuple(
                ClassDiff(
                    index=i,
                    name=name,
                    pixels_before=int(tally.truth[i]),
                    pixels_after=int(tally.predicted[i]),
                    lost=int(tally.truth[i] - tally.hits[i]),
                    gained=int(tally.predicted[i] - tally.hits[i]),
                    agreement_iu=float(agreement[i]),
                    iu_before=float(ius[0][i]) if ius else None,
                    iu_after=float(ius[1][i]) if ius else None,
                )
                for i, name in enumerate(self.task.head.labels.names)
            ),
            transitions=self.transitions,
            images=tuple(sorted(self.images, key=lambda image: (-image.share, image.key))),
            only_before=self.task.only_before,
            only_after=self.task.only_after,
            truth=self._truth(sides) if sides else None,
            settings={**settings, "classes": list(self.task.head.labels.names), "head": self.task.head.name},
        )

    def _truth(self, sides: list[Tally]) -> TruthDiff:
        ious = [float(measures.mean_iu(side)) for side in sides]
        accuracies = [float(measures.pixel_accuracy(side)) for side in sides]
        return TruthDiff(
            helped=sum(image.helped or 0 for image in self.images),
            hurt=sum(image.hurt or 0 for image in self.images),
            neither=self.neither,
            mean_iu=(ious[0], ious[1]),
            pixel_accuracy=(accuracies[0], accuracies[1]),
        )


def _add(matrix: NDArray[np.int64], rows: Map, columns: Map) -> None:
    classes = len(matrix)
    matrix += np.bincount(rows * classes + columns, minlength=classes * classes).reshape(matrix.shape)
