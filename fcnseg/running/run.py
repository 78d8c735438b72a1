"""A run: a source, a model and an output folder become a flow, a ledger and a record. See `api.run`."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fcnseg.engine.open import engine_from
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.running.finish import finish
from fcnseg.running.options import Hooks, RunOptions
from fcnseg.running.outputs import Outputs, blank_info
from fcnseg.running.preflight import check_space, open_inputs, survey_inputs
from fcnseg.running.resume import open_ledger
from fcnseg.types import Summary

if TYPE_CHECKING:
    from fcnseg.running.ledger import Ledger
    from fcnseg.running.predictor import Predictor
    from fcnseg.types import Engine, Source

__all__ = ["Hooks", "RunOptions", "engine_of", "flow", "predictor_of", "run"]


def run(options: RunOptions, hooks: Hooks | None = None) -> Summary:
    """Bring every input of a source (or of one part of it) to an end. Errors before the first image raise; afterwards
    each image that fails is a record. The records are in `.fcnseg/` in the output folder."""
    from fcnseg.running.disk_space import Sample

    hooks = hooks or Hooks()
    recipe = find_recipe(options.engine.model)
    with ExitStack() as stack:
        source = open_inputs(options, recipe)
        stack.callback(source.close)
        sample = Sample()
        outputs = Outputs(options, blank_info(recipe))
        listing = survey_inputs(options, source, outputs, hooks, sample.add)
        if options.space_check:
            check_space(source, outputs, sample, listing.parts[options.part_id], hooks)
        engine = stack.enter_context(engine_of(options, hooks))
        predictor = predictor_of(options, recipe, engine)
        outputs = Outputs(options, engine.info)
        outputs.make()
        ledger = stack.enter_context(open_ledger(options, recipe, engine.info, source, outputs, hooks))
        ledger.note(listed=listing.parts, listed_at=time.time(), ended=None)
        total = listing.parts[options.part_id]
        hooks.on_start(total, engine.info)
        summary = flow(options, source, predictor, outputs, ledger, hooks, total)
        finish(options, engine.info, source, outputs, ledger, summary)
    return summary


def engine_of(options: RunOptions, hooks: Hooks) -> Engine:
    """The engine of a run, not entered yet."""
    return engine_from(
        options.engine,
        hooks.build,
        probabilities=options.probabilities is not None,
        companions={name: Path(folder) for name, folder in options.companions.items()},
    )


def predictor_of(options: RunOptions, recipe: Recipe, engine: Engine) -> Predictor:
    """The engine, for images of any size. Raises SettingsError for tiles that are too small."""
    from fcnseg.running.predictor import Predictor

    probabilities = options.probabilities is not None
    return Predictor(engine, recipe, probabilities=probabilities, tile=options.tile, batch=options.batch)


def flow(
    options: RunOptions,
    source: Source,
    predictor: Predictor,
    outputs: Outputs,
    ledger: Ledger,
    hooks: Hooks,
    total: int,
) -> Summary:
    """Run the pipeline."""
    from fcnseg.running.pipeline import FlowHooks, FlowOptions, process

    workers = options.workers or min(8, os.cpu_count() or 1)
    return process(
        source,
        predictor,
        outputs.sinks,
        ledger,
        total=total,
        options=FlowOptions(
            workers=workers,
            writers=workers,
            part=outputs.part,
            retry_failed=options.retry_failed,
            replace=bool(ledger.fact("replace")),
            max_failures=options.max_failures,
        ),
        hooks=FlowHooks(hooks.on_result, hooks.on_kept, hooks.on_stages, hooks.on_failed_before),
    )
