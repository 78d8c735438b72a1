"""Engines when they are needed: found in the cache, or built by a process of their own.

Building takes torch, the exporter and several times the model's size in memory; the process that asked keeps free of
all that, starts fast when the engine is there, and can end the work at any moment by ending that process.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fcnseg import errors
from fcnseg.engine import cache
from fcnseg.engine.identify import identify
from fcnseg.engine.sidecar import Identity, read_sidecar, shapes_from_json, trusted
from fcnseg.errors import EngineError, FcnsegError, ImageError, OutputError, SettingsError
from fcnseg.files import PART
from fcnseg.recipes import Recipe, Shapes, find_recipe, recipe_folder

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
    found = None if force or out else wanted.kept() or (None if proved else wanted.kept_aside())
    if found:
        return found
    with cache.building(wanted.identity):
        if not force and out is None:
            if found := wanted.kept():  # built by another process meanwhile
                return found
            bad = cache.rejected(wanted.identity)
            if bad and bad.verification and request.floor is None and proved:
                raise EngineError(
                    f"an earlier build of {wanted.recipe.name} in {request.precision} did not give the network's "
                    f"labels, worst at {bad.verification.worst}; use a higher precision, or `fcnseg build-engine "
                    "--force`"
                )
        if request.precision == "int8" and not request.calibrate:
            raise SettingsError("int8 needs images to calibrate on; name a folder of typical ones with --calibrate DIR")
        reason = "asked for" if force or out else cache.reason_to_build(wanted.identity)
        hooks.on_note(f"building {wanted.recipe.name} for {request.backend}, {request.precision}: {reason}")
        try:
            _build(wanted, [request.precision], hooks, out, keep_rejected=not proved)
        except EngineError:
            if not proved and (found := wanted.kept_aside()):
                return found
            raise
    return out or cache.engine_path(wanted.identity)


def fastest_engine(request: EngineRequest, precisions: Sequence[str], hooks: BuildHooks) -> Path:
    """The file of the fastest engine, among those precisions, that gives the network's labels on this machine.

    Those not tried yet are built and compared first. Raises EngineError if none does.
    """
    wanted = {p: _Wanted(replace(request, precision=p)) for p in precisions}

    def missing() -> list[str]:
        return [p for p, w in wanted.items() if not w.recorded() and not cache.rejected(w.identity)]

    if to_build := missing():
        first = wanted[to_build[0]]
        with cache.building(first.identity):
            if to_build := missing():
                reason = cache.reason_to_build(first.identity)
                hooks.on_note(f"building {first.recipe.name} for {request.backend}, {' and '.join(to_build)}: {reason}")
                _build(first, to_build, hooks, None)
    found = {p: path for p, w in wanted.items() if (path := w.recorded())}
    if not found:
        raise EngineError(f"no {request.backend} engine of {request.model} gives the network's labels here")
    fastest = min(found, key=lambda p: _seconds(found[p]))
    return ensure_engine(replace(request, precision=fastest), hooks)  # built again if its bytes are not whole


def _seconds(engine: Path) -> float:
    verification = read_sidecar(engine).verification
    return verification.typical_seconds if verification else float("inf")


def example_images() -> list[Path]:
    """The photographs that come with fcnseg."""
    inside = Path(__file__).parent / "examples"
    folder = inside if inside.is_dir() else recipe_folder().parent / "examples" / "street" / "images"
    return sorted(folder.glob("*.jpg"))


class _Wanted:
    """A request with what follows from it: the recipe, the calibration images' files and the engine's identity."""

    def __init__(self, request: EngineRequest) -> None:
        self.request = request
        self.recipe = find_recipe(request.model)
        self.images = _calibration_files(self.recipe, request.calibrate)
        self.identity = identity_of(self.recipe, request, self.images)

    def recorded(self) -> Path | None:
        """The kept engine with a record; its bytes are not looked at."""
        path = cache.find(self.identity, any_shapes=not self.request.shapes, any_calibration=not self.request.calibrate)
        with suppress(EngineError):
            if path:
                read_sidecar(path)
                return path
        return None

    def kept(self) -> Path | None:
        """The kept engine, if its bytes are what was built."""
        path = self.recorded()
        return _whole(path) if path else None

    def kept_aside(self) -> Path | None:
        """The engine that did not give the network's labels, if it was kept for measurements."""
        return _whole(cache.engine_path(self.identity, cache.REJECTED))


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
    from fcnseg.stream.sources import open_source

    if not folders:
        return []
    companions = {m: folder for m, folder in folders.items() if m != recipe.modalities[0]}
    source = open_source(folders[recipe.modalities[0]], recipe.modalities, companions)
    references = list(source)
    step = max(1, len(references) / CALIBRATION_IMAGES)
    chosen = [references[int(i * step)] for i in range(min(len(references), CALIBRATION_IMAGES))]
    return [{**r.files, **{m: found.find(r.key) for m, found in source.companions.items()}} for r in chosen]


