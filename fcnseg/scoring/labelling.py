"""Classes and heads that are compared: of a recipe, of the run that predicted, or of a number or list of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcnseg.errors import SettingsError
from fcnseg.io.buckets import open_store
from fcnseg.io.conventions import convention_of
from fcnseg.io.run_records import run_record
from fcnseg.io.suffixes import HDF5, has_suffix
from fcnseg.io.urls import is_url, join_url
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import DEFAULT_MODEL, HeadRecipe, find_recipe, recipe_names
from fcnseg.scoring.class_files import DatasetClasses, read_classes_of
from fcnseg.scoring.named_labels import named_labels

MAX_CLASSES = 4096
"""Beyond, a confusion matrix takes more than 128 MiB."""


@dataclass(frozen=True)
class Labelling:
    """The heads of a model with their classes.

    `colored`: the colours of its classes are known. `dataset` is that of its recipe, whose conventions are followed.
    `own` are they as a file names them, None if none does.
    """

    model: str
    heads: tuple[HeadRecipe, ...]
    colored: bool = True
    dataset: str = ""
    own: DatasetClasses | None = None

    @property
    def names(self) -> list[str]:
        """The names of the heads."""
        return [head.name for head in self.heads]

    def check_head(self, name: str | None) -> None:
        """Raise SettingsError if there is no head of that name."""
        if name is not None and name not in self.names:
            raise SettingsError(f"{self.model or 'this'} has no head {name}; it has {', '.join(self.names)}")


def find_labelling(
    model: str | None,
    classes: str | None,
    binary: bool,
    predictions: str,
    labels: str | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> Labelling:
    """Return the classes of a model, of a number or file of classes, or of binary masks.

    By default they are those of the run that wrote `predictions`, else of the data set called `labels`, or of the
    default model. Raises SettingsError if two of these are given, or for a recipe or file that cannot be read.
    """
    if (model is not None) + (classes is not None) + (binary and model is None) > 1:
        raise SettingsError("--model, --classes and --binary each say what the classes are; give one of them")
    if classes is not None:
        return _of_classes(classes)
    if binary and model is None:
        return _labelling(_space(("background", "foreground")), colored=False)
    model = model or _recorded_model(predictions, storage_options)
    if model is None and labels is not None:
        return _labelling(named_labels(labels).space, colored=True)
    recipe = find_recipe(model or DEFAULT_MODEL)
    return Labelling(recipe.name, recipe.heads, dataset=recipe.dataset)


def _recorded_model(predictions: str, storage_options: Mapping[str, str] | None) -> str | None:
    """Return the recipe of the run that wrote the predictions, if it is still there."""
    record = run_record(predictions, storage_options)
    engine_settings = (record.get("settings") or {}).get("engine") or {}
    model = str(engine_settings.get("model") or record.get("engine", {}).get("model") or "")
    return model if model in recipe_names() or Path(model).is_file() else None


def _of_classes(classes: str) -> Labelling:
    if not classes.isdecimal():
        own = read_classes_of(Path(classes))
        return _labelling(own.labels, own.colored, own)
    if not 1 <= int(classes) <= MAX_CLASSES:
        raise SettingsError(f"--classes is {classes}; it must be from 1 to {MAX_CLASSES}")
    return _labelling(_space(tuple(f"class {i}" for i in range(int(classes)))), colored=False)


def _space(names: tuple[str, ...]) -> LabelSpace:
    colors = tuple(voc_color(i % 256) for i in range(len(names)))
    return LabelSpace(names, colors, 255 if len(names) <= 255 else 65535)


def _labelling(space: LabelSpace, colored: bool, own: DatasetClasses | None = None) -> Labelling:
    return Labelling("", (HeadRecipe("labels", space),), colored, own=own)


def recorded_classes(predictions: str, storage_options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the class names of each head of the run that wrote the predictions, empty if it left no record."""
    heads = run_record(predictions, storage_options).get("engine", {}).get("heads")
    return heads if isinstance(heads, dict) else {}


def check_classes(predictions: str, recorded: Sequence[str], space: LabelSpace, named: bool) -> None:
    """Raise SettingsError for predictions of a run with other classes. `named`: the names in `space` must agree too."""
    differing = [i for i, (ran, asked) in enumerate(zip(recorded, space.names, strict=False)) if ran != asked]
    if recorded and len(recorded) != space.classes:
        fault = f"{len(recorded)} classes, but {space.classes} are to be compared"
    elif named and differing:
        fault = f"{recorded[differing[0]]} as class {differing[0]}, but that is {space.names[differing[0]]} here"
    else:
        return
    raise SettingsError(
        f"{predictions} was predicted with {fault}; --model says whose classes, --pred-label-map FILE what the values "
        "of predictions mean"
    )


def locate_heads(
    labelling: Labelling,
    predictions: str,
    truth: str,
    only: str | None,
    storage_options: Mapping[str, str] | None = None,
) -> list[tuple[HeadRecipe, str, str]]:
    """Return each head to compare (or the `only` one) with the sources of its predictions and its ground truth.

    Raises SettingsError if that head does not exist, or if a source of several heads lacks the folder of one.
    """
    labelling.check_head(only)
    if len(labelling.heads) == 1:
        return [(labelling.heads[0], predictions, truth)]
    folders = convention_of(labelling.dataset).folders
    located = []
    for head in labelling.heads:
        if only in (None, head.name):
            options = storage_options or {}
            predicted_in = _below(predictions, options, head.name)
            truth_in = _below(truth, options, head.name, folders.get(head.name, head.name))
            if only is None and (predicted_in is None or truth_in is None):
                raise SettingsError(
                    f"{labelling.model} has the heads {', '.join(labelling.names)}, but "
                    f"{truth if predicted_in else predictions} has no folder {head.name}; --head says which one to "
                    "compare"
                )
            located.append((head, predicted_in or predictions, truth_in or truth))
    return located


def _below(source: str, storage_options: Mapping[str, str], *names: str) -> str | None:
    """Return the folder of one of these names in a folder or below a URL, or the group in an HDF5 file."""
    if is_url(source):
        bucket = open_store(source, storage_options)
        return next((join_url(source, name) for name in names if any(True for _ in bucket.list(name))), None)
    if has_suffix(source, HDF5):
        from fcnseg.io.label_maps_hdf5 import has_dataset  # h5py takes a tenth of a second

        return next((f"{source}::/{name}" for name in names if has_dataset(source, name)), None)
    return next((f"{source}/{name}" for name in names if Path(source, name).is_dir()), None)
