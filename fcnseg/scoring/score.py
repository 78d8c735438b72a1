"""Comparing a set of predictions with ground truth: what `fcnseg score` calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.bands import BOUNDARY_RATIO
from fcnseg.scoring.conventions import convention_of
from fcnseg.scoring.counting import Comparison, Fault, Totals
from fcnseg.scoring.intervals import LEVEL, RESAMPLINGS, SEED
from fcnseg.scoring.labelling import (
    MOST_CLASSES,
    Labelling,
    find_labelling,
    read_label_map,
    read_palette,
    recorded_classes,
)
from fcnseg.scoring.meaning import Meaning, color_codes
from fcnseg.scoring.pairing import Pairing, PairingOptions, pair_sources, read_list
from fcnseg.scoring.reading import VOLUMES, has_member
from fcnseg.scoring.result import LeftOut, Score, score_of
from fcnseg.scoring.workers import compare_all

BANDS = (1, 2, 3, 5, 10, 20, 40)
"""The widths, px, at which the bands around boundaries are measured."""

FAULTS_SHOWN = 3

FILES = frozenset({"list", "label_map", "palette"})
"""Options that name files."""


@dataclass(frozen=True)
class ScoreOptions:
    """How predictions are compared with ground truth.

    Classes: of `model` (a shipped recipe's name or a TOML file), of `classes` (how many, or a file of names), or
    background and foreground with `binary` (masks of 0 and 255); by default of the run that made the predictions.
    `head` chooses one of several heads.

    Pairs: `pair` is "path", "stem" or "auto"; `list` a file of the images to score; `gt_pattern` and `pred_pattern`
    tell how files are named, e.g. "{stem}_gtFine_labelIds.png". `num_parts` and `part_id`: only every so many-th pair.

    Values: `ignore` do not count in ground truth, besides the recipe's; `reduce_labels` takes 0 as void and counts
    classes from 1; `label_map` is a file that says what values mean in ground truth, `palette` one for colours.

    `boundary` also measures boundary IU and bands. `resamplings` are those of the intervals, 0 for none. `allow_*`
    leave out what would be an error otherwise; `any_palette` does not compare palettes with the classes' colours.
    """

    model: str | None = None
    head: str | None = None
    classes: str | None = None
    binary: bool = False
    pair: str = "auto"
    list: Path | None = None
    gt_pattern: str | None = None
    pred_pattern: str | None = None
    num_parts: int = 1
    part_id: int = 0
    ignore: tuple[int, ...] = ()
    reduce_labels: bool = False
    label_map: Path | None = None
    palette: Path | None = None
    any_palette: bool = False
    boundary: bool = False
    resamplings: int = RESAMPLINGS
    allow_missing: bool = False
    allow_extra: bool = False
    allow_invalid: bool = False
    allow_void: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        faults = [
            fault
            for wrong, fault in (
                (self.reduce_labels + self.binary + (self.label_map is not None) > 1,
                 "reduce-labels, binary and label-map each say how values are read; give one of them"),
                (not 0 <= self.part_id < self.num_parts, f"part-id is {self.part_id}; it is from 0 to num-parts - 1"),
                (self.resamplings < 0, f"resamplings is {self.resamplings}; it is 0 or more"),
                (self.workers is not None and self.workers < 1, f"workers is {self.workers}; it is 1 or more"),
            )
            if wrong
        ]  # fmt: skip
        if faults:
            raise SettingsError("; ".join(faults))


@dataclass(frozen=True)
class Task:
    """One head to score: where its maps are, which pairs, and how they are compared."""

    model: str
    head: HeadRecipe
    pairing: Pairing
    comparison: Comparison
    excluded_if_absent: frozenset[int]


Progress = Callable[[int, int], None]
"""Called with how many pairs are done, and of how many."""


def score(
    predictions: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    on_progress: Progress = lambda done, total: None,
    **options: Any,
) -> Score:
    """Compare label maps (or probabilities) with ground truth.

    Both are a folder, one file, an HDF5 file or `FILE.h5::/name`; the keywords are the fields of `ScoreOptions`.
    Counts are exact, summed over all images and divided once. Raises SettingsError for options, and LabelsError that
    names every file that cannot be paired or compared, unless it is allowed to leave such out.

        fcnseg.score("masks", "gt", model="voc-fcn8s").mean_iu
    """
    for name in FILES & options.keys():
        options[name] = None if options[name] is None else Path(options[name])
    if isinstance(options.get("classes"), int):
        options["classes"] = str(options["classes"])
    return score_with(os.fspath(predictions), os.fspath(truth), ScoreOptions(**options), on_progress)


def score_with(
    predictions: str, truth: str, options: ScoreOptions, on_progress: Progress = lambda done, total: None
) -> Score:
    """As `score`, with the options as one value."""
    tasks = plan(predictions, truth, options)
    total, done = sum(len(task.pairing.pairs) for task in tasks), 0
    scores = {}
    for task in tasks:
        totals = Totals(task.comparison.classes, task.comparison.bands)
        for found in compare_all(task.pairing.pairs, task.comparison, options.workers):
            totals.add(found)
            done += 1
            on_progress(done, total)
        _check(totals, task, options)
        scores[task.head.name] = _scored(totals, task, options, predictions, truth)
    first = next(iter(scores.values()))
    return replace(first, heads=scores) if len(scores) > 1 else first


def plan(predictions: str, truth: str, options: ScoreOptions) -> tuple[Task, ...]:
    """What is to be compared, head by head. Raises as `score`, before any map is read."""
    labelling = find_labelling(options.model, options.classes, options.binary, predictions)
    convention = convention_of(labelling.model)
    recorded = recorded_classes(predictions)
    tasks = []
    for head, ours, theirs in heads_of(labelling, predictions, truth, options.head):
        space = head.labels
        if space.classes > MOST_CLASSES:
            raise SettingsError(f"{head.name} has {space.classes} classes; at most {MOST_CLASSES} can be scored")
        predicted = recorded.get(head.name)
        if predicted and len(predicted) != space.classes:
            raise SettingsError(
                f"{predictions} was predicted with {len(predicted)} classes, but {space.classes} are to be scored; "
                "--model says whose"
            )
        pairing = pair_sources(
            ours,
            theirs,
            PairingOptions(
                options.pair,
                read_list(options.list) if options.list else None,
                options.gt_pattern,
                options.pred_pattern,
                convention.excluded_images,
                options.allow_missing,
                options.allow_extra,
            ),
        )
        part = slice(options.part_id, None, options.num_parts)
        pairing = replace(
            pairing,
            pairs=pairing.pairs[part],
            missing=pairing.missing[part],
            extra=pairing.extra[part],
            excluded=pairing.excluded[part],
        )
        excluded = frozenset(i for i, name in enumerate(space.names) if name in convention.excluded_classes)
        tasks.append(Task(labelling.model, head, pairing, _comparison(head, labelling, options), excluded))
    return tuple(tasks)


def heads_of(
    labelling: Labelling, predictions: str, truth: str, wanted: str | None
) -> list[tuple[HeadRecipe, str, str]]:
    """The heads to compare with the sources of their predictions and ground truth.

    Raises SettingsError if the wanted head does not exist, or folders of several heads lack one.
    """
    names = [head.name for head in labelling.heads]
    if wanted is not None and wanted not in names:
        raise SettingsError(f"{labelling.model or 'this'} has no head {wanted}; it has {', '.join(names)}")
    if len(names) == 1:
        return [(labelling.heads[0], predictions, truth)]
    folders = convention_of(labelling.model).folders
    found = []
    for head in labelling.heads:
        if wanted in (None, head.name):
            ours, theirs = _below(predictions, head.name), _below(truth, head.name, folders.get(head.name, head.name))
            if wanted is None and (ours is None or theirs is None):
                raise SettingsError(
                    f"{labelling.model} has the heads {', '.join(names)}, but {truth if ours else predictions} has no "
                    f"folder {head.name}; --head says which one to compare"
                )
            found.append((head, ours or predictions, theirs or truth))
    return found


def _below(source: str, *names: str) -> str | None:
    """The folder of one of these names in a folder, or the group in an HDF5 file."""
    if Path(source).suffix.lower() in VOLUMES:
        return next((f"{source}::/{name}" for name in names if has_member(source, name)), None)
    return next((f"{source}/{name}" for name in names if Path(source, name).is_dir()), None)


def _comparison(head: HeadRecipe, labelling: Labelling, options: ScoreOptions) -> Comparison:
    space = head.labels
    checked = labelling.colored and not options.any_palette
    own_void = frozenset() if options.binary else frozenset({space.ignore})
    colors = read_palette(options.palette, space) if options.palette else color_codes(space)
    truth = Meaning(
        space,
        void=own_void | frozenset(options.ignore),
        table=read_label_map(options.label_map, space) if options.label_map else None,
        reduced=options.reduce_labels,
        binary=options.binary,
        colors=colors,
        checked=checked,
        conventional=not (options.label_map or options.binary),
    )
    prediction = Meaning(space, own_void, binary=options.binary, colors=colors, checked=checked)
    return Comparison(truth, prediction, BANDS if options.boundary else ())


# ---------------------------------------------------------------------- after counting


def _check(totals: Totals, task: Task, options: ScoreOptions) -> None:
    """Refuse what was not allowed to be left out."""
    refused = [
        (fault, "--allow-void" if fault.all_void else "--allow-invalid")
        for fault in totals.faults
        if not (options.allow_void if fault.all_void else options.allow_invalid)
    ]
    if refused:
        message = _faults([fault for fault, _ in refused], len(task.pairing.pairs), {o for _, o in refused})
        guessed = not (options.model or options.classes or options.binary)
        raise LabelsError(message + (f"; classes are those of {task.model}, --model names others" if guessed else ""))
    if not totals.keys:
        raise LabelsError("nothing is left to score: every pair was left out; see what --allow options let pass")
    binary_like = task.comparison.classes == 2 and not totals.counts[1].any() and totals.void_255
    if binary_like and not options.binary and 255 not in options.ignore:
        raise LabelsError("the ground truth holds only 0 and 255; --binary takes 255 as class 1, --ignore 255 as void")


def _faults(faults: list[Fault], pairs: int, options: set[str]) -> str:
    shown = "; ".join(fault.reason for fault in faults[:FAULTS_SHOWN])
    more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    counted = f"{len(faults)} of {pairs} pairs cannot be compared: " if pairs > 1 else ""
    return f"{counted}{shown}{more} ({' and '.join(sorted(options))} would leave such out)"


def _scored(totals: Totals, task: Task, options: ScoreOptions, predictions: str, truth: str) -> Score:
    space = task.head.labels
    absent = {i for i in task.excluded_if_absent if not totals.counts[i].any()}
    chosen = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items() if k != "workers"}
    settings = {
        "predictions": predictions,
        "truth": truth,
        **chosen,
        "model": task.model,
        "head": task.head.name,
        "paired_by": task.pairing.mode,
        "classes": list(space.names),
        "ignored_values": sorted(task.comparison.truth.void),
        "interval_level": LEVEL,
        "interval_seed": SEED,
        "boundary_ratio": BOUNDARY_RATIO,
    }
    matlab = any(pair.truth.file.lower().endswith(".mat") for pair in task.pairing.pairs)
    uncounted = frozenset() if matlab else task.comparison.truth.uncounted  # `.mat` values are of the data set's own
    left_out = LeftOut(task.pairing.missing, task.pairing.extra, task.pairing.excluded)
    return score_of(
        totals,
        space,
        uncounted | absent,
        left_out,
        options.resamplings,
        settings,
    )
