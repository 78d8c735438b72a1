"""`fcnseg.train`: train a network on labelled images, or resume the training in a folder."""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from fcnseg.engine.runtimes.pytorch import limit_threads
from fcnseg.errors import SettingsError
from fcnseg.recipes import DEFAULT_MODEL
from fcnseg.training.distributed import SINGLE, Ranks, device_of_rank, joined_ranks
from fcnseg.training.estimate import Needs
from fcnseg.training.folds import check_folds, write_folds
from fcnseg.training.plan import TrainHooks, TrainResult
from fcnseg.training.preparation import TrainOptions, make_plan
from fcnseg.training.stages import run_plan, try_plan
from fcnseg.training.trainer import Execution
from fcnseg.workers.limits import usable_cores

StrPath = str | Path

MAX_WORKERS = 8
"""Processes that read images for a GPU, unless another number is given."""


def train(
    data: StrPath,
    out: StrPath,
    *,
    model: StrPath = DEFAULT_MODEL,
    preset: StrPath = "modern",
    weights: Iterable[StrPath] = (),
    scratch: bool = False,
    expand_classes: bool = False,
    also: Iterable[StrPath] = (),
    validation: StrPath | None = None,
    kind: str | None = None,
    split: str = "train",
    validation_split: str = "val",
    seed: int = 0,
    validate_every: float = 0.0,
    save_every: float = 600.0,
    log_every: int = 20,
    device: str = "auto",
    workers: int | None = None,
    micro_batch: int = 8,
    overwrite: bool = False,
    extend: bool = False,
    best_by: str = "mean_iu",
    patience: int = 0,
    folds: int = 0,
    fold: int = 0,
    labels: str | None = None,
    ignore: Iterable[int] = (),
    reduce_labels: bool = False,
    label_map: StrPath | None = None,
    palette: StrPath | None = None,
    binary: bool = False,
    hooks: TrainHooks | None = None,
    **overrides: Any,
) -> TrainResult:
    """Train the network of a recipe on labelled images, or resume the training in the folder `out`.

    `data` is a folder or file of labelled images (see docs/training.md). The keywords are the options of
    `fcnseg train` and the fields of `fcnseg.training.preparation.TrainOptions`; `overrides` are fields of
    `fcnseg.training.presets.Preset` with other values: `epochs`, `lr`, `crop` (height, width) and so on.
    `out/model.toml` becomes a recipe that `fcnseg.run` and `fcnseg.score` take. Processes that `torchrun` started share
    the work.

    Raises FcnsegError: for faulty options, data or weights before the first step, or (TrainingError) where the loss is
    not finite or memory runs out.

    >>> import fcnseg
    >>> result = fcnseg.train("examples/street", "runs/mine", steps=2, crop=(64, 64), seed=1)
    >>> 0 <= result.figures["labels"]["mean_iu"] <= 1
    True
    """
    given = locals()
    options = {field.name: given[field.name] for field in fields(TrainOptions)}
    options |= {"data": Path(data), "out": Path(out), "model": str(model), "preset": str(preset)}
    options |= {"weights": tuple(map(Path, weights)), "also": tuple(map(Path, also))}
    files = {"validation": validation, "label_map": label_map, "palette": palette}
    options |= {name: None if file is None else Path(file) for name, file in files.items()}
    options["ignore"] = tuple(ignore)
    return train_with(TrainOptions(**options), hooks)


def train_with(options: TrainOptions, hooks: TrainHooks | None = None) -> TrainResult:
    """Train as `train` does, with its options as one value."""
    device = device_of_rank(options.device)
    limit_threads()
    with joined_ranks(device) as ranks:
        return run_plan(make_plan(options, device), _execution(options, device, ranks), hooks, options.overwrite)


def train_folds(options: TrainOptions, hooks: TrainHooks) -> list[TrainResult]:
    """Train each of `options.folds` in `out/fold-1` and so on, and write `out/folds.json`; those that ended are kept.

    Ends with the fold that is stopped. Raises LabelsError before the first training if a fold has no labels.
    """
    numbered = [replace(options, fold=n, out=options.out / f"fold-{n}") for n in range(1, options.folds + 1)]
    if not numbered:
        raise SettingsError("there are no folds; use 2 or more")
    if not (numbered[0].out / "train.json").exists():
        device = device_of_rank(options.device)
        check_folds([make_plan(of_fold, device) for of_fold in numbered], hooks.on_pass)
    results = list[TrainResult]()
    for of_fold in numbered:
        hooks.on_note(f"fold {of_fold.fold} of {options.folds}")
        results.append(train_with(of_fold, hooks))
        if results[-1].stopped_at:
            return results
    if results[0].is_first:
        write_folds(options.out, results)
    return results


def try_out(options: TrainOptions, hooks: TrainHooks) -> Needs:
    """Do what `train_with` does before its first step, and return what the training needs; write nothing."""
    device = device_of_rank(options.device)
    limit_threads()
    return try_plan(make_plan(options, device), _execution(options, device, SINGLE), hooks, options.overwrite)


def _execution(options: TrainOptions, device: torch.device, ranks: Ranks) -> Execution:
    workers = options.workers
    if workers is None:
        workers = min(MAX_WORKERS, usable_cores()) if device.type == "cuda" else 0
    return Execution(device, ranks, workers, options.micro_batch)
