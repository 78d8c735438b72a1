"""The pipeline: list, decode, predict, write, each in threads of its own, and a ledger of how every input ended.

    worklist --> decoders --> this thread: batches of one size, the engine --> writers --> ledger

Decoders run ahead and writers behind as far as their budgets of bytes allow, so that memory does not grow with the
number of images. An image that fails becomes a record. Anything else that goes wrong in any thread ends the run:
threads stop taking new work, what is predicted is written, and the first error is raised when all have ended.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from fcnseg.errors import (
    NO_MORE_THREADS,
    ImageError,
    NoMoreThreadsError,
    OutputError,
    StorageError,
    is_out_of_threads,
)
from fcnseg.io.parts import Part
from fcnseg.io.remarks import remarks
from fcnseg.running.batching import Decoded, batches
from fcnseg.running.budget import Budget, Stopped
from fcnseg.running.hooks import Hooks
from fcnseg.running.intact import recorded, recorded_names
from fcnseg.running.recording import groups
from fcnseg.running.stage_times import StageClock
from fcnseg.running.tables import Table
from fcnseg.running.worklist import Worklist
from fcnseg.running.writing import write
from fcnseg.types import Failure, Frame, Ledger, Prediction, Reference, Settled, Sink, Source, Summary

MOST_REMARKS = 20
"""How many harmless faults of images are told."""

LEAVING_SECONDS = 2.0
"""The time that threads get whose results no longer matter."""


class StreamPredictor(Protocol):
    """The middle of the pipeline: `Predictor`, or another. `batch` is the number of images of one size it takes at
    once; `events` counts what it had to do for single images."""

    batch: int
    events: Counter[str]

    def prepared(self, frame: Frame) -> Frame:
        """Return what `stream` takes of a frame; called in the threads that decode. Raises ImageError."""

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Iterator[tuple[Frame, Prediction | ImageError]]:
        """As `Predictor.stream`."""

    def finished(self, frame: Frame, prediction: Prediction) -> Prediction:
        """Return the prediction of the original of a prepared frame; called in the threads that write. Raises
        ImageError."""


@dataclass(frozen=True)
class Pipeline:
    """Everything a run works with. No label depends on the numbers.

    `part`: the inputs to work on, `total` of them. `workers` threads decode, and as many write. `ahead_bytes` bounds
    the decoded images in memory, and again the predictions that wait to be written; one larger image goes alone.
    After more than `max_failures` new failures the run stops. For `retry_failed` and `replace` see `Worklist`.
    `keep` changes the labels of a prediction before sinks see it; `tables` give what images add to files of all images.
    """

    source: Source
    predictor: StreamPredictor
    sinks: Sequence[Sink]
    ledger: Ledger
    part: Part = field(default_factory=Part)
    total: int = 0
    workers: int = 2
    ahead_bytes: int = 256 << 20
    retry_failed: bool = False
    replace: bool = False
    max_failures: int | None = None
    hooks: Hooks = field(default_factory=Hooks)
    keep: Callable[[Prediction], Prediction] = lambda prediction: prediction
    tables: Mapping[str, Table] = field(default_factory=dict)

    def run(self) -> Summary:
        """Bring every input of this part to an end: done, or failed for a recorded reason.

        Ctrl-C (KeyboardInterrupt) ends with what is whole and marks the summary interrupted. Raises OutputError if the
        output as a whole cannot be written, and whatever the engine or a thread died of.
        """
        with self.ledger.new_claimant() as claimant:
            stages = _Stages(self, claimant)
            stages.run()
            # only now: after an error there may be files that no row tells of, and claims that lapse say whose they are
            self.ledger.release(claimant)
        return stages.summary


class _Stages:
    """The threads, queues and budgets of one run."""

    def __init__(self, pipeline: Pipeline, claimant: str) -> None:
        self.pipeline = pipeline
        self.source, self.ledger, self.predictor = pipeline.source, pipeline.ledger, pipeline.predictor
        self.workers, self.hooks = pipeline.workers, pipeline.hooks
        self.summary = Summary(pipeline.total)
        self.work = Worklist(
            self.source,
            self.ledger,
            claimant,
            pipeline.part,
            recorded_names(self.ledger.folder, pipeline.sinks),
            pipeline.retry_failed,
            pipeline.replace,
            self._kept,
            self._failed_at_listing,
            lambda: self.stopping,
            self.hooks.on_note,
        )
        items = 6 * max(self.workers, self.predictor.batch)  # several batches are in flight, one before and one behind
        self.listing = Budget(0, 2 * self.workers)
        self.decoding, self.writing = Budget(pipeline.ahead_bytes, items), Budget(pipeline.ahead_bytes, items)
        self.listed: queue.SimpleQueue[Reference | None] = queue.SimpleQueue()
        self.decoded: queue.SimpleQueue[Decoded | None] = queue.SimpleQueue()
        self.predicted: queue.SimpleQueue[tuple[Decoded, Prediction] | None] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[Settled | None] = queue.SimpleQueue()
        self.clock = StageClock({"list": 1, "decode": self.workers, "predict": 1, "write": self.workers})
        self.readers: list[threading.Thread] = []
        self.decoders = 0
        self.writers: list[threading.Thread] = []
        self.recorder: threading.Thread | None = None
        self.tally = threading.Lock()
        self.remarks = 0
        self.stopping = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run all stages; the engine runs in the calling thread."""
        start = time.monotonic()
        self.hooks.on_stages(self.clock.times)
        try:
            self._start_threads()
            self._predict()
        except KeyboardInterrupt:
            self.summary.interrupted = True
        except Stopped:
            pass
        except BaseException as error:
            self._fail(error)
        finally:
            self.stop()
            self._leave_readers()
            for _ in self.writers:
                self.predicted.put(None)
            for thread in self.writers:
                thread.join()
            self.ended.put(None)
            if self.recorder:
                self.recorder.join()
        self.summary.seconds = time.monotonic() - start
        self.summary.stages = self.clock.times()
        self.summary.events = dict(self.predictor.events)
        if self.error:
            raise self.error

    def _start_threads(self) -> None:
        """Start the threads of all stages; of decoders and writers as many as the system allows, if at least one each.

        Raises NoMoreThreadsError if it allows too few.
        """
        try:
            self.recorder = self._thread(self._record, "ledger")
            self.readers.append(self._thread(self._list, "list"))
            for i in range(self.workers):
                self.writers.append(self._thread(self._write, f"write-{i}", _give_way))
                self.readers.append(self._thread(self._decode, f"decode-{i}", _give_way))
                self.decoders += 1
        except RuntimeError as error:
            if not is_out_of_threads(error):
                raise
            if not self.decoders:
                raise NoMoreThreadsError from error
            self.clock.threads = {**self.clock.threads, "decode": self.decoders, "write": len(self.writers)}
            self.hooks.on_note(f"going on with {self.decoders} of {self.workers} --workers: {NO_MORE_THREADS}")

    def _leave_readers(self) -> None:
        """Wait for the threads that list and decode; not long if their results no longer matter, for a library may be
        decoding for minutes. They are daemons, and touch nothing afterwards."""
        deadline = time.monotonic() + LEAVING_SECONDS
        matters = not (self.summary.interrupted or self.summary.stopped or self.error)
        for thread in self.readers:
            thread.join(None if matters else max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """Take no new work."""
        self.stopping = True
        self.listing.stop()
        self.decoding.stop()

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self.stop()
        self.writing.stop()

    def _thread(
        self, work: Callable[[], None], name: str, begin: Callable[[], None] = lambda: None
    ) -> threading.Thread:
        def guarded() -> None:
            begin()
            try:
                work()
            except Stopped:
                pass
            except BaseException as error:
                self._fail(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    # ------------------------------------------------------------------ list

    def _list(self) -> None:
        try:
            work = iter(self.work)
            while not self.stopping:
                with self.clock("list"):
                    reference = next(work, None)
                if reference is None:
                    return
                self.listing.take(0)
                self.listed.put(reference)
        finally:
            for _ in range(self.workers):
                self.listed.put(None)

    def _kept(self, key: str) -> None:
        self.summary.kept += 1  # no other thread does
        self.hooks.on_kept(key)

    def _failed_at_listing(self, failure: Failure, before: bool) -> None:
        with self.tally:
            self.summary.add_failure(failure, before=before)
        if before:
            self.hooks.on_failed_before(failure)
            return
        self.hooks.on_result(failure.key, failure)
        self._stop_after_failures()
        if self.stopping:
            raise Stopped

    # ------------------------------------------------------------------ decode

    def _decode(self) -> None:
        try:
            while (reference := self.listed.get()) is not None:
                self.listing.give_back(0)
                if not self.stopping:
                    with suppress(Stopped):
                        self._load(reference)
        finally:
            self.decoded.put(None)

    def _load(self, reference: Reference) -> None:
        reserved_bytes, waited_seconds = 0, 0.0
        fingerprint = ""

        def reserve(nbytes: int) -> None:
            nonlocal reserved_bytes, waited_seconds
            start = time.perf_counter()
            self.decoding.take(nbytes)
            reserved_bytes, waited_seconds = nbytes, time.perf_counter() - start

        try:
            with self.clock("decode"):
                fingerprint = self.source.fingerprint(reference)
                with remarks() as faults:
                    frame = self.predictor.prepared(self.source.load(reference, reserve))
                self._remark(reference.key, faults)
                if not reserved_bytes:
                    reserve(frame.nbytes)
                if frame.nbytes < reserved_bytes:  # what the decoder took is free again
                    self.decoding.give_back_part(reserved_bytes - frame.nbytes)
                else:
                    self.decoding.add(frame.nbytes - reserved_bytes)
                reserved_bytes = frame.nbytes
        except (Stopped, StorageError):  # the latter is no fault of this image
            raise
        except Exception as error:
            if reserved_bytes:
                self.decoding.give_back(reserved_bytes)
            self._end_failed(reference.key, fingerprint, _load_failure(error))
        else:
            self.decoded.put(Decoded(frame, fingerprint, reserved_bytes))
        finally:
            self.clock.add("decode", -waited_seconds)

    def _remark(self, key: str, faults: Sequence[str]) -> None:
        """Tell of an image's harmless faults, unless there were many before."""
        for fault in faults:
            with self.tally:
                self.remarks += 1
                last = self.remarks - MOST_REMARKS
            if last < 0:
                self.hooks.on_note(f"{key}: {fault}")
            elif last == 0:
                self.hooks.on_note(f"{key}: {fault}; further harmless faults of images are not told")

    def _end_failed(self, key: str, fingerprint: str, error: ImageError) -> None:
        self.ended.put(Settled(key, fingerprint, failure=Failure(key, error.stage, str(error))))

    # ------------------------------------------------------------------ predict

    def _predict(self) -> None:
        under_way: dict[str, Decoded] = {}
        ready = batches(self.decoded, self.decoders, self.predictor.batch, under_way, self.clock)
        for frame, result in self.predictor.stream(ready):
            decoded = under_way.pop(frame.key)
            if isinstance(result, ImageError):
                self._end_failed(frame.key, decoded.fingerprint, result)
                self.decoding.give_back(decoded.reserved_bytes)
            else:
                start = time.perf_counter()
                self.writing.take(result.nbytes)
                self.clock.add("predict", start - time.perf_counter())  # waiting is not work
                self.predicted.put((decoded, result))

    # ------------------------------------------------------------------ write

    def _write(self) -> None:
        while (item := self.predicted.get()) is not None:
            decoded, prediction = item
            key = decoded.frame.key
            try:
                with self.clock("write"):
                    frame = decoded.frame.original or decoded.frame
                    kept = self.pipeline.keep(self.predictor.finished(decoded.frame, prediction))
                    tables = self.pipeline.tables.items()
                    entries = {kind: table.entry(frame, kept) for kind, table in tables}
                    written = write(self.pipeline.sinks, frame, kept)
                    outputs = tuple(recorded(self.ledger.folder, output) for output in written)
                self.ended.put(Settled(key, decoded.fingerprint, outputs, entries=entries))
            except ImageError as error:
                self._end_failed(key, decoded.fingerprint, error)
            finally:
                self.writing.give_back(prediction.nbytes)
                self.decoding.give_back(decoded.reserved_bytes)

    # ------------------------------------------------------------------ the ledger

    def _record(self) -> None:
        for group in groups(self.ended):
            self._flush()
            self.ledger.settle(group)
            self._count(group)

    def _flush(self) -> None:
        """Make durable what the sinks placed: a row that says "done" is never before its files."""
        for sink in self.pipeline.sinks:
            try:
                sink.storage.flush()
            except OSError as error:
                raise OutputError(
                    f"{sink.storage.root} cannot be written: {error.strerror or error}; mend this and run the same "
                    "command again"
                ) from error

    def _count(self, group: Sequence[Settled]) -> None:
        for ended in group:
            with self.tally:
                if ended.failure:
                    self.summary.add_failure(ended.failure)
                else:
                    self.summary.done += 1
            self.hooks.on_result(ended.key, ended.failure)
        self._stop_after_failures()

    def _stop_after_failures(self) -> None:
        allowed, new = self.pipeline.max_failures, self.summary.failed - self.summary.failed_before
        if allowed is not None and new > allowed and not self.summary.stopped:
            self.summary.stopped = f"more than {allowed} images failed (--max-failures)"
            self.stop()
            self.writing.stop()


def _give_way() -> None:
    """Lower this thread's priority, where threads have one: the engine waits for the slowest of its own threads."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _load_failure(error: Exception) -> ImageError:
    """Return any error of loading as that of one image: one that breaks a reader in an unforeseen way ends no run."""
    if isinstance(error, ImageError):
        return error
    text = " ".join(str(error).split())
    return ImageError(f"cannot be read: {type(error).__name__}: {text}")
