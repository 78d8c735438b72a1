"""What changed between two sets of predictions of the same images: what `fcnseg diff` calls."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.pairing import pair_sources
from fcnseg.io.raw_map import MapLocation
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring import measures
from fcnseg.scoring.confusion import Counts, joint_counts
from fcnseg.scoring.counting import Comparison, Fault, check_sizes, read_classes
from fcnseg.scoring.diff_result import ClassDiff, Diff, ImageDiff, TruthDiff
from fcnseg.scoring.heads import check_classes, heads_of
from fcnseg.scoring.labelling import recorded_classes
from fcnseg.scoring.meaning import VOID
from fcnseg.scoring.measures import Tally
from fcnseg.scoring.options import ComparisonOptions, Progress, StrPath
from fcnseg.workers.pool import map_in_processes

SIDES = ("map of the first run", "map of the second run")


@dataclass(frozen=True, kw_only=True)
class DiffOptions(ComparisonOptions):
    """How two runs are compared; see `ComparisonOptions` for what is not said here.

    `truth` is ground truth, which says of changes whether they helped.
    """

    truth: str | None = None


@dataclass(frozen=True)
class Versions:
    """The label maps of one image: of both runs, and the ground truth if there is one."""

    key: str
    before: MapLocation
    after: MapLocation
    truth: MapLocation | None = None


@dataclass(frozen=True)
class Change:
    """What became of the pixels of one image: `counts` of them had the codes `before`, `after` and `truth` (all void
    without ground truth); four arrays of one length."""

    key: str
    before: Counts
    after: Counts
    truth: Counts
    counts: Counts


@dataclass(frozen=True)
class DiffTask:
    """What is compared, and what values mean in ground truth and in predictions."""

    head: HeadRecipe
    images: tuple[Versions, ...]
    comparison: Comparison
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def diff(
    before: StrPath,
    after: StrPath,
    *,
    truth: StrPath | None = None,
    model: StrPath | None = None,
    head: str | None = None,
    classes: int | StrPath | None = None,
    binary: bool = False,
    pair: str = "auto",
    list: StrPath | None = None,  # noqa: A002 - the option is called --list
    gt_pattern: str | None = None,
    pred_pattern: str | None = None,
    allow_missing: bool = False,
    ignore: Iterable[int] = (),
    reduce_labels: bool = False,
    label_map: StrPath | None = None,
    pred_label_map: StrPath | None = None,
    palette: StrPath | None = None,
    any_palette: bool = False,
    workers: int | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Diff:
    """Compare the label maps of two runs, pixel by pixel; ground truth (`truth`) tells which changes helped.

    `before` and `after` are a folder, one file, an HDF5 file or `FILE.h5::/name`. The other arguments are the options
    of `fcnseg diff` and the fields of `fcnseg.scoring.diff.DiffOptions`, which explain them.

    Raises SettingsError for options and for runs of other classes, LabelsError that names files without a partner or
    that cannot be compared.

    >>> import fcnseg
    >>> diff = fcnseg.diff("masks", "masks-int8", truth="gt", model="street-fcn8s")
    >>> f"{diff.changed} pixels changed in {len(diff.images)} images"
    '0 pixels changed in 3 images'
    """
    return diff_with(os.fspath(before), os.fspath(after), DiffOptions.of(locals()), on_progress)


def diff_with(before: str, after: str, options: DiffOptions, on_progress: Progress = lambda done, total: None) -> Diff:
    """Do what `diff` does, with the options as one value."""
    task = plan_diff(before, after, options)
    sums = _Sums(task, options.truth is not None)
    for found in map_in_processes(partial(change, how=task.comparison), task.images, options.workers):
        if isinstance(found, Fault):
            raise LabelsError(found.reason)
        sums.add(found)
        on_progress(len(sums.images), len(task.images))
    chosen = {name: value for name, value in asdict(options).items() if name != "workers"}
    return sums.result({"before": before, "after": after, **chosen})


def plan_diff(before: str, after: str, options: DiffOptions) -> DiffTask:
    """What is to be compared, before any map is read. Raises as `diff`."""
    ours, theirs = recorded_classes(before), recorded_classes(after)
    if ours and theirs and ours != theirs:
        raise SettingsError(
            f"{before} and {after} were predicted with different classes; compare runs of the same ones"
        )
    labelling = options.labelling(after)
    found = heads_of(labelling, before, after, options.head)
    if len(found) > 1:
        names = ", ".join(head.name for head, _, _ in found)
        raise SettingsError(f"{labelling.model} has the heads {names}; --head says which one to compare")
    head, first, second = found[0]
    if not options.pred_label_map:
        for run, recorded in ((before, ours), (after, theirs)):
            check_classes(run, recorded.get(head.name, []), head.labels, labelling.colored)
    sides = options.pairing(sides=SIDES, allow_extra=options.allow_missing)
    pairing = pair_sources(first, second, replace(sides, truth_pattern=options.pred_pattern))
    images = [Versions(pair.key, pair.prediction, pair.truth) for pair in pairing.pairs]
    if options.truth is not None:
        truth = heads_of(labelling, second, options.truth, head.name)[0][2]
        judged = options.pairing(allow_missing=True, allow_extra=True)
        truths = {pair.prediction: pair.truth for pair in pair_sources(second, truth, judged).pairs}
        missing = [image.key for image in images if image.after not in truths]
        if missing:
            named = ", ".join(missing[:3])
            raise LabelsError(f"{len(missing)} without a ground truth: {named}; add them, or leave --gt away")
        images = [replace(image, truth=truths[image.after]) for image in images]
    comparison = Comparison(*options.meanings(head.labels, labelling.colored))
    return DiffTask(head, tuple(images), comparison, pairing.extra, pairing.missing)


def change(image: Versions, how: Comparison) -> Change | Fault:
    """Read and count one image; what is wrong with it is its result."""
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


class _Sums:
    """The sums over images."""

    def __init__(self, task: DiffTask, judged: bool) -> None:
        classes = task.head.labels.classes
        self.task, self.judged = task, judged
        self.transitions = np.zeros((classes, classes), np.int64)
        self.with_truth = np.zeros((2, classes, classes), np.int64)
        self.images = list[ImageDiff]()
        self.neither = 0

    def add(self, found: Change) -> None:
        """Count one image in."""
        counted = (found.before >= 0) & (found.after >= 0)
        before, after, truth, counts = (
            array[counted] for array in (found.before, found.after, found.truth, found.counts)
        )
        np.add.at(self.transitions, (before, after), counts)
        changed = before != after
        helped = hurt = None
        if self.judged:
            known = truth >= 0
            for matrix, labels in zip(self.with_truth, (before, after), strict=True):
                np.add.at(matrix, (truth[known], labels[known]), counts[known])
            helped, hurt, judged = (
                int(counts[changed & which].sum()) for which in (after == truth, before == truth, known)
            )
            self.neither += judged - helped - hurt
        self.images.append(ImageDiff(found.key, int(counts.sum()), int(counts[changed].sum()), helped, hurt))

    def result(self, settings: Mapping[str, Any]) -> Diff:
        """The difference of all images."""
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
