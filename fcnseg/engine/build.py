"""Return a cached engine, or build one in a subprocess.

Building takes torch, the exporter and several times the model's size in memory. The process that asks keeps free of all
that, starts fast when the engine is cached, and can end a build at any moment by ending the subprocess (`builder`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fcnseg import errors
from fcnseg.engine import cache, lookup
from fcnseg.engine.options import BuildHooks, EngineOptions
from fcnseg.engine.record import EngineRecord, read_record
from fcnseg.engine.request import EngineRequest, backend_for, request_engine
from fcnseg.engine.select import candidate_precisions
from fcnseg.engine.sizes import measured_shapes, shapes_of
from fcnseg.errors import EngineError, OutputError, SettingsError
from fcnseg.io.atomic import PART
from fcnseg.recipes import DEFAULT_MODEL, find_recipe
from fcnseg.types import AnyPath, optional_path
from fcnseg.workers.json_job import run_job


class BuiltEngine(NamedTuple):
    """An engine file and its record."""

    path: Path
    record: EngineRecord


def build_engine(
    model: str = DEFAULT_MODEL,
    *,
    weights: AnyPath | None = None,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    calibrate: AnyPath | None = None,
    companions: Mapping[str, AnyPath] | None = None,
    min_shape: str | None = None,
    opt_shape: str | None = None,
    max_shape: str | None = None,
    max_batch: int | None = None,
    profile_from: AnyPath | None = None,
    probabilities: bool = False,
    min_agreement: float | None = None,
    out: AnyPath | None = None,
    force: bool = False,
    hooks: BuildHooks | None = None,
) -> BuiltEngine:
    """Return a verified engine of a model for this machine: from the cache, else built.

    `model` is a shipped model's name or a recipe file. `calibrate` is a folder of typical images for int8, `companions`
    maps "depth" or "hha" to the folders that go with it. The sizes it is built for are those of the recipe unless
    `min_shape`, `opt_shape` (the size to be fastest at) and `max_shape`, texts like "500x375", state others, or
    `profile_from` names a folder of images to measure. `probabilities`: it gives class probabilities too.
    `min_agreement` (0..1) replaces the share of pixels that must get the fp32 network's label. With `out` the engine
    is written there instead of into the cache; `force` builds in any case.

    Raises SettingsError for options that do not fit, EngineError if the engine cannot be built here or differs from the
    fp32 network on too many pixels, WeightsError if there are no weights.

    >>> import fcnseg
    >>> engine = fcnseg.build_engine("street-fcn8s", precision="fp32", min_shape="64x64", max_shape="500x375")
    >>> engine.record.verification.agreement > 0.9999
    True
    """
    hooks = hooks or BuildHooks()
    target = optional_path(out)
    options = EngineOptions(
        model, optional_path(weights), backend, device, precision, calibrate=optional_path(calibrate)
    )
    if target and target.is_dir():
        raise SettingsError(f"--out {target} is a folder; name the engine's file")
    if companions and not options.calibrate:
        raise SettingsError(f"--{' and --'.join(companions)} go with --calibrate DIR; give it too, or leave them out")
    backend, reason = backend_for(options)
    if backend == "torch":
        raise SettingsError(f"torch ({reason}) runs the network as it is and needs no engine; use another --backend")
    recipe = find_recipe(model)
    start = measured_shapes(Path(profile_from), recipe) if profile_from else recipe.shapes
    request = request_engine(
        options,
        backend,
        shapes=(shapes_of(start, min_shape, opt_shape, max_shape, max_batch),),
        probabilities=probabilities,
        companions={name: Path(folder) for name, folder in (companions or {}).items()},
        min_agreement=min_agreement,
    )
    if precision != "auto":
        file = ensure_engine(request, hooks, out=target, force=force)
    else:
        candidates = candidate_precisions(backend, calibrate=options.calibrate is not None, on_note=hooks.on_note)
        file = fastest_engine(request, candidates, hooks, force=force)
        if target:
            cache.copy_engine(file, target)
    return BuiltEngine(target or file, read_record(target or file))


def ensure_engine(
    request: EngineRequest,
    hooks: BuildHooks,
    *,
    out: Path | None = None,
    force: bool = False,
    require_verified: bool = True,
) -> Path:
    """Return the file of the engine that is asked for: from the cache, else built, verified and cached (or as `out`).

    `force` builds in any case. Raises EngineError if it cannot be built or does not give the network's labels, and the
    errors of reading weights and images. Unless `require_verified`, for measurements, an engine that does not give them
    is set aside in the cache and returned.
    """
    fresh = force or out is not None

    def cached() -> Path | None:
        return None if fresh else lookup.find_engine(request, require_verified=require_verified)

    if path := cached():
        return path
    with cache.building([request.identity], hooks.on_note):
        if path := cached():  # built by another process meanwhile
            return path
        if require_verified and not fresh and (reason := lookup.rejection(request)):
            raise EngineError(f"{reason}; use a higher precision, or `fcnseg build-engine --force`")
        if request.precision == "int8" and not request.calibration:
            raise SettingsError("int8 needs images to calibrate on; name a folder of typical ones with --calibrate DIR")
        failed = _build([request], hooks, BuildTarget(out, fresh, not require_verified))
        path = None
        if failed and (require_verified or not (path := lookup.find_engine(request, require_verified=False))):
            raise EngineError(failed[request.precision])
    return path or out or cache.engine_path(request.identity)


def fastest_engine(
    request: EngineRequest, precisions: Sequence[str], hooks: BuildHooks, *, force: bool = False
) -> Path:
    """Return the file of the fastest engine, among those precisions, that gives the network's labels on this machine.

    Those not tried yet (with `force` all) are built and compared first; what cannot be built is noted and remembered.
    Raises EngineError, with every reason, if none is left.
    """
    requests = {precision: replace(request, precision=precision) for precision in precisions}

    def untried() -> list[EngineRequest]:
        return [r for r in requests.values() if force or not (lookup.find_recorded(r) or lookup.failure(r))]

    failed: dict[str, str] = {}
    if untried():
        with cache.building([r.identity for r in requests.values()], hooks.on_note):
            if to_build := untried():
                failed = _build(to_build, hooks, BuildTarget(fresh=force))
                for precision, reason in failed.items():
                    hooks.on_note(f"{precision} is left out: {reason}")
    engines = {p: path for p, r in requests.items() if (path := lookup.find_recorded(r))}
    if not engines:
        reasons = "; ".join(f"{p}: {failed.get(p) or lookup.failure(r)}" for p, r in requests.items())
        raise EngineError(
            f"no {request.backend} engine of {request.model} can be had here ({reasons}); "
            "`fcnseg build-engine --force` tries again"
        )
    fastest = min(engines, key=lambda precision: _seconds_per_pixel(engines[precision]))
    return ensure_engine(requests[fastest], hooks)  # built again if its bytes are not intact


def _seconds_per_pixel(engine: Path) -> float:
    """The time of an image of its typical size, which differs from engine to engine."""
    record = read_record(engine)
    height, width = record.identity.shapes[0].typical
    return record.verification.typical_seconds / (height * width) if record.verification else float("inf")


# ---------------------------------------------------------------------- the subprocess


@dataclass(frozen=True)
class BuildTarget:
    """The destination of a build: `out`, or the cache if None. `fresh`: it was asked for whatever is cached.
    `keep_rejected`: an engine that fails its verification is set aside instead of deleted."""

    out: Path | None = None
    fresh: bool = False
    keep_rejected: bool = False


def _build(requests: Sequence[EngineRequest], hooks: BuildHooks, target: BuildTarget) -> dict[str, str]:
    """Build engines that differ in precision alone; returns the reason of each failure by precision.

    A failure is recorded, so that it is not tried at every run; the death of the subprocess and what the device is to
    blame for (its driver, its memory), which another run may be spared, are not. However that ends, the subprocess has
    ended and its unfinished files are gone.
    """
    first = requests[0]
    reason = "asked for" if target.fresh else lookup.reason_to_build(first.identity)
    names = " and ".join(request.precision for request in requests)
    hooks.on_note(f"building {first.recipe.name} for {first.backend}, {names}: {reason}")
    outcomes: dict[str, _Outcome] = {}
    while left := [request for request in requests if request.precision not in outcomes]:
        with _work_folder((target.out or cache.engine_path(first.identity)).parent) as work:
            job = {
                "requests": [request.as_json() for request in left],
                "out": target.out,
                "work": work,
                "keep_rejected": target.keep_rejected,
            }
            hooks.on_progress("starting the builder", 0.0)
            death = run_job("fcnseg.engine.builder", job, lambda message: _take_message(message, hooks, outcomes))
        if culprit := next((request.precision for request in left if request.precision not in outcomes), None):
            outcomes[culprit] = _Outcome(
                f"the process that builds the engine died: {death or 'it said nothing'}; free some memory or use "
                "--backend torch"
            )
    for request in requests:
        outcome = outcomes[request.precision]
        if target.out is None and outcome.lasting:
            lookup.record_failure(request.identity, outcome.failure)
    return {precision: outcome.failure for precision, outcome in outcomes.items() if outcome.failure}


class _Outcome(NamedTuple):
    """The end of one build: why it failed, "" if it did not, and whether it would fail again."""

    failure: str
    lasting: bool = False


@contextmanager
def _work_folder(folder: Path) -> Iterator[str]:
    """Make a folder for unfinished files beside what they become, gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=folder, prefix=PART, ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"cannot keep engines in {folder}: {error.strerror}; mend that, or set FCNSEG_HOME to a folder of yours"
        ) from error
    with work as name:
        yield name


def _take_message(message: Mapping[str, Any], hooks: BuildHooks, outcomes: dict[str, _Outcome]) -> None:
    """Handle one message of the subprocess: an error to raise, the outcome of a precision, or progress."""
    if "error" in message:
        kind = getattr(errors, message["error"])
        raise kind(message["message"])
    if "precision" in message:
        outcomes[message["precision"]] = _Outcome(message["outcome"], message["lasting"])
    else:
        hooks.on_progress(message["phase"], message["fraction"])
