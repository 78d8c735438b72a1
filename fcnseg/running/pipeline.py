"""The flow: list, decode, predict, write, each in threads of its own, and a ledger that says how every input ended.

    worklist --> decoders --> this thread: batches of one size, the engine --> writers --> ledger

Decoders run ahead and writers behind as far as their budgets of bytes allow, so that memory does not grow with the
number of images. An image that fails becomes a record. Anything else that goes wrong in any thread ends the run:
threads stop taking new work, what is predicted is written, and the first error is raised when all have ended.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from fcnseg.errors import ImageError, OutputError
from fcnseg.io.names import output_names
from fcnseg.io.parts import Part
from fcnseg.running.budget import Budget, Stopped
from fcnseg.running.claims import Owner
from fcnseg.running.ledger import Ledger, Settled
from fcnseg.running.predictor import Predictor
from fcnseg.running.stage_times import StageClock
from fcnseg.running.worklist import Worklist
from fcnseg.types import Failure, Frame, Output, Prediction, Reference, Sink, Source, StageTimes, Summary

FATAL_WRITES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENODEV, errno.ESTALE}
)
"""Errors of the output as a whole: going on would only fail again."""

COMMIT_SECONDS = 0.05
"""How long a finished image may wait for others to be recorded with."""

COMMIT_IMAGES = 64


@dataclass(frozen=True)
class FlowOptions:
    """How the flow runs; no label depends on any of it.

    `workers` threads decode, `writers` write. `ahead_bytes` bounds the decoded images in memory, and again the
    predictions that wait to be written; one image larger than that goes alone. After more than `max_failures` new
    failures the run stops. For `retry_failed` and `replace` see `Worklist`.
    """

    workers: int = 2
    writers: int = 2
    ahead_bytes: int = 256 << 20
    part: Part = field(default_factory=Part)
    retry_failed: bool = False
    replace: bool = False
    max_failures: int | None = None


@dataclass(frozen=True)
class FlowHooks:
    """What a caller may listen to (from any thread): every input as it ends or is found done, a look at the
    stages once the flow runs, and what an earlier run failed at and this one does not try again."""

    on_result: Callable[[str, Failure | None], None] = lambda key, failure: None
    on_kept: Callable[[str], None] = lambda key: None
    on_started: Callable[[Callable[[], dict[str, StageTimes]]], None] = lambda stages: None
    on_failed_before: Callable[[Failure], None] = lambda failure: None


def process(
    source: Source,
    predictor: Predictor,
    sinks: Sequence[Sink],
    ledger: Ledger,
    *,
    total: int = 0,
    options: FlowOptions | None = None,
    hooks: FlowHooks | None = None,
) -> Summary:
    """Bring every input of this part to an end: done, or failed for a recorded reason.

    Ctrl-C (KeyboardInterrupt) ends with what is whole and marks the summary interrupted. Raises OutputError if the
    output as a whole cannot be written, and whatever the engine or a thread died of.
    """
    with Owner(ledger.file.parent) as owner:
        flow = _Flow(source, predictor, sinks, ledger, owner.name, options or FlowOptions(), hooks or FlowHooks())
        flow.summary.total = total
        try:
            flow.run()
        finally:
            with suppress(OutputError):  # of a disk that is full: the claims lapse with the lock
                ledger.release(owner.name)
    return flow.summary


@dataclass
class _Decoded:
    """A frame on its way, with its fingerprint and the room it takes."""

    frame: Frame
    fingerprint: str
    room: int


class _Flow:
    """One run: its threads, queues and budgets."""

    def __init__(
        self,
        source: Source,
        predictor: Predictor,
        sinks: Sequence[Sink],
        ledger: Ledger,
        owner: str,
        options: FlowOptions,
        hooks: FlowHooks,
    ) -> None:
        self.source, self.predictor, self.sinks, self.ledger = source, predictor, sinks, ledger
        self.options, self.hooks = options, hooks
        self.summary = Summary(0)
        self.work = Worklist(
            source,
            ledger,
            owner,
            options.part,
            output_names(sinks, ledger.relative),
            options.retry_failed,
            options.replace,
            self._kept,
            self._failed_at_listing,
            lambda: self.stopping,
        )
        items = 4 * max(options.workers, predictor.batch)
        self.listing = Budget(0, 2 * options.workers)
        self.decoding, self.writing = Budget(options.ahead_bytes, items), Budget(options.ahead_bytes, items)
        self.listed: queue.SimpleQueue[Reference | None] = queue.SimpleQueue()
        self.decoded: queue.SimpleQueue[_Decoded | None] = queue.SimpleQueue()
        self.predicted: queue.SimpleQueue[tuple[_Decoded, Prediction] | None] = queue.SimpleQueue()
        self.settled: queue.SimpleQueue[Settled | None] = queue.SimpleQueue()
        self.clock = StageClock({"list": 1, "decode": options.workers, "predict": 1, "write": options.writers})
        self.tally = threading.Lock()
        self.stopping = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """The whole flow; the engine runs in the calling thread."""
        start = time.monotonic()
        self.hooks.on_started(self.clock.times)
        lister = self._thread(self._list, "list")
        decoders = [self._thread(self._decode, f"decode-{i}", _give_way) for i in range(self.options.workers)]
        writers = [self._thread(self._write, f"write-{i}", _give_way) for i in range(self.options.writers)]
        settler = self._thread(self._settle, "ledger")
        try:
            self._predict()
        except KeyboardInterrupt:
            self.summary.interrupted = True
        except Stopped:
            pass
        except BaseException as error:
            self._fail(error)
        finally:
            self.stop()
            for thread in (lister, *decoders):
                thread.join()
            for _ in writers:
                self.predicted.put(None)
            for thread in writers:
                thread.join()
            self.settled.put(None)
            settler.join()
        for sink in self.sinks:
            sink.close()
        self.summary.seconds = time.monotonic() - start
        self.summary.stages = self.clock.times()
        self.summary.events = dict(self.predictor.events)
        if self.error:
            raise self.error

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
            for _ in range(self.options.workers):
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
        room = waited = 0.0
        fingerprint = ""

        def reserve(nbytes: int) -> None:
            nonlocal room, waited
            start = time.perf_counter()
            self.decoding.take(nbytes)
            room, waited = nbytes, time.perf_counter() - start

        try:
            with self.clock("decode"):
                fingerprint = self.source.fingerprint(reference)
                frame = self.source.load(reference, reserve)
                if not room:
                    reserve(frame.nbytes)
        except Stopped:
            raise
        except Exception as error:
            if room:
                self.decoding.give_back(int(room))
            self._settle_failure(reference.key, fingerprint, _load_failure(error))
        else:
            self.decoded.put(_Decoded(frame, fingerprint, int(room)))
        finally:
            self.clock.add("decode", -waited)

    def _settle_failure(self, key: str, fingerprint: str, error: ImageError) -> None:
        self.settled.put(Settled(key, fingerprint, failure=Failure(key, error.stage, str(error))))

    # ------------------------------------------------------------------ predict

    def _predict(self) -> None:
        on_the_way: dict[str, _Decoded] = {}
        for frame, found in self.predictor.stream(self._batches(on_the_way)):
            one = on_the_way.pop(frame.key)
            if isinstance(found, ImageError):
                self._settle_failure(frame.key, one.fingerprint, found)
                self.decoding.give_back(one.room)
            else:
                start = time.perf_counter()
                self.writing.take(found.nbytes)
                self.clock.add("predict", start - time.perf_counter())  # waiting is not work
                self.predicted.put((one, found))

    def _batches(self, on_the_way: dict[str, _Decoded]) -> Iterator[list[Frame]]:
        """Frames of one size, oldest first, as many as there are now and the engine likes. An empty list says that
        none is there at the moment: what is still in the engine should come out."""
        window: list[_Decoded] = []
        ended = 0
        started: float | None = None
        while True:
            if started is not None:
                self.clock.add("predict", time.perf_counter() - started)
            if not window and on_the_way and self.decoded.empty():
                yield []
            while ended < self.options.workers and (not window or not self.decoded.empty()):
                one = self.decoded.get()
                if one is None:
                    ended += 1
                else:
                    window.append(one)
            if not window:
                return
            size = window[0].frame.size
            batch = [one for one in window if one.frame.size == size][: self.predictor.batch]
            on_the_way.update((one.frame.key, one) for one in batch)
            window = [one for one in window if one.frame.key not in on_the_way]
            started = time.perf_counter()
            yield [one.frame for one in batch]

    # ------------------------------------------------------------------ write

    def _write(self) -> None:
        while (item := self.predicted.get()) is not None:
            one, prediction = item
            try:
                with self.clock("write"), _fatal_errors(one.frame.key):
                    outputs: list[Output] = []
                    for sink in self.sinks:
                        outputs += sink.write(one.frame, prediction)
                self.settled.put(Settled(one.frame.key, one.fingerprint, tuple(outputs)))
            except ImageError as error:
                self._settle_failure(one.frame.key, one.fingerprint, error)
            finally:
                self.writing.give_back(prediction.nbytes)
                self.decoding.give_back(one.room)

    # ------------------------------------------------------------------ the ledger

    def _settle(self) -> None:
        """Record what ended, several at once, and say so."""
        last = False
        while not last:
            group: list[Settled] = []
            deadline = time.monotonic() + COMMIT_SECONDS
            while len(group) < COMMIT_IMAGES and not last:
                try:
                    one = self.settled.get(timeout=max(0.0, deadline - time.monotonic()) if group else None)
                except queue.Empty:
                    break
                if one is None:
                    last = True
                else:
                    group.append(one)
            if group:
                self.ledger.settle(group)
                self._count(group)

    def _count(self, group: Sequence[Settled]) -> None:
        for one in group:
            with self.tally:
                if one.failure:
                    self.summary.add_failure(one.failure)
                else:
                    self.summary.done += 1
            self.hooks.on_result(one.key, one.failure)
        self._stop_after_failures()

    def _stop_after_failures(self) -> None:
        allowed, new = self.options.max_failures, self.summary.failed - self.summary.failed_before
        if allowed is not None and new > allowed and not self.summary.stopped:
            self.summary.stopped = f"more than {allowed} images failed (--max-failures)"
            self.stop()
            self.writing.stop()


def _give_way() -> None:
    """Let the engine's threads, which wait for the slowest of them, go before this one (where threads have priorities
    of their own)."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _load_failure(error: Exception) -> ImageError:
    """Why an image could not be loaded; one that breaks a reader in an unforeseen way is a failed image too."""
    if isinstance(error, ImageError):
        return error
    text = " ".join(str(error).split())
    return ImageError(f"cannot be read: {type(error).__name__}: {text}")


@contextmanager
def _fatal_errors(key: str) -> Iterator[None]:
    """What a write failed of: OutputError if the output as a whole is at fault, else ImageError."""
    try:
        yield
    except OSError as error:
        if error.errno not in FATAL_WRITES:
            raise ImageError(error.strerror or str(error), "write") from error
        where = f" ({error.filename})" if error.filename else ""
        raise OutputError(
            f"cannot write the output of {key}: {error.strerror}{where}; "
            "files written so far are whole, mend this and run the same command again"
        ) from error
