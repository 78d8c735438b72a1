"""A loaded model, for images in Python."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, overload

from fcnseg.engine.load import check_engine_file, model_of
from fcnseg.engine.open import engine_from
from fcnseg.engine.options import EngineOptions, check_precision
from fcnseg.engine.request import backend_for, refuse_settled_options
from fcnseg.errors import EngineError, SettingsError
from fcnseg.io.images import pixels_of
from fcnseg.labels import LabelSpace
from fcnseg.recipes import DEFAULT_MODEL, find_recipe
from fcnseg.running.image_stream import ImageStream, images_in, with_picture
from fcnseg.running.predictor import Predictor
from fcnseg.running.short_side import ShortSide
from fcnseg.types import AnyPath, Engine, EngineInfo, Frame, Prediction, optional_path


class Segmenter:
    """A model for color images, called with one image or many; see `load`.

    Making one checks the options and acquires nothing. The engine is opened, and built if need be, when the `with`
    block is entered or at the first use, and released by `close`. Raises SettingsError for invalid options.
    """

    def __init__(self, options: EngineOptions, resize_short: int | None = None) -> None:
        if resize_short is not None and resize_short < 1:
            raise SettingsError(f"resize_short is {resize_short}; give a short side in pixels, e.g. 520")
        self.recipe = find_recipe(options.model)
        if self.recipe.modalities != ("color",):
            raise SettingsError(
                f"{self.recipe.name} takes {' and '.join(self.recipe.modalities)}; use fcnseg.run with their folders"
            )
        if options.engine:
            check_engine_file(options.engine)
            refuse_settled_options(options)
        else:
            backend, _ = backend_for(options)
            check_precision(options.precision, backend)
        self._options, self.resize_short = options, resize_short
        self._engines: dict[bool, Engine] = {}
        self._closed = False

    def _engine(self, probabilities: bool) -> Engine:
        """Return the engine with or without probabilities, opened if need be; torch's gives both. What is resized has
        its labels made from probabilities."""
        probabilities = probabilities or self.resize_short is not None
        if self._closed:
            raise EngineError("the segmenter is closed; load the model again")
        if probabilities not in self._engines:
            labels_only = self._engines.get(False)
            if labels_only and labels_only.info.backend == "torch":
                return labels_only
            self._engines[probabilities] = engine_from(self._options, probabilities=probabilities, batch=1).__enter__()
        return self._engines[probabilities]

    @property
    def info(self) -> EngineInfo:
        """The description of the engine, which is opened for it."""
        return self._engine(probabilities=False).info

    @property
    def classes(self) -> Mapping[str, LabelSpace]:
        """The names and colours of the classes of each head; no engine is opened for it."""
        return {head.name: head.labels for head in self.recipe.heads}

    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...], probabilities: bool = False) -> list[Prediction]: ...

    @overload
    def __call__(self, images: Iterator[Any], probabilities: bool = False) -> Iterator[Prediction]: ...

    @overload
    def __call__(self, images: Any, probabilities: bool = False) -> Prediction: ...

    def __call__(self, images: Any, probabilities: bool = False) -> Any:
        """Return the Prediction of one image, a list of them for a list, a tuple or an array N x H x W x 3, or an
        iterator for any other iterable, which is taken as the predictions are.

        An image is a path, a Pillow image (taken upright), or uint8 H x W x 3, RGB. A prediction holds, by head, labels
        H x W and on request probabilities K x H x W. Several images are decoded ahead and predicted in batches; labels
        do not depend on that, and come in the images' order. Raises ImageError for an image that cannot be read or
        predicted, of an iterable after the predictions of those before it.
        """
        several = images_in(images)
        if several is None:
            return self._predict(images, probabilities)
        stream = ImageStream(self._predictor(probabilities), several)
        return list(stream) if isinstance(images, list | tuple) or hasattr(images, "shape") else iter(stream)

    def _predictor(self, probabilities: bool) -> Predictor:
        short_side = ShortSide(self.resize_short, probabilities) if self.resize_short else None
        return Predictor(self._engine(probabilities), self.recipe, probabilities=probabilities, short_side=short_side)

    def _predict(self, image: Any, probabilities: bool) -> Prediction:
        key = str(os.fspath(image)) if isinstance(image, str | os.PathLike) else ""
        predictor = self._predictor(probabilities)
        return with_picture(predictor, predictor.one(Frame(key, key, {"color": pixels_of(image)})), image)

    def close(self) -> None:
        """Release the engine. A closed segmenter cannot be used again."""
        self._closed = True
        while self._engines:
            self._engines.popitem()[1].close()

    def __enter__(self) -> Self:
        self._engine(probabilities=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    model: str | None = None,
    weights: AnyPath | None = None,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    engine: AnyPath | None = None,
    resize_short: int | None = None,
) -> Segmenter:
    """Return a model to call with images: a shipped model or a recipe file, with its own weights or others.

    Use it in a `with` block, or call it and `close` it. The first use of a model builds its engine, which takes seconds
    to minutes; later ones find it built. `engine` is a file that `build_engine` wrote, in place of a choice.
    With `resize_short`, images are resized to that short side, px, for the network; predictions have their own size.

    Raises SettingsError for unknown names and choices; EngineError and WeightsError, at its first use, for what cannot
    be had here.

    >>> import fcnseg
    >>> with fcnseg.load("street-fcn8s", backend="torch", device="cpu") as segmenter:
    ...     labels = segmenter("photo.jpg").labels["labels"]
    >>> labels.dtype, labels.shape
    (dtype('uint8'), (360, 480))
    """
    engine_file = optional_path(engine)
    model = model or (model_of(engine_file) if engine_file else DEFAULT_MODEL)
    options = EngineOptions(model, optional_path(weights), backend, device, precision, engine_file)
    return Segmenter(options, resize_short)
