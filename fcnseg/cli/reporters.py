"""What a run says while it runs: a live display in a terminal, plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fcnseg.cli.console import err, shown
from fcnseg.cli.progress import described, say_interrupted
from fcnseg.engine.options import BuildHooks
from fcnseg.running.run import Hooks

if TYPE_CHECKING:
    from rich.live import Live

    from fcnseg.types import EngineInfo, Failure, StageTimes

FAILURES_SHOWN = 20
"""Failures with a line of their own; the rest are counted."""

PLAIN_SECONDS = 10.0
"""The time between two lines of progress where there is no terminal."""

LISTING_SECONDS = 1.0
"""Listing that takes longer is worth a word."""


class Reporter:
    """Says failures and notes in lines, and nothing of what goes well. A context manager; hears from any thread.

    `before_start` is called when the engine is there: it ends what was shown until then.
    """

    def __init__(self, build: BuildHooks, before_start: Callable[[], None] = lambda: None) -> None:
        self.build, self.before_start = build, before_start
        self.verbose = self.running = False
        self.lock = threading.Lock()
        self.total = self.done = self.kept = self.failed = self.failed_before = 0
        self.started = time.monotonic()

    def hooks(self) -> Hooks:
        """What a run is to call."""
        return Hooks(
            self.build,
            self.on_listing,
            self.on_start,
            self.on_stages,
            self.on_result,
            self.on_kept,
            self.on_note,
            self.on_failed_before,
        )

    def on_listing(self, count: int) -> None:
        """So many inputs are listed."""

    def on_start(self, total: int, info: EngineInfo) -> None:
        """The engine is there and the first image next."""
        self.before_start()
        self.running = True
        self.total, self.started = total, time.monotonic()
        if self.verbose:
            self.say(f"engine {info.file or info.device}; {dict(info.versions)}")

    def on_stages(self, times: Callable[[], dict[str, StageTimes]]) -> None:
        """The stages run; `times` tells how busy they are."""

    def on_result(self, key: str, failure: Failure | None) -> None:
        """One input ended."""
        with self.lock:
            if failure is None:
                self.done += 1
                return
            self.failed += 1
            if self.failed <= FAILURES_SHOWN:
                self.say(f"fcnseg: failed: {shown(key)}: {shown(failure.reason)}")

    def on_failed_before(self, failure: Failure) -> None:
        """One input failed in an earlier run and is left so."""
        with self.lock:
            self.failed_before += 1
            if self.failed_before <= FAILURES_SHOWN:
                self.say(f"fcnseg: failed: {shown(failure.key)}: {shown(failure.reason)} (in an earlier run)")

    def on_kept(self, key: str) -> None:  # noqa: ARG002
        """One input was done before: a single thread tells of these."""
        self.kept += 1

    def on_note(self, line: str) -> None:
        """Something worth a line."""
        self.say(line)

    def say(self, line: str) -> None:
        """A line on standard error."""
        err().print(line, markup=False)

    @property
    def rate(self) -> float:
        """Images that ended per second, by this run."""
        return (self.done + self.failed) / max(time.monotonic() - self.started, 1e-9)

    @property
    def remaining_seconds(self) -> float | None:
        """At the present rate; None before the first image."""
        return (self.total - self.ended) / self.rate if self.done + self.failed else None

    @property
    def ended(self) -> int:
        """How many inputs need no more work."""
        return self.done + self.kept + self.failed + self.failed_before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running and isinstance(error, KeyboardInterrupt):  # before, it is what builds the engine that says so
            say_interrupted(error, "what is written is whole; the same command goes on from there")


class PlainReporter(Reporter):
    """Adds the engine's line and, every few seconds, one of progress."""

    def __init__(self, build: BuildHooks, before_start: Callable[[], None] = lambda: None) -> None:
        super().__init__(build, before_start)
        self.said = time.monotonic()

    def on_listing(self, count: int) -> None:
        """Say so if it takes long."""
        if time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            self.say(f"{count:,} inputs listed so far")

    def on_start(self, total: int, info: EngineInfo) -> None:
        """What runs."""
        super().on_start(total, info)
        self.said = self.started
        self.say(described(info))

    def on_result(self, key: str, failure: Failure | None) -> None:
        """Count, and say how far it is now and then."""
        super().on_result(key, failure)
        if time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            self.say(self.progress())

    def progress(self) -> str:
        """How far the run is, in one line."""
        left = self.remaining_seconds
        eta = f", {duration(left)} left" if left is not None else ""
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.ended:,} of {self.total:,} images, {self.rate:.1f} images/s{failed}{eta}"


