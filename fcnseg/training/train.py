"""From what a user says to what is trained: recipe, classes, data, regime and start, checked before the first step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fcnseg.errors import SettingsError
from fcnseg.io.atomic import new_digest
from fcnseg.labels import LabelSpace
from fcnseg.recipes import HeadRecipe, Recipe, find_recipe
from fcnseg.training.datasets import check_apart, open_samples, own_labels
from fcnseg.training.datasets.color_coded import drawn_labels
from fcnseg.training.distributed import joined, own_device
from fcnseg.training.initial_weights import find_start
from fcnseg.training.joint import Joint
from fcnseg.training.loop import Machine
from fcnseg.training.presets import Regime, changed, find_regime
from fcnseg.training.samples import Samples
from fcnseg.training.stages import Plan, Trained, TrainHooks, carry_out
from fcnseg.weights.store import own_weights


@dataclass(frozen=True)
class TrainOptions:
    """What to train on what, and how; `fcnseg train --help` explains each."""

    recipe: str
    data: Path
    out: Path
    regime: str = "modern"
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Values of the regime that differ, by the names of its fields."""
    weights: tuple[Path, ...] = ()
    scratch: bool = False
    expand_classes: bool = False
    also: tuple[Path, ...] = ()
    validation: Path | None = None
    kind: str | None = None
    split: str = "train"
    validation_split: str = "val"
    seed: int = 0
    validate_every: float = 0.0
    save_every: float = 600.0
    log_every: int = 20
    device: str = "auto"
    workers: int | None = None
    micro_batch: int = 8
    overwrite: bool = False


def train(options: TrainOptions, hooks: TrainHooks | None = None) -> Trained:
    """Train, or go on with the training in the folder; by several processes where `torchrun` started this one.

    Raises FcnsegError: settings, data or weights at fault, or (TrainingError) a training that cannot go on.
    """
    device = own_device(options.device)
    with joined(device) as mine:
        workers = options.workers
        if workers is None:
            workers = min(8, os.cpu_count() or 1) if device.type == "cuda" else 0
        machine = Machine(device, mine, workers, options.micro_batch)
        return carry_out(plan_training(options, device), machine, hooks, options.overwrite)


def plan_training(options: TrainOptions, device: torch.device) -> Plan:
    """The plan, for a device. Raises SettingsError, SourceError, LabelsError, WeightsError or WeightsMismatchError."""
    base = find_recipe(options.recipe)
    labels = own_labels(options.data)
    recipe = with_labels(base, labels, options.data)
    regime = changed(find_regime(options.regime, base), dict(options.changes), "the options")
    start = find_start(recipe, _start_files(base, regime, options), expand=options.expand_classes)
    if options.changes.get("staged") and start.stride == recipe.architecture.stride:
        begun = f"the weights to begin with are of a {start.stride}s net already, so that there are no stages left"
        raise SettingsError(f"{begun}; leave out --staged, or give --scratch or coarser --weights")
    parts = [open_samples(options.data, recipe, options.split, options.kind)]
    parts += [open_samples(more, recipe, "train") for more in options.also]
    train = parts[0] if len(parts) == 1 else Joint(parts)
    if labels is not None:
        recipe = with_labels(base, drawn_labels(labels, parts[0]), options.data)
    elsewhere = options.validation is not None
    validation = open_samples(
        options.validation or options.data, recipe, options.validation_split, None if elsewhere else options.kind
    )
    for part in parts:
        check_apart(part, validation)
    if start.state is not None and regime.tuning_rate:
        regime = replace(regime, rate=regime.tuning_rate)
    if not regime.crop:
        regime = replace(regime, crop=crop_for(train))
    regime = regime.in_precision(device)
    settings = {
        "recipe": base.name,
        "classes": list(recipe.heads[0].labels.names),
        "data": [str(path.resolve()) for path in (options.data, *options.also)],
        "validation": str((options.validation or options.data).resolve()),
        "splits": [options.split, options.validation_split],
        "images": len(train),
        "validation_images": len(validation),
        "names": _digest([*train.names, *validation.names]),
        "start": start.source,
        "expand_classes": options.expand_classes,
        "regime": asdict(regime),
        "seed": options.seed,
        "validate_every": options.validate_every,
    }
    finished = replace(
        recipe, name=options.out.resolve().name, title=f"{base.title or base.name}, trained", weights=(), bundled=None
    )
    return Plan(
        finished,
        regime,
        start,
        train,
        validation,
        options.out,
        options.seed,
        settings,
        options.validate_every,
        options.save_every,
        options.log_every,
    )


def with_labels(recipe: Recipe, labels: LabelSpace | None, where: Path) -> Recipe:
    """The recipe for the classes that a data set brings (None: as it is). Raises SettingsError for several heads.

    With other classes the recipe no longer follows the conventions of its `dataset`.
    """
    if labels is None:
        return recipe
    if len(recipe.heads) > 1:
        raise SettingsError(f"{recipe.name} gives {len(recipe.heads)} label maps, and {where} names the classes of one")
    head = recipe.heads[0]
    dataset = recipe.dataset if labels.names == head.labels.names else ""
    return replace(recipe, heads=(HeadRecipe(head.name, labels, head.suffix),), dataset=dataset)


def crop_for(samples: Samples) -> tuple[int, int]:
    """Height and width, px, of views of images like the first one: about four fifths of it, multiples of 32, at most
    512."""
    height, width = next(iter(samples[0].labels.values())).shape
    taken = [max(32, min(512, size * 4 // 5 // 32 * 32)) for size in (height, width)]
    return taken[0], taken[1]


def _digest(names: Sequence[str]) -> str:
    digest = new_digest()
    digest.update("\0".join(names).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _start_files(recipe: Recipe, regime: Regime, options: TrainOptions) -> tuple[Path, ...]:
    """The files to begin with. Raises SettingsError where a published regime has nothing to begin with."""
    if options.scratch and options.weights:
        raise SettingsError("--scratch and --weights contradict each other; give one")
    if options.scratch or options.weights:
        return options.weights
    if regime.name in ("paper", "heavy"):
        begins = f"the regime {regime.name} begins with an ImageNet classifier"
        raise SettingsError(f"{begins}; name its file with --weights, or say --scratch")
    own = own_weights(recipe)
    return (own,) if own else ()
