"""Engines when they are needed: found in the cache, or built by a process of their own.

Building takes torch, the exporter and several times the model's size in memory; the process that asked keeps free of
all that, starts fast when the engine is there, and can end the work at any moment by ending that process.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnseg import errors
from fcnseg.engine import cache
from fcnseg.engine.identity import identify
from fcnseg.engine.record import Identity, read_sidecar, shapes_from_json, trusted
from fcnseg.engine.verify import FLOORS, meets
from fcnseg.errors import EngineError, FcnsegError, ImageError, OutputError, SettingsError
from fcnseg.io.atomic import PART
from fcnseg.recipes import Recipe, Shapes, find_recipe, recipe_folder
from fcnseg.workers.json_job import Tell, begin_job, run_job

if TYPE_CHECKING:
    from fcnseg.engine.build import Images
    from fcnseg.types import Pixels

CALIBRATION_IMAGES = 32
"""How many images int8 is calibrated on: evenly spaced ones of those in the folder."""


@dataclass(frozen=True)
class EngineRequest:
    """A compiled engine that somebody wants. `shapes` empty: the recipe's. `calibrate` maps modalities to folders of
    images like those the engine will see; `floor` replaces the share of pixels that must have the network's labels."""

    model: str
    weights: Path | None
    backend: str
    precision: str
    shapes: tuple[Shapes, ...] = ()
    probabilities: bool = False
    calibrate: Mapping[str, Path] = field(default_factory=dict)
    floor: float | None = None


@dataclass(frozen=True)
class BuildHooks:
    """What a caller may listen to: one line before a build, and its progress (phase, 0..1)."""

    on_note: Callable[[str], None] = lambda line: None
    on_progress: Callable[[str, float], None] = lambda phase, fraction: None


def ensure_engine(
    request: EngineRequest, hooks: BuildHooks, *, out: Path | None = None, force: bool = False, proved: bool = True
) -> Path:
    """The file of the engine that was asked for: from the cache if it is there whole, else built, verified and kept
    (as `out` if given). `force` builds in any case.

    Raises EngineError if it cannot be built or does not give the network's labels, and the errors of reading weights
    and images. Without `proved`, for measurements, one that does not give them is kept aside and returned.
    """
    wanted = _Wanted(request)
    fresh = force or out is not None
    if found := None if fresh else wanted.kept(proved):
        return found
    with cache.building([wanted.identity], hooks.on_note):
        if found := None if fresh else wanted.kept(proved):  # built by another process meanwhile
            return found
        if proved and not fresh and (bad := wanted.rejection()):
            raise EngineError(f"{bad}; use a higher precision, or `fcnseg build-engine --force`")
        if request.precision == "int8" and not request.calibrate:
            raise SettingsError("int8 needs images to calibrate on; name a folder of typical ones with --calibrate DIR")
        failed = _build([wanted], hooks, out, fresh=fresh, keep_rejected=not proved)
        if failed and (proved or not (found := wanted.kept(proved))):
            raise EngineError(failed[request.precision])
    return found or out or cache.engine_path(wanted.identity)


def fastest_engine(
    request: EngineRequest, precisions: Sequence[str], hooks: BuildHooks, *, force: bool = False
) -> Path:
    """The file of the fastest engine, among those precisions, that gives the network's labels on this machine.

    Those not tried yet (with `force` all) are built and compared first; what cannot be built is noted and remembered.
    Raises EngineError, with every reason, if none is left.
    """
    images = _calibration_files(find_recipe(request.model), request.calibrate)
    wanted = {p: _Wanted(replace(request, precision=p), images) for p in precisions}

    def missing() -> list[_Wanted]:
        return [w for w in wanted.values() if force or not (w.recorded() or w.failure())]

    if missing():
        with cache.building([w.identity for w in wanted.values()], hooks.on_note):
            if to_build := missing():
                for precision, reason in _build(to_build, hooks, fresh=force).items():
                    hooks.on_note(f"{precision} is left out: {reason}")
    found = {p: path for p, w in wanted.items() if (path := w.recorded())}
    if not found:
        reasons = "; ".join(f"{p}: {w.failure() or cache.failure(w.identity)}" for p, w in wanted.items())
        raise EngineError(
            f"no {request.backend} engine of {request.model} gives the network's labels here ({reasons}); "
            "`fcnseg build-engine --force` tries again"
        )
    fastest = min(found, key=lambda p: _seconds_per_pixel(found[p]))
    return ensure_engine(replace(request, precision=fastest), hooks)  # built again if its bytes are not whole


