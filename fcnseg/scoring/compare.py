"""Several runs scored against the same ground truth, side by side."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.names import first_few
from fcnseg.scoring.figures import margins_of
from fcnseg.scoring.intervals import RESAMPLINGS, paired_intervals
from fcnseg.scoring.options import Progress, ScoreOptions, StrPath
from fcnseg.scoring.result import Score, json_value
from fcnseg.scoring.score import score_with


@dataclass(frozen=True)
class ScoredRun:
    """One of the runs: its name in tables, its score, and the 95 % confidence interval of each figure's difference from
    the first run, over the same resampled images; the first run has none."""

    name: str
    score: Score
    differences: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Compared:
    """The scores of several runs of the same images, in the order in which they were given."""

    runs: tuple[ScoredRun, ...]

    @property
    def exit_code(self) -> int:
        """0 everything was compared, 3 some images were left out, as allowed."""
        return max(run.score.exit_code for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of `--json`: of each run its name, differences, and what `Score.as_dict` gives."""
        return {
            "runs": [
                {"name": run.name, "differences": json_value(run.differences), **run.score.as_dict()}
                for run in self.runs
            ]
        }


def compare(
    runs: Iterable[StrPath],
    truth: StrPath,
    *,
    names: Iterable[str] = (),
    on_progress: Progress = lambda done, total: None,
    **options: Any,
) -> Compared:
    """Score several runs of the same images against one ground truth.

    Each of `runs`, and `truth`, is a folder, one file, an HDF5 file or `FILE.h5::/name`. `names` are those of the runs
    in tables, by default their paths' ends. The other keywords are those of `fcnseg.score`, without parts.

    Raises SettingsError for options, LabelsError as `score`, and for runs that are not of the same images.

    >>> import fcnseg
    >>> compared = fcnseg.compare(["masks", "masks-int8"], "gt", model="street-fcn8s")
    >>> [f"{run.name}: {run.score.mean_iu:.2f}" for run in compared.runs]
    ['masks: 1.00', 'masks-int8: 1.00']
    """
    known = {field.name for field in fields(ScoreOptions)}
    if unknown := sorted(options.keys() - known):
        raise SettingsError(f"{', '.join(unknown)} is no option of a comparison; see the keywords of fcnseg.score")
    paths = [os.fspath(run) for run in runs]
    return compare_with(paths, os.fspath(truth), ScoreOptions.of(options), tuple(names), on_progress)


def compare_with(
    runs: Sequence[str],
    truth: str,
    options: ScoreOptions,
    names: Sequence[str] = (),
    on_progress: Progress = lambda done, total: None,
) -> Compared:
    """Do what `compare` does, with the options as one value."""
    if len(runs) < 2:
        raise SettingsError("one run is no comparison; give two or more, or use `fcnseg score`")
    if options.counted or options.num_parts > 1:
        raise SettingsError("runs are compared as a whole; leave num-parts and counted away")
    if names and (len(names) != len(runs) or len(set(names)) < len(names)):
        raise SettingsError(f"{len(runs)} runs need as many different names; there are {len(set(names))}")
    scores = []
    for number, run in enumerate(runs):
        scores.append(score_with(run, truth, options, _within(on_progress, number, len(runs))))
        if scores[-1].heads:
            raise SettingsError(f"{run} has the heads {', '.join(scores[-1].heads)}; --head says which one to compare")
        _check_same(runs[0], scores[0], run, scores[-1])
    titles = tuple(names) or short_names(runs)
    return Compared(
        tuple(
            ScoredRun(title, score, _differences(scores[0], score, options.resamplings) if number else {})
            for number, (title, score) in enumerate(zip(titles, scores, strict=True))
        )
    )


def short_names(runs: Sequence[str]) -> tuple[str, ...]:
    """Return the ends of paths that tell them apart, numbered where one path is given twice."""
    parts = [Path(run.replace("::", "/")).absolute().parts for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len(set(names)) == len(set(parts)):
            break
    times = Counter(names)
    return tuple(f"{name} ({i + 1})" if times[name] > 1 else name for i, name in enumerate(names))


def _within(on_progress: Progress, number: int, runs: int) -> Progress:
    return lambda done, total: on_progress(number * total + done, runs * total)


def _check_same(first: str, expected: Score, run: str, score: Score) -> None:
    if expected.settings["classes"] != score.settings["classes"]:
        raise SettingsError(f"{first} and {run} have different classes; --model or --classes says whose are compared")
    keys, others = ({image.key for image in side.image_scores} for side in (expected, score))
    if differing := sorted(keys ^ others):
        raise LabelsError(
            f"{first} and {run} were not scored on the same images: {first_few(differing)} only in one of them; --list "
            "FILE names those to compare"
        )


def _differences(first: Score, other: Score, resamplings: int = RESAMPLINGS) -> dict[str, tuple[float, float]]:
    classes = len(first.per_class)
    before, after = (
        np.stack([margins_of(image.class_counts, classes) for image in score.image_scores]) for score in (first, other)
    )
    included = np.array([row.included for row in first.per_class])
    return paired_intervals(before, after, included, resamplings)
