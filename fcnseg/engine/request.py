"""The request for a compiled engine: one frozen value from the options to the subprocess that builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fcnseg.engine.calibration import ImageFiles, calibration_files
from fcnseg.engine.identity import EngineIdentity, identify, shapes_from_json
from fcnseg.engine.options import PRECISIONS, EngineOptions, check_precision
from fcnseg.engine.select import choose_backend
from fcnseg.errors import SettingsError
from fcnseg.recipes import Recipe, Shapes, find_recipe


@dataclass(frozen=True)
class EngineRequest:
    """A compiled engine that somebody asked for.

    `shapes` empty: an engine for any sizes will do, and one for the recipe's is built. `calibration` are the files of
    the images that int8 is calibrated on; empty: an engine calibrated on any images will do. `min_agreement` replaces
    the share of pixels, 0..1, on which the engine must give the fp32 network's labels.
    """

    model: str
    weights: Path | None
    backend: str
    precision: str
    shapes: tuple[Shapes, ...] = ()
    probabilities: bool = False
    calibration: tuple[ImageFiles, ...] = ()
    min_agreement: float | None = None

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the model."""
        return find_recipe(self.model)

    @cached_property
    def identity(self) -> EngineIdentity:
        """Everything that the engine is built from. Raises WeightsError or EngineError, see `identify`."""
        return identify(
            self.recipe,
            self.weights,
            self.backend,
            self.precision,
            shapes=self.shapes,
            probabilities=self.probabilities,
            calibration=self.calibration,
        )

    @property
    def required_agreement(self) -> float:
        """The share of pixels, 0..1, on which the engine must give the fp32 network's labels."""
        return PRECISIONS[self.precision].min_agreement if self.min_agreement is None else self.min_agreement

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; paths are texts."""
        images = [{m: str(path) for m, path in files.items()} for files in self.calibration]
        return {**asdict(self), "weights": self.weights and str(self.weights), "calibration": images}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> EngineRequest:
        """Return the request that `as_json` was called on."""
        changed = {
            "weights": entry["weights"] and Path(entry["weights"]),
            "shapes": tuple(map(shapes_from_json, entry["shapes"])),
            "calibration": tuple({m: Path(path) for m, path in files.items()} for files in entry["calibration"]),
        }
        return cls(**{**entry, **changed})


def request_engine(
    options: EngineOptions,
    backend: str,
    *,
    shapes: tuple[Shapes, ...] = (),
    probabilities: bool = False,
    companions: Mapping[str, Path] | None = None,
    min_agreement: float | None = None,
) -> EngineRequest:
    """Return the request that options amount to on a compiled backend; with precision "auto", one that stands for all.

    `companions` are folders of depth or HHA images that go with `options.calibrate`. Raises SettingsError for a
    precision that the backend does not have.
    """
    check_precision(options.precision, backend)
    recipe = find_recipe(options.model)
    folders = {recipe.modalities[0]: options.calibrate, **(companions or {})} if options.calibrate else {}
    return EngineRequest(
        options.model,
        options.weights,
        backend,
        options.precision,
        shapes,
        probabilities,
        calibration_files(recipe, folders),
        min_agreement,
    )


def backend_for(options: EngineOptions) -> tuple[str, str]:
    """Return the backend that options choose here, and the reason. Raises SettingsError for an unknown choice."""
    check_precision(options.precision)
    return choose_backend(options.backend, options.device, options.precision)


def refuse_settled_options(options: EngineOptions) -> None:
    """Raise SettingsError for options that a finished engine file has settled already."""
    settled = ("weights", "backend", "device", "precision", "calibrate")
    stated = [f"--{name}" for name in settled if getattr(options, name) != getattr(EngineOptions, name)]
    if stated:
        raise SettingsError(f"--engine {options.engine} runs as it was built; leave out {' and '.join(stated)}")
