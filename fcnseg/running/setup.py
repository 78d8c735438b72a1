"""Setting up a run: its engine, predictor and pipeline, by its options."""

from __future__ import annotations

import os
from pathlib import Path

from fcnseg.engine.open import engine_from
from fcnseg.io.images import MAX_PIXELS
from fcnseg.io.urls import is_url, local_path, plugin_scheme
from fcnseg.recipes import Recipe
from fcnseg.running.class_choice import keeping
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.outputs import Outputs
from fcnseg.running.pipeline import Pipeline
from fcnseg.running.predictor import Predictor
from fcnseg.running.short_side import ShortSide
from fcnseg.types import Engine, Ledger, Source
from fcnseg.workers.limits import usable_cores

MOST_THREADS = 8
"""The most threads that decode, and that write, unless more are asked for."""

THREADS_THAT_WAIT = 16
"""The same where images or outputs are in object storage: these mostly wait for its answers."""


def engine_of(options: RunOptions, hooks: Hooks) -> Engine:
    """Return the engine of a run, not entered yet."""
    companions = {name: local_path(os.fspath(place)) for name, place in options.companions.items()}
    return engine_from(
        options.engine,
        hooks.build,
        probabilities=options.probabilities is not None or options.resize_short is not None,
        companions={name: Path(folder) for name, folder in companions.items() if not is_url(folder)},
        batch=options.batch,
    )


def predictor_of(options: RunOptions, recipe: Recipe, engine: Engine) -> Predictor:
    """Return a predictor for images of any size. Raises SettingsError for tiles that are too small."""
    probabilities = options.probabilities is not None
    short_side = None
    if options.resize_short:
        short_side = ShortSide(options.resize_short, probabilities, options.max_pixels or MAX_PIXELS)
    return Predictor(
        engine, recipe, probabilities=probabilities, tile=options.tile, batch=options.batch, short_side=short_side
    )


def threads_of(options: RunOptions) -> int:
    """Return the number of threads that decode, and of those that write."""
    source = local_path(os.fspath(options.source))
    remote = (is_url(source) and not plugin_scheme(source)) or is_url(options.out)
    return options.workers or (THREADS_THAT_WAIT if remote else min(MOST_THREADS, usable_cores()))


def pipeline_of(
    source: Source, predictor: Predictor, outputs: Outputs, ledger: Ledger, hooks: Hooks, total: int
) -> Pipeline:
    """Return the pipeline of a run, ready to start."""
    options = outputs.options
    return Pipeline(
        source,
        predictor,
        outputs.sinks(predictor.engine.info),
        ledger,
        outputs.part,
        total,
        workers=threads_of(options),
        retry_failed=options.retry_failed,
        replace=bool(ledger.fact("replace")),
        max_failures=options.max_failures,
        hooks=hooks,
        keep=keeping(options.classes, outputs.heads),
        tables=outputs.table_makers(predictor.engine.info),
    )
