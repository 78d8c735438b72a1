import queue

import numpy as np

from fcnseg.running.batching import Decoded, batches
from fcnseg.running.stage_times import StageClock
from fcnseg.types import Frame


def decoded(key: str, height: int) -> Decoded:
    return Decoded(Frame(key, key, {"color": np.zeros((height, 4, 3), np.uint8)}), "", 0)


def keys_of(items: list[Decoded | None], largest: int, under_way: dict[str, Decoded]) -> list[list[str]]:
    waiting: queue.SimpleQueue[Decoded | None] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    clock = StageClock({"predict": 1})
    return [[frame.key for frame in batch] for batch in batches(waiting, 1, largest, under_way, clock)]


def test_batches_are_of_one_size_oldest_first() -> None:
    under_way: dict[str, Decoded] = {}
    images = [decoded(key, height) for key, height in zip("abcdefg", (1, 2, 1, 1, 2, 3, 1), strict=True)]
    found = keys_of([*images, None], 3, under_way)
    assert [keys for keys in found if keys] == [["a", "c", "d"], ["b", "e"], ["f"], ["g"]]
    assert sorted(under_way) == list("abcdefg")


def test_an_empty_batch_says_that_nothing_is_there_at_the_moment() -> None:
    waiting: queue.SimpleQueue[Decoded | None] = queue.SimpleQueue()
    waiting.put(decoded("a", 1))
    under_way: dict[str, Decoded] = {}
    stream = batches(waiting, 1, 2, under_way, StageClock({"predict": 1}))
    assert [frame.key for frame in next(stream)] == ["a"]
    assert next(stream) == []
    under_way.clear()  # the engine is done with it
    waiting.put(None)
    assert list(stream) == []
