"""The difference of two sets of predictions of the same images."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.pairing import pair_sources
from fcnseg.io.urls import local_path
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.counting import Comparison, Fault
from fcnseg.scoring.diff_result import ChangeTotals, Diff, Versions, count_changes
from fcnseg.scoring.labelling import check_classes, locate_heads, recorded_classes
from fcnseg.scoring.options import DiffOptions, Progress, StrPath
from fcnseg.workers.pool import map_in_processes

SIDES = ("map of the first run", "map of the second run")


@dataclass(frozen=True)
class DiffTask:
    """The images of one head to compare, and how; `only_before` and `only_after` are keys that one run alone has."""

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
    labels: str | None = None,
    pred_labels: str | None = None,
    reduce_labels: bool = False,
    reduce_pred_labels: bool = False,
    label_map: StrPath | None = None,
    pred_label_map: StrPath | None = None,
    logits: bool = False,
    palette: StrPath | None = None,
    any_palette: bool = False,
    workers: int | None = None,
    storage_options: Mapping[str, str] | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Diff:
    """Compare the label maps of two runs, pixel by pixel; ground truth (`truth`) tells which changes helped.

    `before` and `after` are a folder, one file, an HDF5 file, `FILE.h5::/name` or a URL. The other arguments are the
    options of `fcnseg diff` and the fields of `fcnseg.scoring.options.DiffOptions`, which explain them.

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
    before, after = local_path(before), local_path(after)
    task = plan_diff(before, after, options)
    space = task.head.labels
    totals = ChangeTotals(space.classes, options.truth is not None)
    for image in map_in_processes(partial(count_changes, how=task.comparison), task.images, options.workers):
        if isinstance(image, Fault):
            raise LabelsError(image.reason)
        totals.add(image)
        on_progress(len(totals.images), len(task.images))
    chosen = {name: value for name, value in asdict(options).items() if name not in ("workers", "storage_options")}
    named = {"classes": list(space.names), "head": task.head.name}
    settings = {"before": before, "after": after, **chosen, **named}
    return totals.result(space, task.only_before, task.only_after, settings)


def plan_diff(before: str, after: str, options: DiffOptions) -> DiffTask:
    """Return what is to be compared, before any map is read. Raises as `diff`."""
    recorded_before, recorded_after = (recorded_classes(run, options.storage_options) for run in (before, after))
    if recorded_before and recorded_after and recorded_before != recorded_after:
        raise SettingsError(
            f"{before} and {after} were predicted with different classes; compare runs of the same ones"
        )
    labelling = options.labelling(after)
    located = locate_heads(labelling, before, after, options.head, options.storage_options)
    if len(located) > 1:
        names = ", ".join(head.name for head, _, _ in located)
        raise SettingsError(f"{labelling.model} has the heads {names}; --head says which one to compare")
    head, first, second = located[0]
    if not options.predictions_renumbered:
        for run, recorded in ((before, recorded_before), (after, recorded_after)):
            check_classes(run, recorded.get(head.name, []), head.labels, labelling.colored)
    how = options.pairing(sides=SIDES, allow_extra=options.allow_missing, truth_names={})
    pairing = pair_sources(first, second, replace(how, truth_pattern=options.pred_pattern))
    images = [Versions(pair.key, pair.prediction, pair.truth) for pair in pairing.pairs]
    if options.truth is not None:
        truth = local_path(options.truth)
        truth = locate_heads(labelling, second, truth, head.name, options.storage_options)[0][2]
        images = _with_truth(images, second, truth, options)
    comparison = Comparison(*options.encodings(head.labels, labelling, bool(recorded_before or recorded_after)))
    return DiffTask(head, tuple(images), comparison, pairing.extra, pairing.missing)


def _with_truth(images: list[Versions], after: str, truth: str, options: DiffOptions) -> list[Versions]:
    """Add the ground truth of every image. Raises LabelsError if one has none."""
    pairing = pair_sources(after, truth, options.pairing(allow_missing=True, allow_extra=True))
    truths = {pair.prediction: pair.truth for pair in pairing.pairs}
    missing = [image.key for image in images if image.after not in truths]
    if missing:
        keys = ", ".join(missing[:3])
        raise LabelsError(f"{len(missing)} without a ground truth: {keys}; add them, or leave --gt away")
    return [replace(image, truth=truths[image.after]) for image in images]
