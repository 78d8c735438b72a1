"""Settings of a training: all that decides its weights, for `train.json`, and the files of its images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcnseg.recipes import Recipe
from fcnseg.scoring.label_encoding import LabelEncoding
from fcnseg.scoring.label_options import LabelOptions
from fcnseg.training.datasets.images import LabelledImages

FORMAT = 2
"""Version of `train.json`; folders of others are not resumed."""

Files = Mapping[str, Mapping[str, Sequence[int]]]
"""Sizes in bytes of the files of each image, by "training" or "validation" and its name."""


def model_settings(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe says of the network, its inputs and its classes."""
    heads = {
        head.name: {
            "suffix": head.suffix,
            "classes": list(head.labels.names),
            "ignore": head.labels.ignore,
            "colors": head.labels.colors,
        }
        for head in recipe.heads
    }
    streams = {
        f"stream {stream.suffix or number}": {
            "first_layer": stream.first_layer,
            **{i.modality: {"order": i.order, "mean": i.mean} for i in stream.inputs},
        }
        for number, stream in enumerate(recipe.streams)
    }
    return {"architecture": asdict(recipe.architecture), **streams, "heads": heads}


def reading_settings(parts: Sequence[LabelledImages]) -> dict[str, Any]:
    """Return how the values and colours of label maps are read, by data set and head."""
    return {
        f"data set {number}": {head: _encoding(encoding) for head, encoding in part.encodings.items()}
        for number, part in enumerate(parts)
    }


def _encoding(encoding: LabelEncoding) -> dict[str, Any]:
    table = None if encoding.table is None else {str(value): code for value, code in encoding.table.items()}
    return {
        "void": sorted(encoding.void),
        "classes of values": table,
        "classes of colours": {" ".join(map(str, color)): code for color, code in encoding.colors.items()},
        "counted from 1": encoding.reduced,
        "binary": encoding.binary,
    }


def given_options(options: LabelOptions) -> dict[str, Any]:
    """Return the options of label values that were given, as texts and numbers."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items() if value}


def files_of(training: Sequence[LabelledImages], validation: LabelledImages) -> dict[str, dict[str, list[int]]]:
    """Return the Files of data sets. Rows of HDF5 files have no sizes."""

    def sizes(part: LabelledImages) -> dict[str, list[int]]:
        return {
            sample.name: [
                Path(place.file).stat().st_size
                for place in (*sample.inputs.values(), *sample.labels.values())
                if not place.dataset
            ]
            for sample in part.locations
        }

    first, *others = training
    also = {f"{number}: {name}": of for number, part in enumerate(others, 1) for name, of in sizes(part).items()}
    return {"training": sizes(first) | also, "validation": sizes(validation)}
