"""Waiting for a storage: in order, bounded, and not when Ctrl-C is pressed."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fcnseg.io.waiting import interruptible, map_ahead


@pytest.fixture
def endless() -> Iterator[threading.Event]:
    """An event that is set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Ctrl-C, in a moment."""
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.join()


@pytest.mark.usefixtures("interrupted")
def test_a_call_that_does_not_return_is_interrupted(endless: threading.Event) -> None:
    with pytest.raises(KeyboardInterrupt):
        interruptible(endless.wait)


@pytest.mark.usefixtures("interrupted")
def test_calls_that_do_not_return_are_interrupted(endless: threading.Event) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(map_ahead(lambda item: endless.wait(), range(10), 4))


def test_results_and_errors_are_those_of_the_call() -> None:
    assert interruptible(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)
    results = map_ahead(lambda item: 6 // item, [3, 2, 1, 0], 2)
    assert [next(results), next(results), next(results)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(lambda item: item, items(), 2, 5)
    assert next(results) == 0
    assert len(taken) == 5
    assert list(results) == list(range(1, 100))
    assert list(map_ahead(str, [], 4)) == []