def _seconds_per_pixel(engine: Path) -> float:
    """Of an image of its typical size, which differs from engine to engine."""
    sidecar = read_sidecar(engine)
    height, width = sidecar.identity.shapes[0].typical
    return sidecar.verification.typical_seconds / (height * width) if sidecar.verification else float("inf")


def example_images() -> list[Path]:
    """The photographs that come with fcnseg."""
    inside = Path(__file__).parents[1] / "examples"
    folder = inside if inside.is_dir() else recipe_folder().parent / "examples" / "street" / "images"
    return sorted(folder.glob("*.jpg"))


class _Wanted:
    """A request with what follows from it: the recipe, the calibration images' files, the engine's identity and the
    share of pixels that must have the network's labels."""

    def __init__(self, request: EngineRequest, images: Sequence[Mapping[str, Path]] | None = None) -> None:
        self.request = request
        self.recipe = find_recipe(request.model)
        self.images = _calibration_files(self.recipe, request.calibrate) if images is None else images
        self.identity = identity_of(self.recipe, request, self.images)
        self.floor = FLOORS[request.precision] if request.floor is None else request.floor

    def recorded(self, proved: bool = True) -> Path | None:
        """A kept engine with a record that says it may be used; its bytes are not looked at."""
        kept = cache.kept(self.identity, any_shapes=not self.request.shapes, any_calibration=not self.request.calibrate)
        return next((path for path, s in kept if not proved or meets(s.verification, self.floor)), None)

    def kept(self, proved: bool) -> Path | None:
        """A kept engine whose bytes are what was built; without `proved` also one that was rejected."""
        path = self.recorded(proved)
        aside = cache.engine_path(self.identity, cache.REJECTED)
        return (path and _whole(path)) or (None if proved else _whole(aside))

    def rejection(self) -> str:
        """What an earlier comparison with the network found, if that counts for this floor too; else ""."""
        found = cache.rejected(self.identity)
        if found is None or found.floor > self.floor:
            return ""
        return (
            f"an earlier build of {self.recipe.name} in {self.request.precision} did not give the network's labels, "
            f"worst at {found.worst}"
        )

    def failure(self) -> str:
        """Why an earlier build gave no engine; "" if there was none, or if it might now."""
        return self.rejection() or ("" if cache.rejected(self.identity) else cache.failure(self.identity))


def _whole(path: Path) -> Path | None:
    with suppress(EngineError):
        trusted(path)
        return path
    return None


def identity_of(recipe: Recipe, request: EngineRequest, images: Sequence[Mapping[str, Path]]) -> Identity:
    """What the engine of a request, calibrated on those files, is built from."""
    digest = hashlib.sha256()
    if request.precision == "int8":
        for files in images:
            for modality in sorted(files):
                digest.update(hashlib.sha256(files[modality].read_bytes()).digest())
    return identify(
        recipe,
        request.weights,
        request.backend,
        request.precision,
        shapes=request.shapes,
        probabilities=request.probabilities,
        calibration=digest.hexdigest() if images else None,
    )


def _calibration_files(recipe: Recipe, folders: Mapping[str, Path]) -> list[dict[str, Path]]:
    """The files of each calibration image by modality, evenly spaced over the folder."""
    from fcnseg.io.sources import open_source
    from fcnseg.types import Failure

    if not folders:
        return []
    companions = {m: folder for m, folder in folders.items() if m != recipe.modalities[0]}
    source = open_source(folders[recipe.modalities[0]], recipe.modalities, companions)
    references = [found for found in source if not isinstance(found, Failure)]
    step = max(1, len(references) / CALIBRATION_IMAGES)
    chosen = [references[int(i * step)] for i in range(min(len(references), CALIBRATION_IMAGES))]
    try:
        return [source.files(reference) for reference in chosen]
    except ImageError as error:
        others = " and ".join(f"--{modality}" for modality in companions)
        raise SettingsError(
            f"{error}, for an image to calibrate on has its companions under the same path; give {others} the folders "
            f"that belong to --calibrate {folders[recipe.modalities[0]]}"
        ) from error


# ---------------------------------------------------------------------- the other process


