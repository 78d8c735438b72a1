"""Which heads of a model are compared, where their maps are, and whether the predictions have their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcnseg.errors import SettingsError
from fcnseg.io.conventions import convention_of
from fcnseg.io.suffixes import HDF5, has_suffix
from fcnseg.labels import LabelSpace
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.labelling import Labelling


def check_classes(predictions: str, recorded: Sequence[str], space: LabelSpace, named: bool) -> None:
    """Refuse predictions of a run that had other classes; their names count if those to score are `named`."""
    differing = [i for i, (ours, theirs) in enumerate(zip(recorded, space.names, strict=False)) if ours != theirs]
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
    folders = convention_of(labelling.dataset).folders
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
    if has_suffix(source, HDF5):
        from fcnseg.io.label_maps_hdf5 import has_dataset  # h5py takes a tenth of a second

        return next((f"{source}::/{name}" for name in names if has_dataset(source, name)), None)
    return next((f"{source}/{name}" for name in names if Path(source, name).is_dir()), None)
