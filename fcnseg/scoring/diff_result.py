"""The difference of two runs: changed pixels, counted by image and by class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import LabelsError
from fcnseg.io.raw_map import MapLocation
from fcnseg.labels import LabelSpace
from fcnseg.scoring import measures
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.confusion import Counts, joint_counts
from fcnseg.scoring.counting import Comparison, Fault, PairCounts
from fcnseg.scoring.intervals import paired_intervals
from fcnseg.scoring.label_encoding import check_sizes, read_classes
from fcnseg.scoring.measures import Tally
from fcnseg.scoring.numbering import misnumbering
from fcnseg.scoring.result import json_value


@dataclass(frozen=True)
class ImageDiff:
    """One image: its pixels, and those that changed; with ground truth, that became right (`helped`) or wrong."""

    key: str
    pixels: int
    changed: int
    helped: int | None = None
    hurt: int | None = None

    @property
    def share(self) -> float:
        """Share of its pixels that changed, 0..1."""
        return self.changed / max(1, self.pixels)


@dataclass(frozen=True)
class ClassDiff:
    """One class: its pixels before and after, those it lost to and gained from other classes, and the IoU of before and
    after. With ground truth, `iu_before` and `iu_after` are the IoU of either with the truth, else None."""

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
    """Changed pixels: `helped` became right, `hurt` wrong, `neither` stayed wrong; figures before and after, 0..1.

    `intervals` maps figures to the 95 % confidence interval of after minus before, over the same resampled images;
    empty for one image.
    """

    helped: int
    hurt: int
    neither: int
    mean_iu: tuple[float, float]
    pixel_accuracy: tuple[float, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Diff:
    """The difference of two runs. `transitions` is K x K, int64: rows before, columns after. `images` begin with those
    that changed most; `only_before` and `only_after` are the keys of images that one run alone has. `warnings` say what
    is suspicious."""

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
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 everything was compared, 3 some images were left out, as allowed."""
        return 3 if self.only_before or self.only_after else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of `--json`: the fields as numbers, texts, lists and dicts; NaN becomes None."""
        values: dict[str, Any] = json_value(self)
        return values


@dataclass(frozen=True)
class Versions:
    """The label maps of one image: of both runs, and the ground truth if there is one."""

    key: str
    before: MapLocation
    after: MapLocation
    truth: MapLocation | None = None


@dataclass(frozen=True)
class Change:
    """Pixels of an image: `counts` of them have the codes `before`, `after` and `truth` (VOID without ground truth)."""

    key: str
    before: Counts
    after: Counts
    truth: Counts
    counts: Counts


def count_changes(image: Versions, how: Comparison) -> Change | Fault:
    """Read and count one image. Returns a Fault for an image that cannot be compared."""
    try:
        before, after = read_classes(image.before, how.prediction), read_classes(image.after, how.prediction)
        check_sizes({image.before: before.shape, image.after: after.shape})
        truth = np.full_like(after, VOID)
        if image.truth is not None:
            truth = read_classes(image.truth, how.truth)
            check_sizes({image.truth: truth.shape, image.after: after.shape})
    except LabelsError as error:
        return Fault(image.key, str(error))
    codes = how.classes + 1  # with VOID, which is -1
    sides, truths, counts = joint_counts((before + 1) * codes + after + 1, truth + 1)
    return Change(image.key, sides // codes - 1, sides % codes - 1, truths - 1, counts)


class ChangeTotals:
    """Sums over images; `judged`: there is ground truth."""

    def __init__(self, classes: int, judged: bool) -> None:
        self.judged = judged
        self.transitions = np.zeros((classes, classes), np.int64)
        self.with_truth = np.zeros((2, classes, classes + 1), np.int64)  # the last column: void
        self.margins: tuple[list[Counts], list[Counts]] = ([], [])
        self.images = list[ImageDiff]()
        self.neither = 0

    def add(self, image: Change) -> None:
        """Add one image. Pixels that are void in either run are in no transition; of ground truth they are misses."""
        counted = (image.before >= 0) & (image.after >= 0)
        before, after, truth, counts = image.before, image.after, image.truth, image.counts
        np.add.at(self.transitions, (before[counted], after[counted]), counts[counted])
        changed = before != after
        helped = hurt = None
        if self.judged:
            known = truth >= 0
            for side, labels in enumerate((before, after)):
                pair = PairCounts(image.key, truth[known], labels[known], counts[known], 0)
                np.add.at(self.with_truth[side], (pair.rows, pair.columns), pair.counts)
                self.margins[side].append(pair.margins(len(self.transitions)))
            helped, hurt, judged = (
                int(counts[changed & pixels].sum())
                for pixels in (known & (after == truth), known & (before == truth), known)
            )
            self.neither += judged - helped - hurt
        both = counts[counted & changed]
        self.images.append(ImageDiff(image.key, int(counts[counted].sum()), int(both.sum()), helped, hurt))

    def result(
        self, space: LabelSpace, only_before: tuple[str, ...], only_after: tuple[str, ...], settings: Mapping[str, Any]
    ) -> Diff:
        """Return the difference of all images."""
        tally = Tally.of(self.transitions)
        agreement = measures.class_iu(tally)
        sides = [Tally.of(matrix) for matrix in self.with_truth] if self.judged else []
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
                for i, name in enumerate(space.names)
            ),
            transitions=self.transitions,
            images=tuple(sorted(self.images, key=lambda image: (-image.share, image.key))),
            only_before=only_before,
            only_after=only_after,
            truth=self._truth(sides[0], sides[1]) if sides else None,
            settings=settings,
            warnings=self._warnings(space),
        )

    def _warnings(self, space: LabelSpace) -> tuple[str, ...]:
        compared = [(self.transitions, "second run's maps")]
        if self.judged:
            compared = [(m, f"{n} run's maps") for m, n in zip(self.with_truth, ("first", "second"), strict=True)]
        found = (misnumbering(counts, space.names, side) for counts, side in compared)
        return tuple(warning for warning in found if warning)

    def _truth(self, before: Tally, after: Tally) -> TruthDiff:
        included = np.ones(len(self.transitions), bool)
        sides = [np.stack(margins) for margins in self.margins] if self.images else []
        return TruthDiff(
            intervals=paired_intervals(sides[0], sides[1], included) if sides else {},
            helped=sum(image.helped or 0 for image in self.images),
            hurt=sum(image.hurt or 0 for image in self.images),
            neither=self.neither,
            mean_iu=(float(measures.mean_iu(before)), float(measures.mean_iu(after))),
            pixel_accuracy=(float(measures.pixel_accuracy(before)), float(measures.pixel_accuracy(after))),
        )
