"""Reporters: the lines that a run prints while it runs, for people or for machines (see `live` for terminals)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from fcnseg.cli.console import err, shown
from fcnseg.cli.progress import EVENT_SECONDS, PLAIN_SECONDS, say_interrupted
from fcnseg.cli.standard_streams import log_event
from fcnseg.cli.wording import described, duration, in_detail, left_out_line, shards_text
from fcnseg.engine.options import BuildHooks
from fcnseg.running.hooks import Hooks, ShardsState
from fcnseg.types import EngineInfo, Failure, StageTimes, Summary

FAILURES_SHOWN = 20
"""The number of failures with a line of their own; the rest are counted."""


class Reporter:
    """Prints failures and notes, and nothing of what goes well. Its methods are called from any thread.

    `before_start` is called when the engine is open: it ends the display of its building.
    """

    def __init__(self, build: BuildHooks, before_start: Callable[[], None] = lambda: None) -> None:
        self.build, self.before_start = build, before_start
        self.verbose = self.running = False
        self.lock = threading.Lock()
        self.total = self.done = self.kept = self.failed = self.failed_before = 0
        self.started = time.monotonic()
        self.shards: ShardsState | None = None

    def hooks(self) -> Hooks:
        """Return the callbacks for a run."""
        return Hooks(
            self.build,
            self.on_listing,
            self.on_start,
            self.on_stages,
            self.on_result,
            self.on_kept,
            self.on_note,
            self.on_failed_before,
            self.on_left_out,
            self.on_earlier,
            self.on_progress,
            self.on_shards,
        )

    def on_listing(self, count: int) -> None:
        """Take the number of inputs listed so far."""

    def on_start(self, total: int, info: EngineInfo) -> None:  # noqa: ARG002
        """Take the number of inputs and the engine; the first image is next."""
        self.before_start()
        self.running = True
        self.total, self.started = total, time.monotonic()

    def on_left_out(self, left_out: Mapping[str, int]) -> None:
        """Take the number of files of each suffix that are no inputs, before the first image."""

    def on_stages(self, times: Callable[[], dict[str, StageTimes]]) -> None:
        """Take a function that returns how busy the stages are."""

    def on_result(self, key: str, failure: Failure | None) -> None:
        """Count an input that ended."""
        with self.lock:
            if failure is None:
                self.done += 1
                return
            self.failed += 1
            if self.failed <= FAILURES_SHOWN:
                self.say(f"fcnseg: failed: {shown(key)}: {shown(failure.reason)}")

    def on_failed_before(self, failure: Failure) -> None:
        """Count an input that failed in an earlier run and is left so."""
        with self.lock:
            self.failed_before += 1
            if self.failed_before <= FAILURES_SHOWN:
                self.say(f"fcnseg: failed: {shown(failure.key)}: {shown(failure.reason)} (in an earlier run)")

    def on_kept(self, key: str) -> None:  # noqa: ARG002
        """Count an input that was done before; a single thread calls this."""
        self.kept += 1

    def on_earlier(self, kept: int, failed: int) -> None:
        """Count inputs that ended before, of runs in shards."""
        self.kept, self.failed_before = self.kept + kept, self.failed_before + failed

    def on_progress(self, images: int) -> None:
        """Count images that another process has done, or lost."""
        with self.lock:
            self.done += images

    def on_shards(self, state: ShardsState) -> None:
        """Take the state of the shards and workers."""
        self.shards = state

    def on_note(self, line: str) -> None:
        """Print a remark."""
        self.say(line)

    def say(self, line: str) -> None:
        """Print a line on standard error."""
        err().print(line, markup=False)

    @property
    def rate(self) -> float:
        """The images per second that this run has ended."""
        return (self.done + self.failed) / max(time.monotonic() - self.started, 1e-9)

    @property
    def remaining_seconds(self) -> float | None:
        """The seconds to go at the present rate; None before the first image."""
        return (self.total - self.ended) / self.rate if self.done + self.failed else None

    @property
    def ended(self) -> int:
        """The number of inputs that need no more work."""
        return self.done + self.kept + self.failed + self.failed_before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running and isinstance(error, KeyboardInterrupt):  # before, the display of the build says so
            say_interrupted(error, "what is written is whole; the same command goes on from there")


class PlainReporter(Reporter):
    """Prints a line about the engine too and, every few seconds, one of progress."""

    def __init__(self, build: BuildHooks, before_start: Callable[[], None] = lambda: None) -> None:
        super().__init__(build, before_start)
        self.printed_at = time.monotonic()

    def on_listing(self, count: int) -> None:
        """Print the number if listing takes long."""
        if time.monotonic() - self.printed_at > PLAIN_SECONDS:
            self.printed_at = time.monotonic()
            self.say(f"{count:,} inputs listed so far")

    def on_start(self, total: int, info: EngineInfo) -> None:
        """Print a line about the engine."""
        super().on_start(total, info)
        self.printed_at = self.started
        for line in described(info):
            self.say(line)
        if self.verbose:
            for line in in_detail(info):
                self.say(line)

    def on_left_out(self, left_out: Mapping[str, int]) -> None:
        """Print a line about them."""
        self.say(left_out_line(left_out))

    def on_result(self, key: str, failure: Failure | None) -> None:
        """Count, and print the progress now and then."""
        super().on_result(key, failure)
        self._say_progress()

    def on_progress(self, images: int) -> None:
        """Count, and print the progress now and then."""
        super().on_progress(images)
        self._say_progress()

    def _say_progress(self) -> None:
        if time.monotonic() - self.printed_at > PLAIN_SECONDS:
            self.printed_at = time.monotonic()
            self.say(self.progress())

    def progress(self) -> str:
        """Return the progress in one line."""
        left = self.remaining_seconds
        eta = f", {duration(left)} left" if left is not None else ""
        failed = f", {self.failed:,} failed" if self.failed else ""
        shards = f", {shards_text(self.shards)}" if self.shards else ""
        return f"{self.ended:,} of {self.total:,} images, {self.rate:.1f} images/s{failed}{shards}{eta}"


class JsonReporter(Reporter):
    """Prints one JSON object a line on standard error.

    `event` is note, listing, building, start, left_out, done, kept, failed, error or end; a run that was interrupted
    ends so too. Runs in shards also log `earlier` and `shards`, and on clusters `progress` in place of `done`.
    What libraries print comes as `stderr`, Python's warnings as `warning`.
    """

    def __init__(self) -> None:
        super().__init__(BuildHooks(self.on_note, self.on_build))
        self._progress_at = 0.0

    def log(self, event: str, **values: Any) -> None:
        """Print an event."""
        log_event(event, **values)

    def on_listing(self, count: int) -> None:
        """Log the number."""
        self.log("listing", inputs=count)

    def on_build(self, phase: str, fraction: float) -> None:
        """Log a step of building the engine."""
        self.log("building", phase=phase, fraction=round(fraction, 3))

    def on_start(self, total: int, info: EngineInfo) -> None:
        """Log the engine."""
        super().on_start(total, info)
        engine = {"backend": info.backend, "device": info.device, "precision": info.precision, "model": info.model}
        self.log("start", inputs=total, engine=engine, weights=info.weights_sha256, file=info.file)

    def on_left_out(self, left_out: Mapping[str, int]) -> None:
        """Log them."""
        self.log("left_out", files=dict(left_out))

    def on_result(self, key: str, failure: Failure | None) -> None:
        """Log an input that ended."""
        with self.lock:
            self.done, self.failed = self.done + (failure is None), self.failed + (failure is not None)
            if failure:
                self.log("failed", key=key, stage=failure.stage, reason=failure.reason)
            else:
                self.log("done", key=key)

    def on_failed_before(self, failure: Failure) -> None:
        """Log an input that failed in an earlier run."""
        with self.lock:
            self.failed_before += 1
            self.log("failed", key=failure.key, stage=failure.stage, reason=failure.reason, earlier=True)

    def on_kept(self, key: str) -> None:
        """Log an input that was done before."""
        with self.lock:
            self.kept += 1
            self.log("kept", key=key)

    def on_progress(self, images: int) -> None:
        """Log how many images are done, at most once a second."""
        super().on_progress(images)
        if images and time.monotonic() > self._progress_at + EVENT_SECONDS:
            self._progress_at = time.monotonic()
            self.log("progress", phase="segmenting", done=self.ended, total=self.total)

    def on_shards(self, state: ShardsState) -> None:
        """Log the state."""
        if state != self.shards:
            super().on_shards(state)
            self.log("shards", **asdict(state))

    def on_earlier(self, kept: int, failed: int) -> None:
        """Log what ended in earlier runs."""
        super().on_earlier(kept, failed)
        if kept or failed:
            self.log("earlier", kept=kept, failed=failed)

    def say(self, line: str) -> None:
        """Log a remark."""
        self.log("note", text=line)

    def end(self, summary: Summary) -> None:
        """Log the summary."""
        self.log("end", exit_code=summary.exit_code, **asdict(summary))
