"""A worker: one engine, and the pipeline over one shard after another; of each, a manifest at the end."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from fcnseg.errors import ImageError, OutputError
from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.tar_folder import TarFolder
from fcnseg.recipes import find_recipe
from fcnseg.running.class_choice import keeping
from fcnseg.running.hooks import Hooks
from fcnseg.running.intact import relative_path
from fcnseg.running.options import RunOptions
from fcnseg.running.pipeline import Pipeline
from fcnseg.running.preflight import open_inputs
from fcnseg.running.resume import plugin_versions, settings_of
from fcnseg.running.setup import engine_of, predictor_of, threads_of
from fcnseg.running.sharded.entries import put_entries
from fcnseg.running.sharded.manifest import ShardLedger
from fcnseg.running.sharded.outputs import ShardedOutputs
from fcnseg.running.sharded.places import Shard
from fcnseg.running.sharded.plan import Generation, Planned, PlanReader
from fcnseg.types import Engine, EngineInfo, Failure, Frame, Reference, Reserve, Source, StageTimes, Summary

OpenEngine = Callable[[RunOptions, Hooks], Engine]
"""Returns the engine of a run, not entered yet."""

ENDED_ITS_PROCESS = "ended its process"
"""The reason of an image that no process outlives."""


@dataclass(frozen=True)
class WorkerReport:
    """The engine of a worker that is ready, the settings that its labels follow from, and the versions of plug-ins."""

    info: EngineInfo
    settings: Mapping[str, Any]
    host: str
    plugins: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The device, the libraries and the plug-ins: what all workers must have alike."""
        return {"device": self.info.device, **self.info.versions, **self.plugins}


@dataclass(frozen=True)
class ShardResult:
    """The end of a shard, or of the attempt: `whole` if all its inputs ended and a manifest exists, `put` if it is this
    worker's."""

    shard: Shard
    whole: bool = True
    put: bool = True
    done: int = 0
    failed: int = 0
    failures: tuple[Failure, ...] = ()
    stages: dict[str, StageTimes] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    interrupted: bool = False


class ShardSource:
    """The planned inputs of a shard, loaded by the source they were listed from.

    Those that are `poisonous` are failures from the start.
    """

    def __init__(self, source: Source, planned: list[Planned], poisonous: frozenset[str] = frozenset()) -> None:
        self._source, self._planned, self._poisonous = source, planned, poisonous

    def __iter__(self) -> Iterator[Reference | Failure]:
        for listed, _ in self._planned:
            if listed.key in self._poisonous:
                yield Failure(listed.key, "predict", ENDED_ITS_PROCESS)
            else:
                yield listed

    def fingerprint(self, reference: Reference) -> str:
        """Return the fingerprint of an input as it is now."""
        return self._source.fingerprint(reference)

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        """Decode an input."""
        return self._source.load(reference, reserve)

    def close(self) -> None:
        """Nothing of its own is open."""


class ShardWorker:
    """Runs the shards of one plan on one engine. Cheap to make; `open` acquires, `close` releases."""

    def __init__(self, options: RunOptions, open_engine: OpenEngine = engine_of) -> None:
        self.options, self._open_engine = options, open_engine
        self._stack = ExitStack()
        self._bucket: Bucket = open_store(options.out, options.storage_options)
        self._reader: PlanReader | None = None

    def open(self, hooks: Hooks) -> WorkerReport:
        """Open the source and the engine, which is built first if need be. Raises EngineError, WeightsError."""
        self._recipe = find_recipe(self.options.engine.model)
        self._outputs = ShardedOutputs(self.options, self._recipe)
        self._source = self._stack.enter_context(open_inputs(self.options, self._recipe))
        engine = self._stack.enter_context(self._open_engine(self.options, hooks))
        self._predictor = predictor_of(self.options, self._recipe, engine)
        settings = settings_of(self.options, self._recipe, engine.info)
        return WorkerReport(engine.info, settings, platform.node(), plugin_versions(self.options))

    def close(self) -> None:
        """Release the engine and the source."""
        self._stack.close()

    def _planned(self, generation: Generation, number: int) -> list[Planned]:
        if self._reader is None or self._reader.generation != generation:
            self._reader = PlanReader(self._bucket, generation)
        return self._reader.shard(number)

    def run(
        self,
        generation: Generation,
        number: int,
        hooks: Hooks,
        *,
        next_number: int | None = None,
        poisonous: frozenset[str] = frozenset(),
        gently: bool = False,
        max_failures: int | None = None,
    ) -> ShardResult:
        """Bring every input of a shard to an end, and publish its manifest.

        The plan of `next_number` is read meanwhile. `gently`: one image at a time. Raises what `Pipeline.run` does.
        """
        shard = Shard(generation.number, number)
        planned = self._planned(generation, number)
        if next_number is not None:
            threading.Thread(target=self._planned, args=(generation, next_number), daemon=True).start()
        ledger = ShardLedger(self._outputs.folder, shard)
        self._predictor.events.clear()
        with ExitStack() as stack:
            tars = {kind: stack.enter_context(tar) for kind, tar in self._outputs.archives(shard).items()}
            pipeline = Pipeline(
                ShardSource(self._source, planned, poisonous),
                self._predictor,
                self._outputs.sinks(self._predictor.engine.info, tars),
                ledger,
                total=len(planned),
                workers=1 if gently else threads_of(self.options),
                ahead_bytes=1 if gently else Pipeline.ahead_bytes,
                replace=True,
                max_failures=max_failures,
                hooks=hooks,
                keep=keeping(self.options.classes, self._outputs.heads),
                tables=self._outputs.table_makers(self._predictor.engine.info),
            )
            summary = pipeline.run()
            whole = not (summary.interrupted or summary.stopped)
            put = whole and self._publish(ledger, summary, len(planned), tars.values())
        return ShardResult(
            shard,
            whole,
            put,
            summary.done,
            summary.failed,
            tuple(summary.failures),
            summary.stages,
            summary.events,
            summary.stopped,
            summary.interrupted,
        )

    def _publish(self, ledger: ShardLedger, summary: Summary, planned: int, tars: Collection[TarFolder]) -> bool:
        """Put the tars, if outputs go into any, and the manifest; False if another worker's was there first."""
        if summary.done + summary.failed != planned:
            raise OutputError(
                f"{summary.done + summary.failed} of {planned} inputs of shard {ledger.shard} ended: its plan names an "
                "input twice; start over with --overwrite"
            )
        for tar in tars:
            tar.put()
        put_entries(self._bucket, ledger, self._outputs)
        archives = [relative_path(ledger.folder, f"{tar.root}/{tar.key}") for tar in tars]
        return ledger.publish(self._bucket, host=platform.node(), seconds=round(summary.seconds, 3), archives=archives)

    def try_image(self, generation: Generation, number: int, index: int) -> str:
        """Load, predict and encode one image of a shard and write nothing, to see whether the process outlives it.

        Returns its key.
        """
        listed, _ = self._planned(generation, number)[index]
        if isinstance(listed, Reference):
            with suppress(ImageError):
                self._try(listed)
        return listed.key

    def _try(self, reference: Reference) -> None:
        frame = self._source.load(reference)
        prediction = self._predictor.one(frame)
        for sink in self._outputs.sinks(self._predictor.engine.info):
            for _, content in sink.encode(frame, prediction):
                for _ in content:
                    pass