# ---------------------------------------------------------------------- the other process


def _build(
    wanted: _Wanted, precisions: Sequence[str], hooks: BuildHooks, out: Path | None, *, keep_rejected: bool = False
) -> None:
    """Have another process build engines; whatever happens, it is ended and its unfinished files are gone."""
    folder = (out or cache.engine_path(wanted.identity)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=PART, ignore_cleanup_errors=True) as work:
            job = {
                **asdict(wanted.request),
                "precisions": precisions,
                "images": wanted.images,
                "out": out,
                "work": work,
                "keep_rejected": keep_rejected,
            }
            _run({key: value for key, value in job.items() if key != "calibrate"}, hooks)
    except OSError as error:
        raise OutputError(
            f"cannot keep engines in {folder}: {error.strerror}; mend that, or set FCNSEG_HOME to a folder of yours"
        ) from error


def _run(job: Mapping[str, Any], hooks: BuildHooks) -> None:
    hooks.on_progress("starting the builder", 0.0)
    process = subprocess.Popen(
        [sys.executable, "-m", "fcnseg.building"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the other
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        process.stdin.write(json.dumps(job, default=str) + "\n")
        process.stdin.flush()  # kept open: its end tells the builder that nobody waits any more
        for line in process.stdout:
            _heard(json.loads(line), hooks)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdin.close()
        process.stdout.close()
        reader.join(timeout=1)
    if code:
        cause = (
            "it ran out of memory" if code == -signal.SIGKILL else (said[-1].strip() if said else f"exit code {code}")
        )
        raise EngineError(f"the process that builds the engine died: {cause}; free some memory or use --backend torch")


def _heard(message: Mapping[str, Any], hooks: BuildHooks) -> None:
    if "error" in message:
        kind = getattr(errors, message["error"])
        raise kind(message["message"])
    hooks.on_progress(message["phase"], message["fraction"])


def main() -> None:
    """The builder's side: one job on standard input, progress and the first error as JSON lines on standard output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print to standard output
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_other_side, daemon=True).start()
    try:
        _work(job, answers)
    except FcnsegError as error:
        answers.write(json.dumps({"error": _public_name(error), "message": str(error)}) + "\n")
    except KeyboardInterrupt:
        answers.flush()
        os._exit(130)


def _end_with_the_other_side() -> None:
    """Interrupt the work when the process that asked for it is gone."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)


def _public_name(error: FcnsegError) -> str:
    return next(c.__name__ for c in type(error).__mro__ if c.__module__ == errors.__name__)


def _work(job: dict[str, Any], answers: IO[str]) -> None:
    from fcnseg.engine.build import Builder

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

    def tell(phase: str, fraction: float) -> None:
        name = f"{phase} {precisions[started]}" if len(precisions) > 1 else phase
        answers.write(json.dumps({"phase": name, "fraction": (started + fraction) / len(precisions)}) + "\n")

    with Builder(recipe, request.weights, images_for(recipe, files), Path(job["work"]), tell) as builder:
        for started, precision in enumerate(precisions):  # noqa: B007 - `tell` reads it
            identity = identity_of(recipe, replace(request, precision=precision), files)
            try:
                builder.build(identity, out, job["floor"], keep_rejected=job["keep_rejected"])
            except EngineError:
                if len(precisions) == 1:
                    raise  # of several, any one will do


def images_for(recipe: Recipe, files: Sequence[Mapping[str, Path]]) -> Images:
    """The user's images, else the photographs that come with fcnseg."""
    from fcnseg.engine.build import Images
    from fcnseg.engine.verify import stand_ins
    from fcnseg.stream.decoding import READERS

    if files:
        inputs = [{m: _read(READERS[m], path) for m, path in entry.items()} for entry in files]
        return Images(inputs, f"{len(inputs)} of the user's images")
    photographs = [_read(READERS["color"], path) for path in example_images()]
    name = "the example photographs" + ("" if recipe.modalities == ("color",) else ", with stand-ins for depth")
    return Images([dict(stand_ins(photograph, recipe.modalities)) for photograph in photographs], name)


def _read(reader: Callable[[Path, int], Pixels], path: Path) -> Pixels:
    from fcnseg.stream.decoding import MAX_PIXELS

    try:
        return reader(path, MAX_PIXELS)
    except ImageError as error:
        raise SettingsError(f"the calibration image {path} cannot be read: {error}; remove it") from error


if __name__ == "__main__":
    main()
