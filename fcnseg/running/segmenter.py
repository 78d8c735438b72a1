"""A loaded model, for single images in Python."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fcnseg.engine.open import engine_from
from fcnseg.engine.options import EngineOptions
from fcnseg.errors import SettingsError
from fcnseg.recipes import DEFAULT_MODEL, find_recipe
from fcnseg.types import Engine, EngineInfo, Frame, Prediction


class Segmenter:
    """A loaded model: call it with an image or several, get a prediction for each.

    An image is a path, a Pillow image (taken upright), or uint8 H x W x 3 RGB. Close it, or use it in a `with`.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.recipe = find_recipe(options.model)
        if self.recipe.modalities != ("color",):
            raise SettingsError(
                f"{self.recipe.name} takes {' and '.join(self.recipe.modalities)}; use fcnseg.run with their folders"
            )
        self._options = options
        self._engines: dict[bool, Engine] = {}
        self._engine(probabilities=False)

    def _engine(self, probabilities: bool) -> Engine:
        """The engine with or without probabilities; torch's gives both."""
        if probabilities not in self._engines:
            labels_only = self._engines.get(False)
            if labels_only and labels_only.info.backend == "torch":
                return labels_only
            self._engines[probabilities] = engine_from(self._options, probabilities=probabilities).__enter__()
        return self._engines[probabilities]

    @property
    def info(self) -> EngineInfo:
        """What runs, and where."""
        return self._engine(probabilities=False).info

    def __call__(self, images: Any, probabilities: bool = False) -> Any:
        """The Prediction of one image, or a list of them for a list. Raises ImageError for an unreadable one."""
        if isinstance(images, list | tuple):
            return [self._one(image, probabilities) for image in images]
        return self._one(images, probabilities)

    def _one(self, image: Any, probabilities: bool) -> Prediction:
        from fcnseg.io.images import pixels_of
        from fcnseg.running.predictor import Predictor

        key = str(os.fspath(image)) if isinstance(image, str | os.PathLike) else ""
        predictor = Predictor(self._engine(probabilities), self.recipe, probabilities=probabilities)
        return predictor.one(Frame(key, key, {"color": pixels_of(image)}))

    def close(self) -> None:
        """Release the model."""
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    model: str = DEFAULT_MODEL,
    weights: str | os.PathLike[str] | None = None,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> Segmenter:
    """A segmenter for a shipped model or a recipe file, with its own weights or those of a file.

    The first use of a model builds its engine, which takes seconds to minutes; later ones find it built.
    """
    return Segmenter(EngineOptions(model, Path(weights) if weights else None, backend, device, precision))