class LiveReporter(PlainReporter):
    """One display that is redrawn: progress, speed, time left, how busy the stages are, failures."""

    def __init__(self, build: BuildHooks, before_start: Callable[[], None]) -> None:
        super().__init__(build, before_start)
        self.times: Callable[[], dict[str, StageTimes]] = dict
        self.live: Live | None = None

    def on_listing(self, count: int) -> None:
        """A line that is redrawn, if listing takes long."""
        if time.monotonic() - self.said > LISTING_SECONDS:
            sys.stderr.write(f"\rlisting: {count:,} inputs\x1b[K")
            sys.stderr.flush()

    def on_start(self, total: int, info: EngineInfo) -> None:
        """Close what was drawn before and open the display."""
        from rich.live import Live

        self.before_start()
        if time.monotonic() - self.said > LISTING_SECONDS:
            sys.stderr.write("\r\x1b[K")
        super().on_start(total, info)
        self.live = Live(console=err(), refresh_per_second=4, transient=True, get_renderable=self.render)
        self.live.start()

    def on_stages(self, times: Callable[[], dict[str, StageTimes]]) -> None:
        """Keep the way to ask."""
        self.times = times

    def on_result(self, key: str, failure: Failure | None) -> None:
        """Count; the display asks by itself."""
        Reporter.on_result(self, key, failure)

    def render(self) -> Any:
        """The display as it should look now."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        left = self.remaining_seconds
        row = Table.grid(padding=(0, 1))
        row.add_row(
            "segmenting",
            ProgressBar(total=max(self.total, 1), completed=self.ended, width=min(40, err().width // 3)),
            f"{self.ended:,}/{self.total:,}",
            f"{self.rate:.1f} images/s",
            f"ETA {duration(left)}" if left is not None else "",
        )
        busy = "   ".join(f"{name} {t.utilisation:.0%}" for name, t in self.times().items())
        failed = f"   {self.failed:,} failed" if self.failed else ""
        return Group(row, Text(f"busy: {busy}{failed}", style="dim"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
        super().__exit__(kind, error, trace)


class JsonReporter(Reporter):
    """One JSON object a line on standard error: `event` is note, listing, building, start, done, kept, failed, error
    or end, the last line of a run that was interrupted too."""

    def __init__(self) -> None:
        super().__init__(BuildHooks(self.on_note, self.on_build))

    def log(self, event: str, **values: Any) -> None:
        """One line."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **values}, default=str)
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def on_listing(self, count: int) -> None:
        """The number so far."""
        self.log("listing", inputs=count)

    def on_build(self, phase: str, fraction: float) -> None:
        """The engine's building."""
        self.log("building", phase=phase, fraction=round(fraction, 3))

    def on_start(self, total: int, info: EngineInfo) -> None:
        """What runs."""
        super().on_start(total, info)
        engine = {"backend": info.backend, "device": info.device, "precision": info.precision, "model": info.model}
        self.log("start", inputs=total, engine=engine, weights=info.weights_sha256, file=info.file)

    def on_result(self, key: str, failure: Failure | None) -> None:
        """One input."""
        with self.lock:
            self.done, self.failed = self.done + (failure is None), self.failed + (failure is not None)
            if failure:
                self.log("failed", key=key, stage=failure.stage, reason=failure.reason)
            else:
                self.log("done", key=key)

    def on_failed_before(self, failure: Failure) -> None:
        """One input that failed in an earlier run."""
        with self.lock:
            self.failed_before += 1
            self.log("failed", key=failure.key, stage=failure.stage, reason=failure.reason, earlier=True)

    def on_kept(self, key: str) -> None:
        """One input that was done before."""
        with self.lock:
            self.kept += 1
            self.log("kept", key=key)

    def say(self, line: str) -> None:
        """A note."""
        self.log("note", text=line)

    def end(self, summary: Any) -> None:
        """The last line."""
        self.log("end", exit_code=summary.exit_code, **asdict(summary))


def duration(seconds: float) -> str:
    """In words of one or two units: 8 s, 3 min 20 s, 2 h 5 min, 3 days 4 h."""
    whole = round(seconds)
    for unit, size, part, smaller in (("days", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"
