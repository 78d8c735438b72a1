"""The score of predictions: label maps, or probabilities, compared with ground truth."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.conventions import convention_of
from fcnseg.io.pairing import Pairing, pair_sources
from fcnseg.io.parts import Part
from fcnseg.io.run_records import key_lookup
from fcnseg.io.urls import local_path
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.bands import BOUNDARY_RATIO
from fcnseg.scoring.counting import Comparison, Fault, Totals, compare
from fcnseg.scoring.figures import score_from_totals
from fcnseg.scoring.intervals import LEVEL, RESAMPLINGS, SEED
from fcnseg.scoring.labelling import MAX_CLASSES, check_classes, locate_heads, recorded_classes
from fcnseg.scoring.options import Progress, ScoreOptions, StrPath
from fcnseg.scoring.partial_scores import merge_partial_scores
from fcnseg.scoring.result import Score, json_value
from fcnseg.workers.pool import map_in_processes

BANDS = (1, 2, 3, 5, 10, 20, 40)
"""Widths, px, of the bands around boundaries that are measured."""

FAULTS_SHOWN = 3

NOT_RECORDED = {"workers", "counted", "storage_options"}
"""Options that say nothing about how pairs are compared, or may be secret."""


@dataclass(frozen=True)
class Task:
    """One head to score: its pairs, and how they are compared. `model` is the recipe's name.

    Classes in `excluded_if_absent` are in no mean if the ground truth has none of them.
    """

    model: str
    head: HeadRecipe
    pairing: Pairing
    comparison: Comparison
    excluded_if_absent: frozenset[int]


def score(
    predictions: StrPath,
    truth: StrPath,
    *,
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
    num_parts: int = 1,
    part_id: int = 0,
    counted: StrPath | Iterable[StrPath] = (),
    boundary: bool = False,
    resamplings: int = RESAMPLINGS,
    allow_extra: bool = False,
    allow_invalid: bool = False,
    allow_void: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> Score:
    """Compare label maps, or probabilities, with ground truth: pixel accuracy, IoU, Dice, calibration and others.

    `predictions` and `truth` are a folder, one file, an HDF5 file, `FILE.h5::/name` or a URL. The other arguments are
    the options of `fcnseg score` and the fields of `fcnseg.scoring.options.ScoreOptions`, which explain them. Pixels
    are counted exactly, summed over all images, and divided once.

    Raises SettingsError for options, and LabelsError that names every file that cannot be paired or compared, unless an
    `allow_` option leaves it out.

    >>> import fcnseg
    >>> score = fcnseg.score("masks", "gt", model="street-fcn8s")
    >>> f"{score.images} images, mean IoU {score.mean_iu:.3f}"
    '3 images, mean IoU 1.000'
    """
    return score_with(os.fspath(predictions), os.fspath(truth), ScoreOptions.of(locals()), on_progress)


def score_with(
    predictions: str, truth: str, options: ScoreOptions, on_progress: Progress = lambda done, total: None
) -> Score:
    """Do what `score` does, with the options as one value."""
    predictions, truth = local_path(predictions), local_path(truth)
    tasks = plan(predictions, truth, options)
    merged = [
        merge_partial_scores(
            options.counted, {pair.key for pair in task.pairing.pairs}, task.comparison, _settings(task, options)
        )
        for task in tasks
    ]
    total = sum(len(task.pairing.pairs) for task in tasks)
    done = sum(len(totals.keys) for totals in merged)
    scores = {}
    for task, totals in zip(tasks, merged, strict=True):
        known = totals.keys
        pairs = [pair for pair in task.pairing.pairs if pair.key not in known]
        for counts in map_in_processes(partial(compare, how=task.comparison), pairs, options.workers):
            totals.add(counts)
            done += 1
            on_progress(done, total)
        totals.sort()
        _check(totals, task, options)
        scores[task.head.name] = _score(totals, task, options, predictions, truth)
    first = next(iter(scores.values()))
    return replace(first, heads=scores) if len(scores) > 1 else first


def plan(predictions: str, truth: str, options: ScoreOptions) -> tuple[Task, ...]:
    """Return the task of each head, before any map is read. Raises as `score`."""
    labelling = options.labelling(predictions)
    convention = convention_of(labelling.dataset)
    recorded = recorded_classes(predictions, options.storage_options)
    tasks = []
    for head, predicted_in, truth_in in locate_heads(
        labelling, predictions, truth, options.head, options.storage_options
    ):
        space = head.labels
        if space.classes > MAX_CLASSES:
            raise SettingsError(f"{head.name} has {space.classes} classes; at most {MAX_CLASSES} can be scored")
        if not options.predictions_renumbered:
            check_classes(predictions, recorded.get(head.name, []), space, labelling.colored)
        how = options.pairing(
            excluded=convention.excluded_images,
            allow_extra=options.allow_extra,
            in_part=_part_filter(predicted_in, options),
        )
        pairing = pair_sources(predicted_in, truth_in, how)
        if not pairing.pairs and options.num_parts > 1:
            raise SettingsError(f"part {options.part_id} of {options.num_parts} has no pair; take fewer parts")
        excluded = frozenset(i for i, name in enumerate(space.names) if name in convention.excluded_classes)
        encodings = options.encodings(space, labelling, bool(recorded.get(head.name)))
        comparison = Comparison(*encodings, BANDS if options.boundary else ())
        tasks.append(Task(labelling.model, head, pairing, comparison, excluded))
    return tuple(tasks)


def _part_filter(predictions: str, options: ScoreOptions) -> Callable[[str], bool]:
    """Return a function that tells, by the name of a label map, if its image is in the part to be scored."""
    if options.num_parts == 1:
        return lambda name: True
    part, key_of = Part(options.part_id, options.num_parts), key_lookup(predictions, options.pred_pattern)
    return lambda name: part.has(key_of(name))


def _check(totals: Totals, task: Task, options: ScoreOptions) -> None:
    """Raise LabelsError for pairs that may not be left out, or if nothing is left."""
    refused = [
        (fault, "--allow-void" if fault.all_void else "--allow-invalid")
        for fault in totals.faults
        if not (options.allow_void if fault.all_void else options.allow_invalid)
    ]
    if refused:
        message = _faults([fault for fault, _ in refused], len(task.pairing.pairs), {option for _, option in refused})
        guessed = not (options.model or options.classes or options.binary or options.labels)
        if options.labels and not options.predictions_renumbered:
            message += "; predictions are read as classes from 0, --pred-labels NAME gives them a data set's values"
        raise LabelsError(message + (f"; classes are those of {task.model}, --model names others" if guessed else ""))
    if not totals.images:
        raise LabelsError("nothing is left to score: every pair was left out; see what --allow options let pass")
    binary_like = task.comparison.classes == 2 and not totals.counts[1].any() and totals.void_255
    if binary_like and not options.binary and 255 not in options.ignore:
        raise LabelsError("the ground truth holds only 0 and 255; --binary takes 255 as class 1, --ignore 255 as void")


def _faults(faults: list[Fault], pairs: int, options: set[str]) -> str:
    reasons = "; ".join(fault.reason for fault in faults[:FAULTS_SHOWN])
    more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    counted = f"{len(faults)} of {pairs} pairs cannot be compared: " if pairs > 1 else ""
    return f"{counted}{reasons}{more} ({' and '.join(sorted(options))} would leave such out)"


def _settings(task: Task, options: ScoreOptions) -> dict[str, Any]:
    """Return how pairs are compared: for the record, and to tell if earlier counts are of the same kind."""
    chosen = {name: json_value(value) for name, value in asdict(options).items() if name not in NOT_RECORDED}
    return {
        **chosen,
        "model": task.model,
        "head": task.head.name,
        "paired_by": task.pairing.mode,
        "classes": list(task.head.labels.names),
        "ignored_values": sorted(task.comparison.truth.void | {task.head.labels.ignore}),
        "interval_level": LEVEL,
        "interval_seed": SEED,
        "boundary_ratio": BOUNDARY_RATIO,
    }


def _score(totals: Totals, task: Task, options: ScoreOptions, predictions: str, truth: str) -> Score:
    absent = {i for i in task.excluded_if_absent if not totals.counts[i].any()}
    uncounted = [task.comparison.truth.uncounted(variable) for variable in sorted(totals.variables)]
    return score_from_totals(
        totals,
        task.head.labels,
        frozenset.intersection(*uncounted) | absent,
        task.pairing,
        options.resamplings,
        {
            "predictions": predictions,
            "truth": truth,
            **_settings(task, options),
            "counted": [str(file) for file in options.counted],
            "truth_variables": sorted(totals.variables),
        },
    )
