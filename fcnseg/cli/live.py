"""The live display of a run in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fcnseg.cli.console import err
from fcnseg.cli.reporters import PlainReporter, Reporter
from fcnseg.cli.wording import duration, shards_text
from fcnseg.engine.options import BuildHooks
from fcnseg.types import EngineInfo, Failure, StageTimes
from fcnseg.workers.limits import startable_threads

LISTING_SECONDS = 1.0
"""The number of inputs is drawn if listing takes longer."""


class LiveReporter(PlainReporter):
    """Draws progress, speed, remaining time, how busy the stages are, and prints failures above."""

    def __init__(self, build: BuildHooks, before_start: Callable[[], None]) -> None:
        super().__init__(build, before_start)
        self.times: Callable[[], dict[str, StageTimes]] = dict
        self.live: Live | None = None

    def on_listing(self, count: int) -> None:
        """Redraw a line with the number if listing takes long."""
        if time.monotonic() - self.printed_at > LISTING_SECONDS:
            sys.stderr.write(f"\rlisting: {count:,} inputs\x1b[K")
            sys.stderr.flush()

    def on_start(self, total: int, info: EngineInfo) -> None:
        """End the display of the build and open this one."""
        self.before_start()
        if time.monotonic() - self.printed_at > LISTING_SECONDS:
            sys.stderr.write("\r\x1b[K")
        super().on_start(total, info)
        self.live = Live(
            console=err(),
            refresh_per_second=4,
            transient=True,
            get_renderable=self.render,
            auto_refresh=bool(startable_threads(1)),  # by a thread
        )
        self.live.start()

    def on_stages(self, times: Callable[[], dict[str, StageTimes]]) -> None:
        """Keep the function for drawing."""
        self.times = times

    def on_result(self, key: str, failure: Failure | None) -> None:
        """Count; the display draws itself."""
        Reporter.on_result(self, key, failure)

    def on_progress(self, images: int) -> None:
        """Count; the display draws itself."""
        Reporter.on_progress(self, images)

    def render(self) -> Group:
        """Return the display as it should look now."""
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
        parts = [f"busy: {busy}"] if busy else []
        parts += [shards_text(self.shards)] if self.shards else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        return Group(row, Text("   ".join(parts), style="dim"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
        super().__exit__(kind, error, trace)
