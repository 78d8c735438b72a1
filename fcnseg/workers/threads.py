"""A function over many things in threads, which are left at their work when the caller stops."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    name: str = "decode",
    awaited: Callable[[Item, Future[Any]], Any] = lambda item, future: future.result(),
) -> Generator[tuple[Item, Result]]:
    """Yield each item with what the function makes of it, in order, at most two a thread ahead.

    A caller that stops (Ctrl-C) does not wait for calls under way: see `cli.leaving` for the name. `awaited` waits for
    the result of an item. Raises what the function raises, and RuntimeError if the system allows no thread.
    """
    tasks: SimpleQueue[tuple[Future[Any], Item] | None] = SimpleQueue()
    pending: deque[tuple[Item, Future[Any]]] = deque()

    def work() -> None:
        while task := tasks.get():
            future, item = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(item))
                except BaseException as error:
                    future.set_exception(error)

    def taken() -> tuple[Item, Result]:
        item, future = pending.popleft()
        return item, awaited(item, future)

    for number in range(threads):
        threading.Thread(target=work, name=f"{name}-{number}", daemon=True).start()
    try:
        for item in items:
            if len(pending) == 2 * threads:
                yield taken()
            pending.append((item, Future()))
            tasks.put((pending[-1][1], item))
        while pending:
            yield taken()
    finally:
        for _, future in pending:
            future.cancel()
        for _ in range(threads):
            tasks.put(None)
