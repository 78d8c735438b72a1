"""A run: a source, a model and an output folder become a flow, a ledger and a record. See `api.run`."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnseg.building import BuildHooks
from fcnseg.deploy import EngineOptions, open_engine
from fcnseg.errors import ImageError, OutputError, SettingsError
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.types import EngineInfo, Failure, StageTimes, Summary

if TYPE_CHECKING:
    from fcnseg.stream.ledger import Ledger
    from fcnseg.stream.preflight import Listing
    from fcnseg.stream.sinks import FileSink
    from fcnseg.stream.sources import ImageSource
    from fcnseg.stream.space import Sample
    from fcnseg.stream.tiling import Predictor
    from fcnseg.stream.volumes import Volume
    from fcnseg.stream.worklist import Part
    from fcnseg.types import Engine, Reference, Source

RECORDS = ".fcnseg"
"""The folder for records inside an output folder."""

HDF5 = (".h5", ".hdf5")
"""Names of outputs that become one HDF5 file."""


@dataclass(frozen=True)
class RunOptions:
    """Everything about a run. `source`, `out`, the model and what is written make its settings: they cannot change
    while an output folder is filled.

    `source` is a folder, an image, a list, an archive or `FILE.h5::/dataset` ("-": paths on standard input). `out`
    and `probabilities` are folders or HDF5 files. `resume`: "auto" goes on where the same settings on the same machine
    left off, "continue" also after library or hardware changes, "overwrite" starts over. `tile` is "auto", "off" or
    the side of tiles in pixels. None leaves a number to fcnseg. Without `space_check` a run starts even if its outputs
    cannot have room.
    """

    source: str | Path
    out: Path
    engine: EngineOptions = field(default_factory=EngineOptions)
    companions: Mapping[str, str | Path] = field(default_factory=dict)
    glob: str | None = None
    layout: str = "auto"
    probabilities: Path | None = None
    probabilities_dtype: str = "float16"
    top_k: int | None = None
    overlay: Path | None = None
    opacity: float = 0.5
    tile: str | int = "auto"
    batch: int | None = None
    workers: int | None = None
    max_pixels: int | None = None
    resume: str = "auto"
    retry_failed: bool = False
    max_failures: int | None = None
    num_parts: int = 1
    part_id: int = 0
    space_check: bool = True

    def __post_init__(self) -> None:
        for name in ("out", "probabilities", "overlay"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))


@dataclass(frozen=True)
class Hooks:
    """What a caller may listen to, from any thread: the building of an engine; the number of inputs while they are
    listed; the inputs of this part and the engine, before the start; the stages' times, once they run; every input as
    it ends or is found done; a line worth saying; what failed in an earlier run and is not tried again."""

    build: BuildHooks = field(default_factory=BuildHooks)
    on_listing: Callable[[int], None] = lambda count: None
    on_start: Callable[[int, EngineInfo], None] = lambda total, info: None
    on_stages: Callable[[Callable[[], dict[str, StageTimes]]], None] = lambda times: None
    on_result: Callable[[str, Failure | None], None] = lambda key, failure: None
    on_kept: Callable[[str], None] = lambda key: None
    on_note: Callable[[str], None] = lambda line: None
    on_failed_before: Callable[[Failure], None] = lambda failure: None


def run(options: RunOptions, hooks: Hooks | None = None) -> Summary:
    """Bring every input of a source (or of one part of it) to an end. Errors before the first image raise; afterwards
    each image that fails is a record. The records are in `.fcnseg/` in the output folder."""
    from fcnseg.stream.space import Sample

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


# ---------------------------------------------------------------------- before the start


def check_options(options: RunOptions) -> None:
    """Refuse values that no run can have."""
    faults = []
    if options.probabilities_dtype not in ("float16", "float32"):
        faults.append(f"probabilities dtype {options.probabilities_dtype!r} is unknown; use float16 or float32")
    if options.resume not in ("auto", "continue", "overwrite"):
        faults.append(f"resume {options.resume!r} is unknown; use auto, continue or overwrite")
    if not 0 <= options.part_id < options.num_parts:
        faults.append(f"--part-id {options.part_id} is not one of 0 to {options.num_parts - 1} (--num-parts)")
    if options.top_k is not None and options.probabilities is None:
        faults.append("--top-k says which probabilities to keep; give --save-probabilities too")
    places = [os.path.realpath(p) for p in (options.out, options.probabilities) if p is not None and is_hdf5(p)]
    if len(set(places)) < len(places):
        faults.append(f"{places[0]} cannot hold both labels and probabilities; give two files")
    if options.num_parts > 1 and any(is_hdf5(path) for path in (options.out, options.probabilities)):
        faults.append("the parts of a run cannot share one HDF5 file; give a folder, or a file for each part")
    if not (options.tile in ("auto", "off") or isinstance(options.tile, int)):
        faults.append(f"--tile {options.tile!r} is unknown; use auto, off or a size in pixels")
    if faults:
        raise SettingsError(". ".join(faults))


def is_hdf5(path: Path | None) -> bool:
    """Whether an output is one HDF5 file instead of a folder."""
    return path is not None and path.suffix.lower() in HDF5


def open_inputs(options: RunOptions, recipe: Recipe) -> ImageSource:
    """The source of a run whose options are in order; its outputs are not among its inputs."""
    from fcnseg.stream.decoding import MAX_PIXELS, allow_pixels
    from fcnseg.stream.sources import open_source

    check_options(options)
    allow_pixels(options.max_pixels or MAX_PIXELS)
    return open_source(
        options.source,
        recipe.modalities,
        options.companions,
        pattern=options.glob,
        exclude=tuple(path for path in (options.out, options.probabilities, options.overlay) if path is not None),
        max_pixels=options.max_pixels or MAX_PIXELS,
        layout=options.layout,
    )


def places(out: Path) -> tuple[Path, Path]:
    """Of what was given as the output: the folder that outputs' recorded paths count from, and that of the records."""
    if is_hdf5(out):
        hidden = out.parent / f".{out.name}{RECORDS}"
        return hidden, hidden
    return out, out / RECORDS


