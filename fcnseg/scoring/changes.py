"""Changed pixels: counted for the two label maps of one image, and summed over all images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcnseg.errors import LabelsError
from fcnseg.io.raw_map import MapLocation
from fcnseg.labels import LabelSpace
from fcnseg.scoring import measures
from fcnseg.scoring.coded_maps import check_sizes, read_classes
from fcnseg.scoring.codes import VOID
from fcnseg.scoring.confusion import Counts, joint_counts
from fcnseg.scoring.counting import Comparison, Fault
from fcnseg.scoring.diff_result import ClassDiff, Diff, ImageDiff, TruthDiff
from fcnseg.scoring.measures import Tally


@dataclass(frozen=True)
class Versions:
    """The label maps of one image: of both runs, and the ground truth if there is one."""

    key: str
    before: MapLocation
    after: MapLocation
    truth: MapLocation | None = None


@dataclass(frozen=True)
class Change:
    """The pixels of one image: `counts` of them have the codes `before`, `after` and `truth` (VOID without ground
    truth); four arrays of one length."""

    key: str
    before: Counts
    after: Counts
    truth: Counts
    counts: Counts


def count_changes(image: Versions, how: Comparison) -> Change | Fault:
    """Read and count one image. Returns a Fault for an image that cannot be compared."""
    try:
        before, after = read_classes(image.before, how.prediction), read_classes(image.after, how.prediction)
        check_sizes(image.before, before, image.after, after)
        truth = np.full_like(after, VOID)
        if image.truth is not None:
            truth = read_classes(image.truth, how.truth)
            check_sizes(image.truth, truth, image.after, after)
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
        self.with_truth = np.zeros((2, classes, classes), np.int64)
        self.images = list[ImageDiff]()
        self.neither = 0

    def add(self, image: Change) -> None:
        """Add one image. Pixels that are void in either run do not count."""
        counted = (image.before >= 0) & (image.after >= 0)
        before, after, truth, counts = (
            array[counted] for array in (image.before, image.after, image.truth, image.counts)
        )
        np.add.at(self.transitions, (before, after), counts)
        changed = before != after
        helped = hurt = None
        if self.judged:
            known = truth >= 0
            for matrix, labels in zip(self.with_truth, (before, after), strict=True):
                np.add.at(matrix, (truth[known], labels[known]), counts[known])
            helped, hurt, judged = (
                int(counts[changed & pixels].sum()) for pixels in (after == truth, before == truth, known)
            )
            self.neither += judged - helped - hurt
        self.images.append(ImageDiff(image.key, int(counts.sum()), int(counts[changed].sum()), helped, hurt))

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
        )

    def _truth(self, before: Tally, after: Tally) -> TruthDiff:
        return TruthDiff(
            helped=sum(image.helped or 0 for image in self.images),
            hurt=sum(image.hurt or 0 for image in self.images),
            neither=self.neither,
            mean_iu=(float(measures.mean_iu(before)), float(measures.mean_iu(after))),
            pixel_accuracy=(float(measures.pixel_accuracy(before)), float(measures.pixel_accuracy(after))),
        )
