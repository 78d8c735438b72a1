"""Calls that wait for a storage, in threads that nobody has to wait for: Ctrl-C ends a program at once.

A library that waits in the main thread lets no signal through, and a program that ends waits for the threads of an
executor.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def interruptible(call: Callable[[], Result]) -> Result:
    """Return a call's result; in the main thread, Ctrl-C is raised although the call has not returned."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    future: Future[Result] = Future()
    threading.Thread(target=_settle, args=(future, call), name="storage", daemon=True).start()
    return future.result()


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int | None = None
) -> Generator[Result]:
    """Yield the function's result for each item, in order, working on so many at once.

    At most `ahead` items are taken before their results are asked for, twice as many as threads if None. Raises what
    the function raises; threads that are busy when the iteration ends are left alone.
    """
    work: queue.SimpleQueue[tuple[Future[Result], Item] | None] = queue.SimpleQueue()

    def serve() -> None:
        while entry := work.get():
            future, item = entry
            _settle(future, partial(function, item))

    iterator, waiting = iter(items), deque[Future[Result]]()

    def submit(count: int) -> None:
        for item in islice(iterator, count):
            waiting.append(Future())
            work.put((waiting[-1], item))

    try:
        submit(ahead or 2 * threads)
        for _ in range(min(threads, len(waiting))):
            threading.Thread(target=serve, name="storage", daemon=True).start()
        while waiting:
            yield waiting.popleft().result()
            submit(1)
    finally:
        for _ in range(threads):
            work.put(None)


def _settle(future: Future[Result], call: Callable[[], Result]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # whoever asked is to know
        future.set_exception(error)
