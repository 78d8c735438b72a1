"""Open an engine: choose a backend, find or build the engine, and fall back to torch where it cannot start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from fcnseg.engine.build import ensure_engine, fastest_engine
from fcnseg.engine.load import check_engine_file, load_engine
from fcnseg.engine.options import BuildHooks, EngineOptions
from fcnseg.engine.request import backend_for, refuse_settled_options, request_engine
from fcnseg.engine.select import candidate_precisions
from fcnseg.errors import EngineError, FcnsegError, OutputError, SettingsError, installs
from fcnseg.io.user_folders import use_temporary_engines
from fcnseg.recipes import DEFAULT_MODEL, Recipe, find_recipe
from fcnseg.types import AnyPath, Engine, optional_path


def open_engine(
    model: str = DEFAULT_MODEL,
    *,
    weights: AnyPath | None = None,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    engine: AnyPath | None = None,
    calibrate: AnyPath | None = None,
    companions: Mapping[str, AnyPath] | None = None,
    probabilities: bool = False,
    batch: int | None = None,
    hooks: BuildHooks | None = None,
) -> Engine:
    """Return an engine that runs a model, built and verified first if need be; it acquires nothing until entered.

    `engine` is a file that `build_engine` wrote, in place of all that chooses one. `probabilities`: the engine shall be
    able to give class probabilities. `batch`: images of one size that PyTorch on an NVIDIA GPU computes at once, which
    it does however many it is given. For the others see `build_engine`.

    Raises SettingsError for unknown choices, EngineError for what cannot be had here, WeightsError without weights.

    >>> import fcnseg, numpy as np
    >>> with fcnseg.open_engine("street-fcn8s", backend="torch", device="cpu") as engine:
    ...     labels, _ = engine.infer({"color": np.zeros((2, 48, 64, 3), np.uint8)})
    >>> labels["labels"].dtype, labels["labels"].shape
    (dtype('uint8'), (2, 48, 64))
    """
    weights, engine, calibrate = map(optional_path, (weights, engine, calibrate))
    options = EngineOptions(model, weights, backend, device, precision, engine, calibrate)
    folders = {name: Path(folder) for name, folder in (companions or {}).items()}
    return engine_from(options, hooks, probabilities=probabilities, companions=folders, batch=batch)


def engine_from(
    options: EngineOptions,
    hooks: BuildHooks | None = None,
    *,
    probabilities: bool = False,
    companions: Mapping[str, Path] | None = None,
    require_verified: bool = True,
    batch: int | None = None,
) -> Engine:
    """Return the engine of those options, as `open_engine` does.

    Unless `require_verified`, for measurements, an engine of a stated precision may differ from the network on more
    pixels than it should.
    """
    hooks = hooks or BuildHooks()
    recipe = find_recipe(options.model)
    if options.engine:
        file = check_engine_file(options.engine)
        refuse_settled_options(options)
        return _check_probabilities(load_engine(recipe, file), probabilities)
    backend, reason = backend_for(options)
    if backend == "torch":
        return _torch_engine(recipe, options, reason, batch, hooks)
    request = request_engine(options, backend, probabilities=probabilities, companions=companions)
    may_fall_back = options.backend == "auto" and options.precision in ("auto", "fp32") and find_spec("torch")

    def torch_instead(error: FcnsegError) -> Engine:
        hooks.on_note(f"{backend} cannot be used: {error}; torch runs the model")
        return _torch_engine(recipe, options, f"{backend} cannot be used", batch, hooks)

    def find_or_build() -> Path:
        if options.precision != "auto":
            return ensure_engine(request, hooks, require_verified=require_verified)
        candidates = candidate_precisions(backend, calibrate=options.calibrate is not None, on_note=hooks.on_note)
        return fastest_engine(request, candidates, hooks)

    if options.precision == "auto":
        reason += ", the fastest precision that gives the network's labels"
    try:
        try:
            file = find_or_build()
        except OutputError as error:
            _keep_engines_elsewhere(error, hooks)
            file = find_or_build()
        engine = load_engine(recipe, file, reason, require_verified=require_verified)
    except (EngineError, OutputError) as error:
        if not may_fall_back:
            raise
        return torch_instead(error)
    return cast(Engine, FallbackEngine(engine, torch_instead)) if may_fall_back else engine


class FallbackEngine:
    """An engine, or what `fallback` makes of its EngineError if it cannot be entered; all else is delegated."""

    def __init__(self, engine: Engine, fallback: Callable[[EngineError], Engine]) -> None:
        self._engine, self._fallback = engine, fallback

    def __enter__(self) -> Self:
        try:
            self._engine.__enter__()
        except EngineError as error:
            self._engine.close()
            self._engine = self._fallback(error)
            self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _keep_engines_elsewhere(error: OutputError, hooks: BuildHooks) -> None:
    """Keep engines in the temporary folder where they cannot be kept in their own. Raises the error if that fails."""
    try:
        folder = use_temporary_engines()
    except OSError:
        raise error from None
    if folder is None:
        raise error
    hooks.on_note(f"{str(error).partition(';')[0]}; the engine is kept in {folder} instead")


def _torch_engine(recipe: Recipe, options: EngineOptions, choice: str, batch: int | None, hooks: BuildHooks) -> Engine:
    """Return torch's engine: in batches on an NVIDIA GPU, elsewhere one image at a time."""
    if not find_spec("torch"):
        raise EngineError(f"torch is not installed, which runs networks as they are; {installs('torch')}")
    from fcnseg.engine.runtimes.batched import BatchedTorchEngine
    from fcnseg.engine.runtimes.pytorch import TorchEngine, find_device

    precision = "fp32" if options.precision == "auto" else options.precision
    how = (recipe, options.weights, options.device, precision, choice)
    if find_device(options.device).type == "cuda":
        return BatchedTorchEngine(*how, batch=batch, on_note=hooks.on_note)
    return TorchEngine(*how)


def _check_probabilities(engine: Engine, wanted: bool) -> Engine:
    if wanted and not getattr(engine, "probabilities", True):
        raise SettingsError(
            "this engine gives labels alone; build one with `fcnseg build-engine --with-probabilities`, "
            "or leave out --save-probabilities and --resize-short"
        )
    return engine
