"""A run: the inputs of a source become label maps, and records of what became of each input.

options -> preflight (listing, disk_space) -> outputs (sinks) -> resume (ledger) -> pipeline -> finish
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from fcnseg.engine.load import model_of
from fcnseg.engine.options import EngineOptions
from fcnseg.recipes import DEFAULT_MODEL, find_recipe
from fcnseg.running.disk_space import EvenSample
from fcnseg.running.finish import finish
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.outputs import Outputs
from fcnseg.running.preflight import check_space, open_inputs, survey_inputs
from fcnseg.running.resume import open_ledger
from fcnseg.running.setup import engine_of, pipeline_of, predictor_of
from fcnseg.types import AnyPath, Summary, optional_path


def run(
    source: AnyPath,
    out: AnyPath,
    *,
    model: str | None = None,
    weights: AnyPath | None = None,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    engine: AnyPath | None = None,
    calibrate: AnyPath | None = None,
    companions: Mapping[str, AnyPath] | None = None,
    glob: str | None = None,
    layout: str = "auto",
    probabilities: AnyPath | None = None,
    probabilities_dtype: str = "float16",
    top_k: int | None = None,
    overlay: AnyPath | None = None,
    opacity: float = 0.5,
    colour_png: AnyPath | None = None,
    mask: tuple[str, AnyPath] | None = None,
    cutout: tuple[str, AnyPath] | None = None,
    classes: str | None = None,
    yolo: AnyPath | None = None,
    stats: AnyPath | None = None,
    polygons: AnyPath | None = None,
    polygon_tolerance: float | None = None,
    sinks: Mapping[str, AnyPath] | None = None,
    tile: str | int = "auto",
    batch: int | None = None,
    workers: int | None = None,
    max_pixels: int | None = None,
    resume: str = "auto",
    retry_failed: bool = False,
    max_failures: int | None = None,
    num_parts: int = 1,
    part_id: int = 0,
    space_check: bool = True,
    storage_options: Mapping[str, str] | None = None,
    on: str | None = None,
    ray_address: str | None = None,
    shard_images: int | None = None,
    out_format: str = "files",
    hooks: Hooks | None = None,
) -> Summary:
    """Segment every image of a source, and write a label map for each.

    `source` is a folder, an image, a list of paths, an archive, or `FILE.h5::/dataset`. Label maps are indexed PNGs
    H x W of the image's own size, uint8 (uint16 above 256 classes), in a tree under `out` that mirrors the source; or,
    if `out` ends in .h5, one HDF5 file. `source` and `out` may be URLs (`s3://bucket/masks`), and `on="ray"` runs on a
    cluster. The same call again goes on where an earlier one was stopped.

    The other arguments are the fields of `fcnseg.EngineOptions` (`model` to `calibrate`) and `fcnseg.RunOptions`, which
    explain them. `model` None: the one of `engine`, else street-fcn8s.

    Returns counts, the first failures, and times. An image that fails is a record and ends nothing. Raises
    SettingsError for options, SourceError without inputs, EngineError if the model cannot run here, OutputError if
    outputs cannot be written.

    >>> import fcnseg
    >>> summary = fcnseg.run("photos", "masks", backend="torch", device="cpu")
    >>> f"{summary.done} label maps, {summary.failed} failed"
    '2 label maps, 0 failed'
    """
    engine_file = optional_path(engine)
    model = model or (model_of(engine_file) if engine_file else DEFAULT_MODEL)
    engine_options = EngineOptions(
        model, optional_path(weights), backend, device, precision, engine_file, optional_path(calibrate)
    )
    options = RunOptions(
        source=source if isinstance(source, str) else Path(source),
        out=os.fspath(out),
        engine=engine_options,
        companions={
            name: place if isinstance(place, str) else Path(place) for name, place in (companions or {}).items()
        },
        glob=glob,
        layout=layout,
        probabilities=None if probabilities is None else os.fspath(probabilities),
        probabilities_dtype=probabilities_dtype,
        top_k=top_k,
        overlay=None if overlay is None else os.fspath(overlay),
        opacity=opacity,
        colour_png=None if colour_png is None else os.fspath(colour_png),
        mask=None if mask is None else (mask[0], os.fspath(mask[1])),
        cutout=None if cutout is None else (cutout[0], os.fspath(cutout[1])),
        classes=classes,
        yolo=None if yolo is None else os.fspath(yolo),
        stats=None if stats is None else os.fspath(stats),
        polygons=None if polygons is None else os.fspath(polygons),
        polygon_tolerance=polygon_tolerance,
        sinks={text: os.fspath(place) for text, place in (sinks or {}).items()},
        tile=tile,
        batch=batch,
        workers=workers,
        max_pixels=max_pixels,
        resume=resume,
        retry_failed=retry_failed,
        max_failures=max_failures,
        num_parts=num_parts,
        part_id=part_id,
        space_check=space_check,
        storage_options=dict(storage_options or {}),
        on=on,
        ray_address=ray_address,
        shard_images=shard_images,
        out_format=out_format,
    )
    return run_with(options, hooks)


def run_with(options: RunOptions, hooks: Hooks | None = None) -> Summary:
    """Do what `run` does, with the options as one value."""
    hooks = hooks or Hooks()
    if options.is_sharded:
        from fcnseg.running.sharded.run import run_in_shards  # obstore and pyarrow, which need not be installed

        return run_in_shards(options, hooks)
    recipe = find_recipe(options.engine.model)
    with ExitStack() as stack:
        source = stack.enter_context(open_inputs(options, recipe))
        outputs, sample = Outputs(options, recipe), EvenSample()
        listing = survey_inputs(source, outputs, hooks, sample.add)
        total = listing.parts[options.part_id]
        if options.space_check:
            check_space(source, outputs, sample, total, hooks)
        engine = stack.enter_context(engine_of(options, hooks))
        predictor = predictor_of(options, recipe, engine)
        outputs.make()
        ledger = stack.enter_context(open_ledger(recipe, engine.info, source, outputs, hooks))
        ledger.note(listed=listing.parts, left_out=listing.left_out, listed_at=time.time(), ended=None)
        hooks.on_start(total, engine.info)
        if listing.left_out:
            hooks.on_left_out(listing.left_out)
        summary = pipeline_of(source, predictor, outputs, ledger, hooks, total).run()
        summary.left_out = listing.left_out
        finish(engine.info, source, outputs, ledger, summary, hooks.on_note)
    return summary
