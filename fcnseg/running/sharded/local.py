"""The crew of a run on one machine: one worker, in this process."""

from __future__ import annotations

from dataclasses import replace

from fcnseg.errors import StorageError
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.sharded.board import Board
from fcnseg.running.sharded.record import RunRecord
from fcnseg.running.sharded.worker import OpenEngine, ShardWorker, WorkerReport
from fcnseg.types import Failure


class LocalCrew:
    """One worker for the shards of this part; its images are told of one by one."""

    def __init__(self, options: RunOptions, hooks: Hooks, open_engine: OpenEngine) -> None:
        self.options, self.hooks = options, hooks
        self._worker = ShardWorker(options, open_engine)

    @property
    def size(self) -> int:
        """The number of processes that are told to share the inputs."""
        return self.options.num_parts

    def first(self) -> WorkerReport:
        """Open the engine."""
        return self._worker.open(self.hooks)

    def work(self, board: Board, record: RunRecord) -> None:  # noqa: ARG002 - its engine is the one agreed on
        """Bring the shards on the board to their ends, one after another."""
        board.workers = 1
        while board.todo and not board.is_stopped:
            board.lease.check()
            number = board.todo.popleft()
            done: list[str] = []
            hooks = self._counting(done)
            try:
                result = self._worker.run(
                    board.generation,
                    number,
                    hooks,
                    next_number=board.todo[0] if board.todo else None,
                    max_failures=board.failures_left,
                )
            except StorageError as error:
                board.put_back(number, error)
                self.hooks.on_progress(-len(done))
            else:
                board.end(result)

    def _counting(self, done: list[str]) -> Hooks:
        """Return hooks that also list the images that are done."""

        def on_result(key: str, failure: Failure | None) -> None:
            if failure is None:
                done.append(key)
            self.hooks.on_result(key, failure)

        return replace(self.hooks, on_result=on_result)

    def close(self) -> None:
        """Release the engine."""
        self._worker.close()
