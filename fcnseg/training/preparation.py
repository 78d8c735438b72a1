"""From options to a plan: recipe, classes, data sets, preset and initial weights, checked before the first step."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fcnseg.errors import SettingsError
from fcnseg.io.atomic import new_digest
from fcnseg.io.label_maps import read_map
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import DEFAULT_MODEL, HeadRecipe, Recipe, find_recipe, name_from
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.training.datasets import check_apart, open_samples, own_labels
from fcnseg.training.datasets.images import JoinedImages, LabelledImages
from fcnseg.training.initial_weights import find_initial_weights
from fcnseg.training.plan import TrainPlan
from fcnseg.training.presets import Preset, find_preset, override
from fcnseg.training.samples import Samples
from fcnseg.weights.store import own_weights


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
        preset = replace(preset, crop=default_crop(train))
    preset = preset.in_precision(device)
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
    )
    return replace(plan, settings=_settings(options, base.name, plan))


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
    return parts, validation


def _settings(options: TrainOptions, base: str, plan: TrainPlan) -> dict[str, Any]:
    """Return all that determines the result of a training, for `train.json`."""
    return {
        "recipe": base,
        "classes": list(plan.recipe.heads[0].labels.names),
        "data": [str(path.resolve()) for path in (options.data, *options.also)],
        "validation": str((options.validation or options.data).resolve()),
        "splits": [options.split, options.validation_split],
        "images": len(plan.train),
        "validation_images": len(plan.validation),
        "names": _digest([*plan.train.names, *plan.validation.names]),
        "initial_weights": plan.initial.source,
        "expand_classes": options.expand_classes,
        "preset": asdict(plan.preset),
        "seed": options.seed,
        "validate_every": options.validate_every,
        **({"label_values": _described(options.label_options)} if options.label_options.given else {}),
    }


def _described(options: LabelOptions) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items() if value}


def _digest(names: Sequence[str]) -> str:
    digest = new_digest()
    digest.update("\0".join(names).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


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


def default_crop(samples: Samples) -> tuple[int, int]:
    """Return the height and width, px, of crops: 4/5 of the first image, multiples of 32, from 32 to 512."""
    height, width = next(iter(samples[0].labels.values())).shape
    crop_height, crop_width = (max(32, min(512, size * 4 // 5 // 32 * 32)) for size in (height, width))
    return crop_height, crop_width


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
