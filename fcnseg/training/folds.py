"""Cross-validation: the images of a data set in K folds, each of which validates a training on the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcnseg.errors import LabelsError, SettingsError
from fcnseg.io.atomic import write_whole
from fcnseg.training.class_weights import count_class_pixels
from fcnseg.training.datasets.images import LabelledImages
from fcnseg.training.distributed import SINGLE
from fcnseg.training.plan import MEASURES, TrainPlan, TrainResult
from fcnseg.training.readers import Readers


def in_fold(
    train: LabelledImages, validation: LabelledImages, fold: int, folds: int
) -> tuple[LabelledImages, LabelledImages]:
    """Return all images but those of a fold, and those of the fold (1 to `folds`), of both data sets together.

    An image's place follows from a hash of its name. Raises SettingsError for more folds than images.
    """
    locations = [*train.locations, *validation.locations]
    sizes = [*train.sizes, *validation.sizes]
    if not 2 <= folds <= len(locations):
        raise SettingsError(f"--folds is {folds} for {len(locations)} images; use 2 to {len(locations)}")
    if not 1 <= fold <= folds:
        raise SettingsError(f"--fold is {fold}; use 1 to {folds}")
    order = sorted(range(len(locations)), key=lambda i: (_hash(locations[i].name), i))
    of_fold = set(order[fold - 1 :: folds])
    sides = []
    for inside in (False, True):
        indices = [i for i in range(len(locations)) if (i in of_fold) == inside]
        side = LabelledImages([locations[i] for i in indices], train.encodings)
        side.sizes = tuple(sizes[i] for i in indices)
        sides.append(side)
    return sides[0], sides[1]


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape")).digest()


def check_folds(plans: Sequence[TrainPlan], on_pass: Callable[[str, int, int], None]) -> None:
    """Raise LabelsError, before the first training, if no pixel of a fold is labelled: it could validate nothing."""
    for number, plan in enumerate(plans, 1):
        what = f"reading fold {number}"

        def on_progress(done: int, total: int, what: str = what) -> None:
            on_pass(what, done, total)

        pixels = count_class_pixels(plan.validation, plan.recipe, SINGLE, Readers(), on_progress)
        if empty := [head for head, counts in pixels.items() if not counts.any()]:
            raise LabelsError(
                f"no pixel ({empty[0]}) is labelled in the {len(plan.validation)} images of fold {number}, "
                f"{', '.join(plan.validation.names[:3])}, ...; use fewer --folds, or correct the label maps"
            )


def write_folds(out: Path, results: Sequence[TrainResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Write the figures of all folds as `folds.json`; return mean and standard deviation (of the folds) by head."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for head in results[0].figures:
        values = {name: [result.figures[head][name] for result in results] for name in MEASURES}
        summary[head] = {
            name: {"mean": float(np.mean(of)), "std": float(np.std(of, ddof=1))} for name, of in values.items()
        }
    folds: list[dict[str, Any]] = [
        {"fold": number, "figures": _without_nan(result.figures), "best": result.best, "best_at": result.best_at}
        for number, result in enumerate(results, 1)
    ]
    write_whole(out / "folds.json", [json.dumps({"folds": folds, "summary": summary}, indent=2).encode()])
    return summary


def _without_nan(figures: Any) -> dict[str, dict[str, float]]:
    return {head: {name: v for name, v in values.items() if v == v} for head, values in figures.items()}
