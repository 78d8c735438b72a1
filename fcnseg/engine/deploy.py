"""From a model's name to an engine: choose, build, open, verify, export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fcnseg.engine.building import BuildHooks, EngineRequest, ensure_engine, fastest_engine, images_for
from fcnseg.errors import EngineError, FcnsegError, OutputError, SettingsError
from fcnseg.recipes import DEFAULT_MODEL, MODALITIES, Recipe, Shapes, find_recipe
from fcnseg.types import Engine, Failure

if TYPE_CHECKING:
    from fcnseg.engine.record import Sidecar

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class EngineOptions:
    """Which model runs on what.

    `weights` None: the bundled or stored ones. `engine`: a file that `build_engine` wrote, instead of choosing by
    `backend` (auto, torch, openvino, tensorrt, tensorrt-rtx), `device` and `precision` (auto, fp32, bf16, fp16,
    int8). `calibrate`: a folder of typical images, for int8.
    """

    model: str = DEFAULT_MODEL
    weights: Path | None = None
    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    engine: Path | None = None
    calibrate: Path | None = None


def open_engine(
    options: EngineOptions,
    hooks: BuildHooks | None = None,
    *,
    probabilities: bool = False,
    companions: Mapping[str, Path] | None = None,
    proved: bool = True,
) -> Engine:
    """The engine of those options, built and verified first if need be; acquires nothing until entered.

    `probabilities`: it shall be able to give them. `companions`: folders of depth or HHA images that go with
    `calibrate`. Without `proved`, for measurements, an engine of a stated precision may differ from the network on more
    pixels than it should. Raises SettingsError for unknown choices, EngineError for what cannot be had here.
    """
    from fcnseg.engine.fallback import WithFallback
    from fcnseg.engine.load import existing, open_built
    from fcnseg.engine.select import choose_backend

    hooks = hooks or BuildHooks()
    recipe = find_recipe(options.model)
    if options.engine:
        file = existing(options.engine)
        _check_alone(options)
        return _with_probabilities(open_built(recipe, file), probabilities)
    if options.precision not in PRECISIONS:
        raise SettingsError(f"precision {options.precision!r} is unknown; use {', '.join(PRECISIONS)}")
    backend, why = choose_backend(options.backend, options.device, options.precision)
    if backend == "torch":
        return _torch_engine(recipe, options, why)
    request = engine_request(options, backend, probabilities=probabilities, companions=companions)
    falls_back = options.backend == "auto" and options.precision in ("auto", "fp32")

    def torch_instead(error: FcnsegError) -> Engine:
        hooks.on_note(f"{backend} cannot be used: {error}; torch runs the model")
        return _torch_engine(recipe, options, f"{backend} cannot be used")

    try:
        if options.precision != "auto":
            file = ensure_engine(request, hooks, proved=proved)
        else:
            file = fastest_engine(request, _candidates(options, backend, hooks), hooks)
            why += ", the fastest precision that gives the network's labels"
        engine = open_built(recipe, file, why, proved=proved)
    except (EngineError, OutputError) as error:
        if not falls_back:
            raise
        return torch_instead(error)
    return cast(Engine, WithFallback(engine, torch_instead)) if falls_back else engine


def _check_alone(options: EngineOptions) -> None:
    """Refuse what a finished engine has settled already."""
    settled = ("weights", "backend", "device", "precision", "calibrate")
    stated = [f"--{name}" for name in settled if getattr(options, name) != getattr(EngineOptions, name)]
    if stated:
        raise SettingsError(f"--engine {options.engine} runs as it was built; leave out {' and '.join(stated)}")


def _candidates(options: EngineOptions, backend: str, hooks: BuildHooks) -> list[str]:
    """The precisions that "auto" chooses from."""
    from fcnseg.engine.select import choose_precisions

    found = choose_precisions(backend, calibrated=options.calibrate is not None)
    if options.calibrate and "int8" not in found:
        hooks.on_note("int8 is left out: it needs nncf; `pip install 'fcnseg[int8]'` installs it")
    return found


def _torch_engine(recipe: Recipe, options: EngineOptions, why: str) -> Engine:
    from fcnseg.engine.runtimes.pytorch import TorchEngine

    precision = "fp32" if options.precision == "auto" else options.precision
    return TorchEngine(recipe, options.weights, options.device, precision, choice=why)


def _with_probabilities(engine: Engine, wanted: bool) -> Engine:
    if wanted and not getattr(engine, "probabilities", True):
        raise SettingsError(
            "this engine gives labels alone; build one with `fcnseg build-engine --with-probabilities`, "
            "or leave out --save-probabilities"
        )
    return engine


COMPILED = {
    "openvino": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8"),
    "tensorrt-rtx": ("fp32", "fp16", "bf16", "int8"),
}
"""The precisions of each backend that needs an engine file."""


def engine_request(
    options: EngineOptions,
    backend: str,
    *,
    shapes: tuple[Shapes, ...] = (),
    probabilities: bool = False,
    companions: Mapping[str, Path] | None = None,
    floor: float | None = None,
) -> EngineRequest:
    """What `building` needs to know of an engine that someone wants."""
    modality = find_recipe(options.model).modalities[0]
    calibrate = {modality: options.calibrate, **(companions or {})} if options.calibrate else {}
    known = COMPILED[backend]
    if options.precision not in (*known, "auto"):
        raise SettingsError(f"precision {options.precision} is unknown to {backend}; use {', '.join(known)}")
    return EngineRequest(
        options.model, options.weights, backend, options.precision, shapes, probabilities, calibrate, floor
    )


@dataclass(frozen=True)
class ProfileOptions:
    """The range of image sizes an engine is built for, where it differs from the recipe's. Sizes are "WxH" texts;
    `measure` is a folder whose images give the three sizes that are not stated."""

    smallest: str | None = None
    typical: str | None = None
    largest: str | None = None
    max_batch: int | None = None
    measure: Path | None = None


def build_engine(
    options: EngineOptions,
    hooks: BuildHooks | None = None,
    *,
    out: Path | None = None,
    profile: ProfileOptions | None = None,
    companions: Mapping[str, Path] | None = None,
    probabilities: bool = False,
    min_agreement: float | None = None,
    force: bool = False,
) -> tuple[Path, Sidecar]:
    """Build (or find) the engine of those options, verified; returns its file and its record.

    Raises EngineError if it cannot be built or differs from the fp32 network on too many pixels.
    """
    from fcnseg.engine.cache import copy_engine
    from fcnseg.engine.record import read_sidecar
    from fcnseg.engine.select import choose_backend

    hooks = hooks or BuildHooks()
    if out and out.is_dir():
        raise SettingsError(f"--out {out} is a folder; name the engine's file")
    if companions and not options.calibrate:
        raise SettingsError(f"--{' and --'.join(companions)} go with --calibrate DIR; give it too, or leave them out")
    if options.precision not in PRECISIONS:
        raise SettingsError(f"precision {options.precision!r} is unknown; use {', '.join(PRECISIONS)}")
    backend, why = choose_backend(options.backend, options.device, options.precision)
    if backend == "torch":
        raise SettingsError(f"torch ({why}) runs the network as it is and needs no engine; use another --backend")
    recipe = find_recipe(options.model)
    shapes = profile_of(recipe, profile or ProfileOptions()) or (recipe.shapes,)
    request = engine_request(
        options, backend, shapes=shapes, probabilities=probabilities, companions=companions, floor=min_agreement
    )
    if options.precision != "auto":
        file = ensure_engine(request, hooks, out=out, force=force)
    else:
        file = fastest_engine(request, _candidates(options, backend, hooks), hooks, force=force)
        if out:
            copy_engine(file, out)
    return out or file, read_sidecar(out or file)


def profile_of(recipe: Recipe, options: ProfileOptions) -> tuple[Shapes, ...]:
    """The profile that the options ask for; empty if they ask for nothing. Raises SettingsError for what is none."""
    if options == ProfileOptions():
        return ()
    start = measured(options.measure, recipe) if options.measure else recipe.shapes
    shapes = Shapes(
        size_of(options.smallest) if options.smallest else start.smallest,
        size_of(options.typical) if options.typical else start.typical,
        size_of(options.largest) if options.largest else start.largest,
        options.max_batch or start.max_batch,
    )
    for axis, name in ((0, "height"), (1, "width")):
        low, middle, high = shapes.smallest[axis], shapes.typical[axis], shapes.largest[axis]
        if not low <= middle <= high:
            raise SettingsError(
                f"the {name}s {low} (smallest), {middle} (typical) and {high} (largest) must not fall; "
                "state --min-shape, --opt-shape and --max-shape together"
            )
    return (shapes,)


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of a text like "500x375": width first, as sizes of images are written."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise SettingsError(f"{text!r} is no size; write WIDTHxHEIGHT, for example 500x375")
    return int(height), int(width)


def measured(folder: Path, recipe: Recipe) -> Shapes:
    """The profile of the images in a folder: the commonest size between the smallest and largest sides."""
    from collections import Counter

    from fcnseg.io.sources import open_source

    source = open_source(folder, recipe.modalities[:1])
    sizes = Counter(size for found in source if not isinstance(found, Failure) and (size := source.size(found)))
    if not sizes:
        raise SettingsError(f"no image in {folder} can be measured; name another folder with --profile-from")
    heights, widths = [h for h, _ in sizes], [w for _, w in sizes]
    return Shapes(
        (min(heights), min(widths)), sizes.most_common(1)[0][0], (max(heights), max(widths)), recipe.shapes.max_batch
    )


def verify_engine(file: Path, hooks: BuildHooks | None = None) -> Sidecar:
    """Check an engine's file, compare it again with the network it was built from, and record that; returns the new
    record, whose `verification` is None (and `note` says why) where no device here runs the engine.

    Raises EngineError if anything is wrong, and the errors of reading the recipe and the weights.
    """
    from fcnseg.engine.build import runs_here
    from fcnseg.engine.cache import writing
    from fcnseg.engine.identity import weights_hash
    from fcnseg.engine.load import model_of, open_built
    from fcnseg.engine.record import trusted, write_sidecar
    from fcnseg.engine.runtimes.pytorch import TorchEngine
    from fcnseg.engine.verify import FLOORS, Reference, verify

    hooks = hooks or BuildHooks()
    sidecar = trusted(file)
    identity, before = sidecar.identity, sidecar.verification
    if not runs_here(identity):
        return replace(sidecar, verification=None, note=f"not verifiable here: {identity.backend} needs an NVIDIA GPU")
    recipe, weights = find_recipe(model_of(file)), Path(sidecar.weights_source)
    if weights_hash(weights) != identity.weights:
        raise EngineError(f"the weights it was built from have changed since ({weights}); build it again")
    images = images_for(recipe, [])
    device = "cpu" if identity.backend == "openvino" else "cuda"
    with TorchEngine(recipe, weights, device) as network, open_built(recipe, file, proved=False) as engine:
        found = verify(
            engine,
            Reference(network, recipe, images.inputs),
            identity.shapes,
            floor=before.floor if before else FLOORS[identity.precision],
            images=images.name,
            probabilities=engine if identity.probabilities else None,
            on_progress=hooks.on_progress,
        )
    sidecar = replace(sidecar, verification=found)
    with writing(file):
        write_sidecar(file, sidecar)
    if not found.held:
        raise EngineError(f"it does not give the network's labels on {found.floor:.2%} of the pixels: {found.worst}")
    return sidecar


def export_model(model: str, out: Path, *, weights: Path | None = None, probabilities: str | None = None) -> list[str]:
    """Write a model's graph as ONNX (see `engine.export.export_onnx`); returns a line for each input and output."""
    from fcnseg.engine.export import export_onnx
    from fcnseg.engine.graph import LabelGraph
    from fcnseg.engine.runtimes.common import output_names
    from fcnseg.weights.loading import load_whole_network

    if probabilities not in (None, "float32", "float16"):
        raise SettingsError(f"probabilities of type {probabilities!r} are unknown; use float32 or float16")
    recipe = find_recipe(model)
    loaded = load_whole_network(recipe, weights)
    export_onnx(
        LabelGraph(loaded.network, recipe, probabilities, skip_margins=True).eval(),
        out,
        weights_sha256=loaded.weights_sha256,
    )
    inputs = [f"{m}: {'float32' if m == 'depth' else 'uint8'}, N x H x W x {MODALITIES[m]}" for m in recipe.modalities]
    labels = [f"{h.name}: {'uint8' if h.labels.classes <= 256 else 'uint16'}, N x H x W" for h in recipe.heads]
    names = output_names(recipe, True)[len(labels) :] if probabilities else ()
    values = [
        f"{name}: {probabilities}, N x {head.labels.classes} x H x W"
        for name, head in zip(names, recipe.heads, strict=bool(names))
    ]
    return [*(f"input   {line}" for line in inputs), *(f"output  {line}" for line in labels + values)]
