"""The process of a worker on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fcnseg.engine.options import BuildHooks
from fcnseg.errors import FcnsegError
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.sharded.plan import Generation
from fcnseg.running.sharded.worker import OpenEngine, ShardResult, ShardWorker, WorkerReport
from fcnseg.types import Failure

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """The shard at work, the images of it that are done, and the remarks since the last time."""

    shard: int | None
    done: int
    notes: tuple[str, ...]


class RayWorker:
    """A `ShardWorker` as an actor: errors are returned as values, progress can be asked for meanwhile."""

    def __init__(self, open_engine: OpenEngine) -> None:
        self._open_engine = open_engine
        self._worker: ShardWorker | None = None
        self._shard: int | None = None
        self._done = 0
        self._notes: list[str] = []

    def open(self, options: RunOptions) -> WorkerReport | FcnsegError:
        """Open the engine, building it first if need be."""
        worker = ShardWorker(options, self._open_engine)
        hooks = Hooks(BuildHooks(self._notes.append), on_note=self._notes.append)
        result = _value(lambda: worker.open(hooks))
        if isinstance(result, WorkerReport):
            self._worker = worker
        return result

    def run(self, generation: Generation, number: int, **how: Any) -> ShardResult | FcnsegError:
        """Bring a shard to its end; `how` is as `ShardWorker.run` takes it."""
        self._shard, self._done = number, 0
        hooks = Hooks(on_result=self._count, on_note=self._notes.append)
        return _value(lambda: self._opened.run(generation, number, hooks, **how))

    def try_image(self, generation: Generation, number: int, index: int) -> str | FcnsegError:
        """Try one image, and return its key."""
        return _value(lambda: self._opened.try_image(generation, number, index))

    def progress(self) -> Progress:
        """Return how far the shard at work is."""
        notes, self._notes[:] = tuple(self._notes), []
        return Progress(self._shard, self._done, notes)

    @property
    def _opened(self) -> ShardWorker:
        assert self._worker is not None  # the driver opens it first
        return self._worker

    def _count(self, key: str, failure: Failure | None) -> None:  # noqa: ARG002
        self._done += failure is None


def _value(call: Callable[[], T]) -> T | FcnsegError:
    """Return what the call returns, or the error that it raises, without what cannot leave the process."""
    try:
        return call()
    except FcnsegError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