class Outputs:
    """Where a run writes an engine's predictions: its sinks, HDF5 files, folders and records."""

    def __init__(self, options: RunOptions, info: EngineInfo) -> None:
        from fcnseg.stream.sinks import LabelPngSink, NpyProbabilitySink, OverlaySink
        from fcnseg.stream.volumes import LabelVolume, ProbabilityVolume

        self.options = options
        self.folder, self.records = places(options.out)
        self.volumes: list[Volume] = []
        found: list[FileSink] = []
        if options.overlay:  # first: it refuses images that are too large for it before anything is written of them
            found.append(OverlaySink(options.overlay, info, options.opacity))
        if is_hdf5(options.out):
            self.volumes.append(LabelVolume(options.out, info))
        else:
            found.append(LabelPngSink(options.out, info))
        if options.probabilities and is_hdf5(options.probabilities):
            self.volumes.append(
                ProbabilityVolume(options.probabilities, info, options.probabilities_dtype, options.top_k)
            )
        elif options.probabilities:
            found.append(NpyProbabilitySink(options.probabilities, info, options.probabilities_dtype, options.top_k))
        self.sinks: list[FileSink] = [*found, *(volume.sink for volume in self.volumes)]

    @property
    def part(self) -> Part:
        """The inputs that this run is about."""
        from fcnseg.stream.worklist import Part

        return Part(self.options.part_id, self.options.num_parts)

    @property
    def ledger_file(self) -> Path:
        """The ledger of this part."""
        return self.records / f"ledger{self.part.name}.sqlite"

    def ended(self) -> int:
        """How many inputs of this part are done or failed by its ledger."""
        from fcnseg.stream.ledger import Ledger

        if not self.ledger_file.exists():
            return 0
        with Ledger(self.ledger_file, self.folder, reading=True) as ledger:
            counts = ledger.counts()
        return counts.get("done", 0) + counts.get("failed", 0)

    def make(self) -> None:
        """Make the folders. Raises OutputError if they cannot be written to."""
        options = self.options
        folders = [p for p in (options.probabilities, options.overlay) if p is not None and not is_hdf5(p)]
        for folder in (self.records, *folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".fcnseg-probe-{os.getpid()}"
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise _unwritable(folder, error.errno or errno.EIO) from error

    def check(self) -> None:
        """Refuse a file where a folder should be, and the reverse; outputs in the place of inputs; HDF5 files of
        someone else."""
        from fcnseg.stream.names import split_name

        options = self.options
        inputs = [options.source, *options.companions.values()]
        sources = {os.path.realpath(split_name(os.fspath(place))[0]) for place in inputs}
        for path in (options.out, options.probabilities, options.overlay):
            if path is None:
                continue
            if os.path.realpath(path) in sources:
                raise SettingsError(
                    f"{path} is an input: outputs there would replace an input, or become one; give another --out"
                )
            if is_hdf5(path) and path.is_file() and options.resume != "overwrite" and not self._is_ours(path):
                raise SettingsError(f"{path} exists and no run of fcnseg made it; use --overwrite to replace it")
            if is_hdf5(path) and path.is_dir():
                raise OutputError(f"{path} is a folder, but the output is an HDF5 file; give another name")
            absolute = path.absolute()
            folders = absolute.parents if is_hdf5(path) else (absolute, *absolute.parents)
            there = next(folder for folder in folders if os.path.lexists(folder))
            if not there.is_dir():
                what = "a file" if there.exists() else "a link to nowhere"
                raise OutputError(f"{there} is {what}, but the output goes to a folder; give another path")
            if not os.access(there, os.W_OK | os.X_OK):
                raise _unwritable(there, errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES)

    def _is_ours(self, file: Path) -> bool:
        """Whether an earlier run was to write that HDF5 file."""
        from fcnseg.stream.ledger import Ledger
        from fcnseg.stream.status import LEDGERS

        for found in self.records.glob(LEDGERS):
            with Ledger(found, self.folder, reading=True) as ledger:
                if ledger.relative(file) in (kept.path for kept in ledger.volumes().values()):
                    return True
        return False


def _unwritable(folder: Path, number: int) -> OutputError:
    return OutputError(f"cannot write to {folder}: {os.strerror(number)}; check its permissions and space")


def survey_inputs(
    options: RunOptions,
    source: ImageSource,
    outputs: Outputs,
    hooks: Hooks,
    look: Callable[[Reference], None] = lambda reference: None,
) -> Listing:
    """List the source once; refuse outputs that would replace one another, an input, or files of someone else. `look`
    sees every input."""
    from fcnseg.errors import SourceError
    from fcnseg.stream.names import output_names
    from fcnseg.stream.preflight import survey
    from fcnseg.stream.status import LEDGERS

    outputs.check()
    names = output_names(outputs.sinks)
    folders = [p for p in (options.out, options.probabilities, options.overlay) if p is not None and p.is_dir()]
    foreign = folders and options.resume != "overwrite" and not any(outputs.records.glob(LEDGERS))

    inputs = [options.source, *options.companions.values()]
    beside_inputs = any(may_hold_inputs(folder, place) for folder in folders for place in inputs)

    taken = (f"{RECORDS}/", f"{RECORDS}.")

    def check(reference: Reference) -> None:
        look(reference)
        if reference.stem.startswith(taken):
            raise SettingsError(f"{reference.key} would be written among the records of the run; rename it")
        if not (foreign or beside_inputs):
            return
        for path in (Path(name.of(reference.stem)) for name in names):
            if path.exists() and any(path.samefile(file) for file in files_of(source, reference)):
                raise SettingsError(f"the output {path} would replace an input; give another --out")
            if foreign and path.exists():
                raise SettingsError(f"{path} exists and no run of fcnseg made it; use --overwrite to replace it")

    suffixes = {name.after for name in names}
    listing = survey(source, options.num_parts, suffixes=suffixes, check=check, on_count=hooks.on_listing)
    if not listing.total:
        what = f"no image matches {options.glob!r} in" if options.glob else "there are no images in"
        raise SourceError(f"{what} {options.source}")
    return listing


def check_space(source: ImageSource, outputs: Outputs, sample: Sample, inputs: int, hooks: Hooks) -> None:
    """Say if what so many inputs give is unlikely to have room. Raises OutputError if it cannot have."""
    from fcnseg.stream.space import shortages

    sizes = [size for reference in sample.references if (size := source.size(reference))]
    if sizes and shortages(outputs.sinks, sizes, inputs):  # what is there already is counted only if it matters
        for short in shortages(outputs.sinks, sizes, max(0, inputs - outputs.ended())):
            if short.sure:
                raise OutputError(f"{short}; make room, write elsewhere, or try all the same with --no-space-check")
            hooks.on_note(f"{short}; --dry-run tells more")


def files_of(source: ImageSource, reference: Reference) -> list[Path]:
    """The files of an input and its companions, as far as they are files that are there."""
    try:
        places = [Path(place) for place in source.places(reference).values() if isinstance(place, str)]
    except ImageError:
        return []
    return [place for place in places if place.exists()]


def may_hold_inputs(folder: Path, source: str | Path) -> bool:
    """Whether inputs could lie in an output folder: those of a list may lie anywhere."""
    if not Path(source).is_dir():
        return True
    one, other = os.path.realpath(folder), os.path.realpath(source)
    return os.path.commonpath([one, other]) in (one, other)


def blank_info(recipe: Recipe) -> EngineInfo:
    """What is known of an engine before it is there: enough for the names of outputs."""
    heads = {head.name: head.labels for head in recipe.heads}
    return EngineInfo("", "", "", recipe.name, "", heads, recipe.modalities, {})


@contextmanager
def open_ledger(
    options: RunOptions, recipe: Recipe, info: EngineInfo, source: ImageSource, outputs: Outputs, hooks: Hooks
) -> Iterator[Ledger]:
    """The ledger of this part, agreed with on what the run is. Raises SettingsError if an earlier run was another."""
    from fcnseg.stream.ledger import Ledger

    file = outputs.ledger_file
    if options.resume == "overwrite":
        start_over(outputs, file, options.num_parts, hooks)
    check_parts(options, outputs)
    with Ledger(file, outputs.folder) as ledger:
        wanted, here = settings_of(options, recipe, info), surroundings_of(options, info, source)
        found = ledger.agree(settings=wanted, machine=here, replace=options.resume == "overwrite")
        if changed := check_agreement(options, found, wanted, here):
            hooks.on_note(f"going on although {changed}")
            ledger.note(machine=here)
        ledger.expect_volumes({volume.staged: volume.file for volume in outputs.volumes})
        yield ledger


def check_earlier_run(
    options: RunOptions, recipe: Recipe, info: EngineInfo, source: ImageSource, outputs: Outputs
) -> None:
    """Look whether `open_ledger` would refuse what an earlier run left, and change nothing."""
    from fcnseg.stream.ledger import Ledger

    if options.resume == "overwrite":
        return
    check_parts(options, outputs)
    if outputs.ledger_file.exists():
        with Ledger(outputs.ledger_file, outputs.folder, reading=True) as ledger:
            found = {name: ledger.fact(name) for name in ("settings", "machine")}
        if found["settings"] is not None:
            check_agreement(options, found, settings_of(options, recipe, info), surroundings_of(options, info, source))


def check_parts(options: RunOptions, outputs: Outputs) -> None:
    """Refuse another number of parts than the earlier run's."""
    from fcnseg.stream.status import LEDGERS, parts_of

    others = [p for p in outputs.records.glob(LEDGERS) if parts_of(p) != options.num_parts]
    if others:
        raise SettingsError(
            f"{options.out} was filled in {parts_of(others[0])} parts, not {options.num_parts}; "
            "use the same --num-parts, or --overwrite to start over"
        )


def check_agreement(
    options: RunOptions, found: Mapping[str, Any], settings: Mapping[str, Any], machine: Mapping[str, Any]
) -> str:
    """Refuse other settings than the `found` ones of an earlier run, and another machine unless that is asked for;
    returns, in words, what of the machine is another then."""
    if changed := differences(found["settings"], settings):
        raise SettingsError(
            f"{options.out} was made with other settings: {changed}; use the same, another --out, or "
            "--overwrite to start over"
        )
    if (changed := differences(found["machine"], machine)) and options.resume != "continue":
        raise SettingsError(
            f"{options.out} was begun under other circumstances: {changed}; --continue goes on all the same "
            "(labels may differ where two classes tie), --overwrite starts over"
        )
    return changed


def start_over(outputs: Outputs, ledger_file: Path, parts: int, hooks: Hooks) -> None:
    """Remove what earlier runs of this part made, as far as it is still as they made it, and its ledger; everything if
    the run was in another number of parts."""
    from fcnseg.stream.ledger import Ledger
    from fcnseg.stream.owners import is_alive
    from fcnseg.stream.status import LEDGERS, parts_of

    for lock in outputs.records.glob("*.lock"):
        if is_alive(outputs.records, lock.stem):
            raise SettingsError(f"another process is writing to {outputs.options.out}; end it before --overwrite")
    for file in outputs.records.glob(LEDGERS):
        if file != ledger_file and parts_of(file) == parts:
            continue  # another part of the same run
        try:
            with Ledger(file, outputs.folder) as ledger:
                for kept in chain(chain.from_iterable(ledger.outputs()), ledger.volumes().values()):
                    if kept.is_whole(outputs.folder):
                        (outputs.folder / kept.path).unlink()
        except OutputError as error:
            hooks.on_note(f"{error}; it is removed, and what it knew of is left where it is")
        for path in outputs.records.glob(f"{file.name}*"):
            path.unlink()
    for volume in outputs.volumes:
        volume.discard_staged()


def settings_of(options: RunOptions, recipe: Recipe, info: EngineInfo) -> dict[str, Any]:
    """What every label of a run follows from, by the names of the options."""
    from fcnseg.engine.identify import recipe_hash
    from fcnseg.engine.sidecar import read_sidecar

    calibration = read_sidecar(info.file).identity.calibration if info.file else None
    return {
        "model": info.model,
        "recipe": recipe_hash(recipe)[:16],
        "weights": info.weights_sha256[:16],
        "backend": info.backend,
        "precision": info.precision,
        "calibration": calibration and calibration[:16],
        "layout": options.layout,
        "probabilities": os.path.abspath(options.probabilities) if options.probabilities else None,
        "probabilities-dtype": options.probabilities_dtype if options.probabilities else None,
        "top-k": options.top_k,
        "overlay": os.path.abspath(options.overlay) if options.overlay else None,
        "opacity": options.opacity if options.overlay else None,
    }


def surroundings_of(options: RunOptions, info: EngineInfo, source: ImageSource) -> dict[str, str]:
    """What a run may go on without, if its user says so: where the inputs are, and what the last bits of a score may
    depend on."""
    place = os.fspath(options.source)
    here = {"source": place if place == "-" else os.path.abspath(place)}
    if source.root:
        here["the folder of all its paths"] = source.root
    for name, folder in options.companions.items():
        here[name] = os.path.abspath(folder)
    return {**here, "device": info.device, **info.versions}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, what two records say differently; empty if nothing."""
    return ", ".join(
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in (*now, *(name for name in before if name not in now))
        if before.get(name) != now.get(name)
    )


# ---------------------------------------------------------------------- the flow and its end


def engine_of(options: RunOptions, hooks: Hooks) -> Engine:
    """The engine of a run, not entered yet."""
    return open_engine(
        options.engine,
        hooks.build,
        probabilities=options.probabilities is not None,
        companions={name: Path(folder) for name, folder in options.companions.items()},
    )


def predictor_of(options: RunOptions, recipe: Recipe, engine: Engine) -> Predictor:
    """The engine, for images of any size. Raises SettingsError for tiles that are too small."""
    from fcnseg.stream.tiling import Predictor

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
    from fcnseg.stream.pipeline import FlowHooks, FlowOptions, process

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


def finish(
    options: RunOptions, info: EngineInfo, source: Source, outputs: Outputs, ledger: Ledger, summary: Summary
) -> None:
    """If everything ended: assemble HDF5 files, and note the tally. Then the record, and the legend."""
    from fcnseg.stream.sinks import write_legend

    if not (summary.interrupted or summary.stopped):
        if outputs.volumes:
            assemble(source, outputs, ledger)
        ledger.note(ended={"done": summary.done + summary.kept, "failed": summary.failed})
    write_legend(outputs.records, info)
    write_record(options, info, outputs, summary)


def assemble(source: Source, outputs: Outputs, ledger: Ledger) -> None:
    """Make the HDF5 files of a run from what its sinks staged, unless they are whole and hold just that. One process
    at a time does."""
    from filelock import FileLock

    from fcnseg.files import new_digest
    from fcnseg.stream.volumes import Entry
    from fcnseg.types import Reference

    def entries() -> Iterator[Entry]:
        for found in source:
            if isinstance(found, Reference):
                yield Entry(found.key, found.stem, getattr(found.place, "number", None))

    with FileLock(outputs.records / "assembling"):
        failed = {failure.key: failure.reason for failure in ledger.failures()}
        missing, digest = {}, new_digest()
        for found in source:
            if found.key in failed:
                missing[found.key] = failed[found.key]
            digest.update(os.fsencode(f"{found.key}\0{missing.get(found.key, '')}\0"))
        content, known = digest.hexdigest(), ledger.fact("contents") or {}
        intact = ledger.intact_volumes()
        for volume in outputs.volumes:
            staged = ledger.relative(volume.staged)
            keep = staged + os.sep in intact
            if not keep or volume.has_staged or known.get(staged) != content:
                ledger.note_volume(volume.staged, volume.assemble(entries, missing, keep=keep), content)
                volume.discard_staged()


def write_record(options: RunOptions, info: EngineInfo, outputs: Outputs, summary: Summary) -> None:
    """`run.json`: the resolved settings, the engine with its record, the host, counts, stages, and first failures."""
    import json
    import platform
    from dataclasses import asdict
    from datetime import UTC, datetime

    from fcnseg.engine.hardware import cpu_name
    from fcnseg.engine.sidecar import read_sidecar
    from fcnseg.files import whole_file
    from fcnseg.stream.stages import bottleneck

    engine = asdict(info)
    engine["heads"] = {name: list(space["names"]) for name, space in engine["heads"].items()}
    if info.file:
        engine["sidecar"] = asdict(read_sidecar(info.file))
    stage, advice = bottleneck(summary.stages)
    host = {"name": platform.node(), "system": platform.platform(), "processor": cpu_name(), "cores": os.cpu_count()}
    record = {
        "settings": asdict(options),
        "engine": engine,
        "host": host,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "summary": asdict(summary),
        "images_per_second": summary.done / summary.seconds if summary.seconds else 0.0,
        "bottleneck": {"stage": stage, "advice": advice},
    }
    with whole_file(outputs.records / f"run{outputs.part.name}.json") as file:
        file.write(json.dumps(record, indent=2, default=str).encode())
