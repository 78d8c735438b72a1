"""What the commands call: load a model, segment images, run a folder. Engines: see `fcnseg.deploy`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fcnseg.building import BuildHooks
from fcnseg.deploy import DEFAULT_MODEL, EngineOptions, open_engine
from fcnseg.errors import OutputError, SettingsError
from fcnseg.files import whole_file
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.types import Engine, EngineInfo, Failure, Frame, Prediction, Summary

if TYPE_CHECKING:
    from fcnseg.stream.sources import FileSource

RECORDS = ".fcnseg"
"""The folder for records inside an output folder."""


@dataclass(frozen=True)
class RunOptions:
    """Everything about a run that its results may depend on; written beside the output as `run.json`."""

    source: Path
    out: Path
    engine: EngineOptions = field(default_factory=EngineOptions)
    companions: Mapping[str, Path] = field(default_factory=dict)
    glob: str | None = None
    probabilities: Path | None = None
    probabilities_dtype: str = "float16"
    workers: int | None = None
    max_pixels: int | None = None
    overwrite: bool = False


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
            self._engines[probabilities] = open_engine(self._options, probabilities=probabilities).__enter__()
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
        from fcnseg.stream.decoding import pixels_of
        from fcnseg.stream.pipeline import predict

        key = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
        return predict(self._engine(probabilities), Frame(str(key), {"color": pixels_of(image)}), probabilities)

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


@dataclass(frozen=True)
class Hooks:
    """What a caller may listen to: the building of an engine, the number of images and the engine before the start,
    each image as it ends."""

    build: BuildHooks = field(default_factory=BuildHooks)

    on_start: Callable[[int, EngineInfo], None] = lambda total, info: None
    on_result: Callable[[str, Failure | None], None] = lambda key, failure: None


def run(options: RunOptions, hooks: Hooks | None = None) -> Summary:
    """Segment every image of a source into a folder of label maps. Errors before the first image raise; afterwards
    each image that fails is a record in the summary. `.fcnseg/run.json` in the output folder says what was done."""
    from fcnseg.stream.decoding import MAX_PIXELS, allow_pixels
    from fcnseg.stream.pipeline import process
    from fcnseg.stream.sinks import LabelPngSink, NpyProbabilitySink
    from fcnseg.stream.sources import open_source

    hooks = hooks or Hooks()
    if options.probabilities_dtype not in ("float16", "float32"):
        raise SettingsError(f"probabilities dtype {options.probabilities_dtype!r} is unknown; use float16 or float32")
    recipe = find_recipe(options.engine.model)
    max_pixels = options.max_pixels or MAX_PIXELS
    allow_pixels(max_pixels)
    outputs = [options.out, *([options.probabilities] if options.probabilities else [])]
    for folder in outputs:
        _check_folder(folder)
    source = open_source(
        options.source,
        recipe.modalities,
        options.companions,
        pattern=options.glob,
        exclude=tuple(outputs),
        max_pixels=max_pixels,
    )
    _check_outputs(source, recipe, options)
    opened = open_engine(
        options.engine, hooks.build, probabilities=options.probabilities is not None, companions=options.companions
    )
    with opened as engine:
        for folder in outputs:
            _make_writable(folder)
        sinks: list[LabelPngSink | NpyProbabilitySink] = [LabelPngSink(options.out, engine.info)]
        if options.probabilities:
            sinks.append(NpyProbabilitySink(options.probabilities, engine.info, options.probabilities_dtype))
        hooks.on_start(len(source), engine.info)
        summary = process(
            source,
            engine,
            sinks,
            probabilities=options.probabilities is not None,
            workers=options.workers or min(8, os.cpu_count() or 1),
            on_result=hooks.on_result,
        )
        _write_record(options, engine.info, summary)
    return summary


def _check_folder(folder: Path) -> None:
    """Refuse a file where a folder should be."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file, but the output goes to a folder; give another path")


def _check_outputs(source: FileSource, recipe: Recipe, options: RunOptions) -> None:
    """Refuse, before any work, outputs that would overwrite one another, an input, or files of someone else."""
    from fcnseg.stream.sinks import colliding_keys, output_name

    collisions = colliding_keys(source.keys)
    if collisions:
        shown = ", ".join(f"{a} and {b}" for a, b in collisions[:3])
        more = f" and {len(collisions) - 3} more pairs" if len(collisions) > 3 else ""
        raise SettingsError(f"these inputs would write one output: {shown}{more}; rename one, or choose with --glob")
    heads = [head.name for head in recipe.heads] if len(recipe.heads) > 1 else [None]
    targets = (options.out / output_name(key, ".png", head) for key in source.keys for head in heads)
    existing = [target for target in targets if target.exists()]
    inputs = {os.path.realpath(path) for path in source.keys.values()} if existing else set()
    for target in existing:
        if os.path.realpath(target) in inputs:
            raise SettingsError(f"the output {target} would replace an input; give another --out")
    if existing and not options.overwrite and not (options.out / RECORDS).is_dir():
        raise SettingsError(
            f"{existing[0]} exists and no run of fcnseg made {options.out}; use --overwrite to replace it"
        )


def _make_writable(folder: Path) -> None:
    try:
        (folder / RECORDS).mkdir(parents=True, exist_ok=True)
        probe = folder / RECORDS / f"probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; check its permissions and space") from error


def _write_record(options: RunOptions, info: EngineInfo, summary: Summary) -> None:
    """`.fcnseg/run.json`: the resolved settings, the engine, the counts and every failure."""
    engine = asdict(info)
    engine["heads"] = {name: list(space["names"]) for name, space in engine["heads"].items()}
    record = {"settings": asdict(options), "engine": engine, "summary": asdict(summary)}
    with whole_file(options.out / RECORDS / "run.json") as file:
        file.write(json.dumps(record, indent=2, default=str).encode())
