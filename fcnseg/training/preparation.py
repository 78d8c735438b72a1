"""From options to a plan: recipe, classes, data sets, preset and initial weights, checked before the first step."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcnseg.errors import SettingsError
from fcnseg.io.label_maps import read_map
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import DEFAULT_MODEL, HeadRecipe, Recipe, find_recipe, name_from
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.training.datasets import check_apart, open_samples, own_labels
from fcnseg.training.datasets.images import JoinedImages, LabelledImages
from fcnseg.training.folds import in_fold
from fcnseg.training.initial_weights import find_initial_weights
from fcnseg.training.plan import BEST_BY, TrainPlan
from fcnseg.training.presets import STRIDES, Preset, find_preset, override
from fcnseg.training.settings import files_of, given_options, model_settings, reading_settings
from fcnseg.weights.store import own_weights

MAX_STEPS = 10**9
"""Steps of a stage at most: more are a slip."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training: those of `fcnseg train`, whose help explains them."""

    data: Path
    out: Path
    model: str = DEFAULT_MODEL
    preset: str = "modern"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Values of the preset that differ, by the names of its fields."""
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
    extend: bool = False
    best_by: str = "mean_iu"
    patience: int = 0
    folds: int = 0
    """Divide the images of `data` into so many folds; 0: train and validate on its splits."""
    fold: int = 0
    """The fold to validate on, from 1; the others are trained on."""
    labels: str | None = None
    ignore: tuple[int, ...] = ()
    reduce_labels: bool = False
    label_map: Path | None = None
    palette: Path | None = None
    binary: bool = False

    @property
    def label_options(self) -> LabelOptions:
        """The meaning of the values of label maps, in `data`, `also` and `validation`."""
        return LabelOptions(
            labels=self.labels,
            ignore=self.ignore,
            reduce_labels=self.reduce_labels,
            label_map=self.label_map,
            palette=self.palette,
            binary=self.binary,
        )


def make_plan(options: TrainOptions, device: torch.device) -> TrainPlan:
    """Return the plan that options make on a device.

    Raises SettingsError, SourceError, LabelsError, WeightsError or WeightsMismatchError.
    """
    _check_numbers(options)
    base = find_recipe(options.model)
    labels = own_labels(options.data, base, options.label_options)
    recipe = with_labels(base, labels, options.data)
    preset = override(find_preset(options.preset, base), options.overrides, "the options")
    files = _initial_files(base, preset, options)
    initial = find_initial_weights(recipe, files, expand=options.expand_classes)
    if options.overrides.get("staged") and initial.stride == recipe.architecture.stride:
        raise SettingsError(
            f"the initial weights are of a {initial.stride}s net already, so that there are no stages left; "
            "leave out --staged, or give --scratch or coarser --weights"
        )
    parts, validation = _open_data(options, recipe)
    train = parts[0] if len(parts) == 1 else JoinedImages(parts)
    if labels is not None:
        recipe = with_labels(base, with_palette_colors(labels, parts[0]), options.data)
    if initial.state is not None and preset.finetune_lr:
        preset = replace(preset, lr=preset.finetune_lr)
    if not preset.crop:
        preset = replace(preset, crop=default_crop(train.sizes))
    _check_steps(preset, len(train))
    _check_preset(preset, recipe)
    asked_precision, preset = preset.precision, preset.in_precision(device)
    title = f"{base.title or base.name}, trained"
    plan = TrainPlan(
        recipe=replace(recipe, name=name_from(options.out.resolve().name), title=title, weights=(), bundled=None),
        preset=preset,
        initial=initial,
        train=train,
        validation=validation,
        out=options.out,
        seed=options.seed,
        validate_every=options.validate_every,
        save_every=options.save_every,
        log_every=options.log_every,
        files=files_of(parts, validation),
        sizes=train.sizes,
        extend=options.extend,
        best_by=options.best_by,
        patience=options.patience,
    )
    execution = {
        "device": str(device),
        "micro_batch": options.micro_batch,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "precision": asked_precision,
    }
    reading = reading_settings([*parts, validation])
    return replace(plan, settings={**_settings(options, base.name, plan), **reading, "execution": execution})


def _open_data(options: TrainOptions, recipe: Recipe) -> tuple[list[LabelledImages], LabelledImages]:
    """Open the data sets to train on and the one to validate on. Raises SourceError if they share an image."""
    values = options.label_options
    parts = [open_samples(options.data, recipe, options.split, options.kind, values)]
    parts += [open_samples(data, recipe, "train", options=values) for data in options.also]
    if options.validation is None:
        validation = open_samples(options.data, recipe, options.validation_split, options.kind, values)
    else:
        validation = open_samples(options.validation, recipe, options.validation_split, options=values)
    for part in parts:
        check_apart(part, validation)
    if options.folds:
        if options.validation is not None:
            raise SettingsError("--folds validates on the images of --data, and --val on others; give one of them")
        parts[0], validation = in_fold(parts[0], validation, options.fold, options.folds)
    return parts, validation


def _check_preset(preset: Preset, recipe: Recipe) -> None:
    """Raise SettingsError for values of a preset that do not fit a recipe or each other."""
    if preset.rotation and not any(preset.crop):
        raise SettingsError("rotation turns crops, and whole images are trained on; give a --crop, or no --rotation")
    for head in recipe.heads:
        if preset.class_weights and len(preset.class_weights) != head.labels.classes:
            counts = f"{len(preset.class_weights)} class weights for the {head.labels.classes} classes of {head.name}"
            raise SettingsError(f"there are {counts}; give one for each, in the order of classes.txt")


def _settings(options: TrainOptions, base: str, plan: TrainPlan) -> dict[str, Any]:
    """Return what determines the result of a training, for `train.json`, but for how label maps are read."""
    return {
        "recipe": base,
        "model": model_settings(plan.recipe),
        "data": [str(path.resolve()) for path in (options.data, *options.also)],
        "validation": str((options.validation or options.data).resolve()),
        "splits": [options.split, options.validation_split],
        **({"fold": f"{options.fold} of {options.folds}"} if options.folds else {}),
        "images": len(plan.train),
        "validation_images": len(plan.validation),
        "initial_weights": plan.initial.source,
        "expand_classes": options.expand_classes,
        "preset": asdict(plan.preset),
        "seed": options.seed,
        "validate_every": options.validate_every,
        "best_by": options.best_by,
        "patience": options.patience,
        **({"label_values": given_options(options.label_options)} if options.label_options.given else {}),
    }


def _check_numbers(options: TrainOptions) -> None:
    """Raise SettingsError that names every number that cannot be."""
    rules = {
        "seed": (0 <= options.seed < 2**63, "0 or more"),
        "validate_every": (0 <= options.validate_every < MAX_STEPS, "a number of epochs, 0 for 20 a stage"),
        "save_every": (0 <= options.save_every < math.inf, "a number of seconds"),
        "log_every": (options.log_every >= 1, "1 or more"),
        "micro_batch": (options.micro_batch >= 1, "1 or more"),
        "patience": (options.patience >= 0, "0 or more"),
        "workers": (options.workers is None or options.workers >= 0, "0 or more"),
        "best_by": (options.best_by in BEST_BY, f"{', '.join(BEST_BY[:-1])} or {BEST_BY[-1]}"),
    }
    faults = [
        f"--{name.replace('_', '-')} is {getattr(options, name)!r}; use {allowed}"
        for name, (fits, allowed) in rules.items()
        if not fits
    ]
    if faults:
        raise SettingsError("; ".join(faults))


def _check_steps(preset: Preset, images: int) -> None:
    steps = max(preset.steps_of(stage, images) for stage in range(len(STRIDES)))
    if steps > MAX_STEPS:
        raise SettingsError(f"that would be {steps:.3g} steps over {images} images; give fewer --epochs or --steps")


def with_labels(recipe: Recipe, labels: LabelSpace | None, data: Path) -> Recipe:
    """Return the recipe for the classes that a data set brings (None: as it is).

    With other classes it no longer follows the conventions of its `dataset`. Raises SettingsError for several heads.
    """
    if labels is None:
        return recipe
    if len(recipe.heads) > 1:
        raise SettingsError(f"{recipe.name} gives {len(recipe.heads)} label maps, and {data} names the classes of one")
    head = recipe.heads[0]
    dataset = recipe.dataset if labels.names == head.labels.names else ""
    return replace(recipe, heads=(HeadRecipe(head.name, labels, head.suffix),), dataset=dataset)


def with_palette_colors(labels: LabelSpace, samples: LabelledImages) -> LabelSpace:
    """Return the classes in the colours of the first label map's palette, so that predictions are drawn alike.

    Classes stay as they are if they have colours of their own, or if the palette lacks a colour for each class or is a
    grey ramp. Raises LabelsError for a map that cannot be read.
    """
    if labels.colors != tuple(voc_color(i % 256) for i in range(labels.classes)):
        return labels
    (location,) = samples.locations[0].labels.values()
    palette = read_map(location).palette[: labels.classes]
    grey = all(color == (i, i, i) for i, color in enumerate(palette))
    return labels if grey or len(set(palette)) < labels.classes else replace(labels, colors=palette)


def default_crop(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width, px, of crops: 4/5 of the median of images, multiples of 32, from 32 to 512."""
    height, width = (max(32, min(512, int(median) * 4 // 5 // 32 * 32)) for median in np.median(sizes, axis=0))
    return height, width


def _initial_files(recipe: Recipe, preset: Preset, options: TrainOptions) -> tuple[Path, ...]:
    """Return the files of initial weights. Raises SettingsError for a published preset without any."""
    if options.scratch and options.weights:
        raise SettingsError("--scratch and --weights contradict each other; give one")
    if options.scratch or options.weights:
        return options.weights
    if preset.name in ("paper", "heavy"):
        begins = f"the preset {preset.name} begins with an ImageNet classifier"
        raise SettingsError(f"{begins}; name its file with --weights, or say --scratch")
    own = own_weights(recipe)
    return (own,) if own else ()
