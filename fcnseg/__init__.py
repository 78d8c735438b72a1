"""Batch semantic segmentation with fully convolutional networks.

    import fcnseg

    fcnseg.run("photos", "masks")    # a label map for every image of a folder

    with fcnseg.load("street-fcn8s") as segmenter:
        labels = segmenter("photo.jpg").labels["labels"]    # uint8 H x W, the class of each pixel

Importing this imports neither torch nor Pillow; they load when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnseg.engine.build import BuiltEngine, build_engine
    from fcnseg.engine.export import export_model
    from fcnseg.engine.open import open_engine
    from fcnseg.engine.options import BuildHooks, EngineOptions
    from fcnseg.engine.recheck import verify_engine
    from fcnseg.errors import FcnsegError
    from fcnseg.labels import LabelSpace
    from fcnseg.recipes import Recipe, find_recipe, recipe_names
    from fcnseg.running.hooks import Hooks
    from fcnseg.running.options import RunOptions
    from fcnseg.running.run import run
    from fcnseg.running.segmenter import Segmenter, load
    from fcnseg.scoring.compare import Compared, compare
    from fcnseg.scoring.diff import diff
    from fcnseg.scoring.diff_result import Diff
    from fcnseg.scoring.result import Score
    from fcnseg.scoring.score import score
    from fcnseg.training.plan import TrainHooks, TrainResult
    from fcnseg.training.train import train
    from fcnseg.types import (
        Engine,
        EngineInfo,
        Failure,
        Frame,
        OutputName,
        Prediction,
        Reference,
        Sink,
        Source,
        Storage,
        Summary,
    )

__version__ = "0.1.0"

__all__ = [
    "BuildHooks",
    "BuiltEngine",
    "Compared",
    "Diff",
    "Engine",
    "EngineInfo",
    "EngineOptions",
    "Failure",
    "FcnsegError",
    "Frame",
    "Hooks",
    "LabelSpace",
    "OutputName",
    "Prediction",
    "Recipe",
    "Reference",
    "RunOptions",
    "Score",
    "Segmenter",
    "Sink",
    "Source",
    "Storage",
    "Summary",
    "TrainHooks",
    "TrainResult",
    "build_engine",
    "compare",
    "diff",
    "export_model",
    "find_recipe",
    "load",
    "open_engine",
    "recipe_names",
    "run",
    "score",
    "train",
    "verify_engine",
]

_HOMES = {
    "fcnseg.engine.build": ("BuiltEngine", "build_engine"),
    "fcnseg.engine.export": ("export_model",),
    "fcnseg.engine.open": ("open_engine",),
    "fcnseg.engine.options": ("BuildHooks", "EngineOptions"),
    "fcnseg.engine.recheck": ("verify_engine",),
    "fcnseg.errors": ("FcnsegError",),
    "fcnseg.labels": ("LabelSpace",),
    "fcnseg.recipes": ("Recipe", "find_recipe", "recipe_names"),
    "fcnseg.running.hooks": ("Hooks",),
    "fcnseg.running.options": ("RunOptions",),
    "fcnseg.running.run": ("run",),
    "fcnseg.running.segmenter": ("Segmenter", "load"),
    "fcnseg.scoring.compare": ("Compared", "compare"),
    "fcnseg.scoring.diff": ("diff",),
    "fcnseg.scoring.diff_result": ("Diff",),
    "fcnseg.scoring.result": ("Score",),
    "fcnseg.scoring.score": ("score",),
    "fcnseg.training.plan": ("TrainHooks", "TrainResult"),
    "fcnseg.training.train": ("train",),
    "fcnseg.types": (
        "Engine",
        "EngineInfo",
        "Failure",
        "Frame",
        "OutputName",
        "Prediction",
        "Reference",
        "Sink",
        "Source",
        "Storage",
        "Summary",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