def _build(
    wanted: Sequence[_Wanted],
    hooks: BuildHooks,
    out: Path | None = None,
    *,
    fresh: bool = False,
    keep_rejected: bool = False,
) -> dict[str, str]:
    """Have another process build engines that differ in precision; returns why it could not, for each precision that
    failed. However that ends, the process has ended and its unfinished files are gone."""
    first = wanted[0]
    reason = "asked for" if fresh else cache.reason_to_build(first.identity)
    names = " and ".join(w.request.precision for w in wanted)
    hooks.on_note(f"building {first.recipe.name} for {first.request.backend}, {names}: {reason}")
    outcomes: dict[str, str] = {}
    while left := [w.request.precision for w in wanted if w.request.precision not in outcomes]:
        with _work_folder((out or cache.engine_path(first.identity)).parent) as work:
            job = {
                **asdict(replace(first.request, calibrate={})),
                "precisions": left,
                "images": first.images,
                "out": out,
                "work": work,
                "keep_rejected": keep_rejected,
            }
            hooks.on_progress("starting the builder", 0.0)
            died = run_job(__name__, job, lambda message: _heard(message, hooks, outcomes))
        if culprit := next((p for p in left if p not in outcomes), None):
            outcomes[culprit] = (
                f"the process that builds the engine died: {died or 'it said nothing'}; free some memory or use "
                "--backend torch"
            )
    for w in wanted:
        if out is None and (outcome := outcomes[w.request.precision]):
            cache.remember_failure(w.identity, outcome)
    return {precision: outcome for precision, outcome in outcomes.items() if outcome}


@contextmanager
def _work_folder(folder: Path) -> Iterator[str]:
    """A folder for unfinished files beside what they become, gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=folder, prefix=PART, ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"cannot keep engines in {folder}: {error.strerror}; mend that, or set FCNSEG_HOME to a folder of yours"
        ) from error
    with work as name:
        yield name


def _heard(message: Mapping[str, Any], hooks: BuildHooks, outcomes: dict[str, str]) -> None:
    if "error" in message:
        kind = getattr(errors, message["error"])
        raise kind(message["message"])
    if "precision" in message:
        outcomes[message["precision"]] = message["outcome"]
    else:
        hooks.on_progress(message["phase"], message["fraction"])


def main() -> None:
    """The builder's side: one job; progress, the outcome for each precision, or the first error that is no
    EngineError."""
    job, tell = begin_job()
    try:
        _work(job, tell)
    except FcnsegError as error:
        tell({"error": _public_name(error), "message": str(error)})


def _public_name(error: FcnsegError) -> str:
    return next(c.__name__ for c in type(error).__mro__ if c.__module__ == errors.__name__)


def _work(job: dict[str, Any], tell: Tell) -> None:
    recipe = find_recipe(job["model"])
    request = EngineRequest(
        job["model"],
        Path(job["weights"]) if job["weights"] else None,
        job["backend"],
        job["precision"],
        tuple(shapes_from_json(entry) for entry in job["shapes"]),
        job["probabilities"],
    )
    files = [{m: Path(p) for m, p in entry.items()} for entry in job["images"]]
    precisions, out = job["precisions"], Path(job["out"]) if job["out"] else None
    started = 0

    def on_progress(phase: str, fraction: float) -> None:
        name = f"{phase} {precisions[started]}" if len(precisions) > 1 else phase
        tell({"phase": name, "fraction": (started + fraction) / len(precisions)})

    from fcnseg.engine.build import Builder

    with Builder(recipe, request.weights, images_for(recipe, files), Path(job["work"]), on_progress) as builder:
        for started, precision in enumerate(precisions):  # noqa: B007 - `on_progress` reads it
            identity = identity_of(recipe, replace(request, precision=precision), files)
            try:
                builder.build(identity, out, job["floor"], keep_rejected=job["keep_rejected"])
            except EngineError as error:
                tell({"precision": precision, "outcome": str(error)})
            else:
                tell({"precision": precision, "outcome": ""})


def images_for(recipe: Recipe, files: Sequence[Mapping[str, Path]]) -> Images:
    """The user's images, else the photographs that come with fcnseg."""
    from fcnseg.engine.build import Images
    from fcnseg.engine.verify import stand_ins
    from fcnseg.io.images import READERS

    if files:
        inputs = [{m: _read(READERS[m], path) for m, path in entry.items()} for entry in files]
        return Images(inputs, "the user's images")
    photographs = [_read(READERS["color"], path) for path in example_images()]
    name = "the example photographs" + ("" if recipe.modalities == ("color",) else ", with stand-ins for depth")
    return Images([dict(stand_ins(photograph, recipe.modalities)) for photograph in photographs], name)


def _read(reader: Callable[[Path, int], Pixels], path: Path) -> Pixels:
    from fcnseg.io.images import MAX_PIXELS

    try:
        return reader(path, MAX_PIXELS)
    except ImageError as error:
        raise SettingsError(f"the calibration image {path} cannot be read: {error}; remove it") from error
