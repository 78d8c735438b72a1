"""A function called in a subprocess, where it may hold state, memory and a native library that crashes."""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from fcnseg.workers.process import ENDING_SECONDS, WorkerDiedError, WorkerProcess, take_over_pipes

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class RemoteFunction(Generic[Argument, Result]):
    """A picklable function of one argument in a subprocess of its own, started on construction.

    Arguments, results and exceptions cross pipes as pickles. Raises WorkerDiedError if the system starts no process.
    """

    def __init__(self, function: Callable[[Argument], Result], environment: Mapping[str, str] | None = None) -> None:
        self._process = WorkerProcess(__name__, environment)
        self._function: Callable[[Argument], Result] | None = function

    def __call__(self, argument: Argument) -> Result:
        """Call the function there. Raises what it raises, WorkerDiedError if the process dies."""
        try:
            if self._function is not None:  # sent with the first call, so that construction never waits
                pickle.dump(self._function, self._process.requests, pickle.HIGHEST_PROTOCOL)
                self._function = None
            pickle.dump(argument, self._process.requests, pickle.HIGHEST_PROTOCOL)
            self._process.requests.flush()
            raised, answer = pickle.load(self._process.answers)  # written by our own process
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            # ValueError: another thread stopped the process and closed its pipes
            raise WorkerDiedError(self._process.cause_of_death()) from error
        if raised:
            raise answer
        return answer  # type: ignore[no-any-return]

    def stop(self, grace_seconds: float = ENDING_SECONDS) -> None:
        """End the process, also in the middle of a call; it may be called again."""
        self._process.stop(grace_seconds)


def main() -> None:
    """The subprocess: read the function, then answer each argument until the parent closes the pipe or is gone."""
    requests, answers = take_over_pipes()
    function = pickle.load(requests)
    arguments: SimpleQueue[Any] = SimpleQueue()

    def read_requests() -> None:
        try:
            while True:
                arguments.put(pickle.load(requests))
        except EOFError:  # nobody waits for answers any more, so not for the call in progress either
            os._exit(130)
        except Exception:
            try:
                traceback.print_exc()
            finally:  # the parent may have been killed within a request: nobody reads this, and that is an error, too
                os._exit(1)

    threading.Thread(target=read_requests, daemon=True).start()
    while True:
        argument = arguments.get()
        try:
            answer = False, function(argument)
        except Exception as error:
            answer = True, _picklable(error)
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # errors of some libraries cannot be made again from their arguments
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
