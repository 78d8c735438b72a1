"""Watch a TensorRT build: its progress, and Ctrl-C while it runs.

TensorRT swallows what its callbacks raise. So they only note what they are told; the thread that asked for the build
calls the user's functions, and what those raise goes where exceptions go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from fcnseg.errors import is_out_of_threads

OnProgress = Callable[[str, float], None]
"""Called with the name of the phase and the fraction of the whole that is done, 0..1."""

POLL_SECONDS = 0.1
"""The time between two looks at a build that reports nothing, so that Ctrl-C is noticed."""


@dataclass
class Phase:
    """One of the build's nested phases: the one around it, its steps, and how many are done."""

    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """The progress of a build, from the phases that the library reports. Never goes back."""

    def __init__(self) -> None:
        self.name, self.fraction = "", 0.0
        self._open: dict[str, Phase] = {}

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins inside `parent` (None: the outermost)."""
        self.name = name
        self._open[name] = Phase(parent, max(1, steps))

    def step(self, name: str, step: int) -> None:
        """Step `step` (from 0) of a phase is done."""
        if name in self._open:
            self._open[name].done = step + 1
        self._update()

    def finish(self, name: str) -> None:
        """A phase ends, all its steps done or not."""
        phase = self._open.get(name)
        if phase is not None:
            phase.done = phase.steps
            self._update()
            del self._open[name]

    def _update(self) -> None:
        self.fraction = max(self.fraction, self._within(None))

    def _within(self, parent: str | None) -> float:
        """Return the fraction of a step of `parent` that its inner phases have done."""
        inner = [(name, phase) for name, phase in self._open.items() if phase.parent == parent]
        return max((min(1.0, (p.done + self._within(name)) / p.steps) for name, p in inner), default=0.0)


def progress_monitor(module: Any) -> Any:
    """An IProgressMonitor of a TensorRT library: queues what it is told in `events`, cancels once `stop` is set."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.events: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
            self.stop = threading.Event()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.events.put(("start", phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.events.put(("step", phase_name, step))
            return not self.stop.is_set()  # None would cancel

        def phase_finish(self, phase_name: str) -> None:
            self.events.put(("finish", phase_name))

    return Monitor()


def watched(build: Callable[[], Any], monitor: Any, on_progress: OnProgress) -> Any:
    """Run `build` in a thread, on the calling thread's CUDA device, while it reports to `monitor`; returns its result.

    `on_progress` is called here. Whatever ends this early (an exception of its own, Ctrl-C) stops the build first.
    """
    result: Future[Any] = Future()
    device = _cuda_device()

    def work() -> None:
        try:
            _use(device)
            result.set_result(build())
        except BaseException as error:
            result.set_exception(error)
        finally:
            monitor.events.put(None)

    thread = threading.Thread(target=work, name="tensorrt-build", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        if not is_out_of_threads(error):
            raise
        return build()  # without its progress
    try:
        _follow(monitor.events, on_progress)
    finally:
        monitor.stop.set()
        thread.join()
    return result.result()


def _follow(events: SimpleQueue[Any], on_progress: OnProgress) -> None:
    """Report until the build ends."""
    progress, running = BuildProgress(), True
    while running:
        news = _news(events)
        running = None not in news
        for event in news:
            if event is not None:
                getattr(progress, event[0])(*event[1:])
        if any(news):
            on_progress(progress.name, progress.fraction)


def _news(events: SimpleQueue[Any]) -> list[Any]:
    """Return all that was reported since, after a short wait if that is nothing."""
    news = []
    try:
        news.append(events.get(timeout=POLL_SECONDS))
        while True:
            news.append(events.get_nowait())
    except Empty:
        return news


def _cuda_device() -> int | None:
    import torch

    return torch.cuda.current_device() if torch.cuda.is_available() else None


def _use(device: int | None) -> None:
    """Make this thread, which starts on device 0, build for the device that the caller chose."""
    if device is not None:
        import torch

        torch.cuda.set_device(device)
