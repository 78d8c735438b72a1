"""Which shapes are captured, and what becomes of those that cannot be."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from fcnseg.engine.runtimes.replays import GRAPHS, REPEATS, Replays, Tensors
from fcnseg.engine.runtimes.streams import ProcessorStreams, Work


class Counting(ProcessorStreams):
    """Counts captures and replays; memory grows with each capture."""

    def __init__(self) -> None:
        self.captures = self.replays = 0
        self.refuses: Exception | None = None

    def capture(self, work: Work) -> Work:
        if self.refuses:
            raise self.refuses
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            work()

        return replay

    def reserved_bytes(self) -> int:
        return 100 * self.captures


def double(inputs: Tensors, outputs: Tensors) -> None:
    outputs["y"].copy_(inputs["x"] * 2)


def run(replays: Replays, size: int, network: Callable[[Tensors, Tensors], None] = double, kept: object = None) -> None:
    x, y = torch.rand(size), torch.zeros(size)
    replays.run(size, {"x": x}, {"y": y}, network, kept)
    assert torch.equal(y, x * 2)


@pytest.fixture
def streams() -> Counting:
    return Counting()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def replays(streams: Counting, notes: list[str]) -> Replays:
    return Replays(streams, notes.append)


def test_a_shape_is_captured_once_it_repeats(replays: Replays, streams: Counting, notes: list[str]) -> None:
    for _ in range(REPEATS - 1):
        run(replays, 3)
    assert (streams.captures, len(replays)) == (0, 0)
    for _ in range(4):
        run(replays, 3)
    assert (streams.captures, streams.replays, len(replays)) == (1, 3, 1)
    assert (replays.graph_bytes, notes) == (100, [])


def test_shapes_that_were_last_used_are_kept(replays: Replays, streams: Counting) -> None:
    for size in range(1, GRAPHS + 1):
        for _ in range(REPEATS):
            run(replays, size)
    run(replays, 1)
    for _ in range(REPEATS):
        run(replays, GRAPHS + 1)  # the second goes
    assert (len(replays), streams.captures) == (GRAPHS, GRAPHS + 1)
    before = streams.replays
    run(replays, 1)
    assert streams.replays == before + 1
    run(replays, 2)
    assert streams.replays == before + 1


@pytest.mark.parametrize(
    "lack", [RuntimeError("CUDA error: operation not permitted\nmore"), torch.OutOfMemoryError("x")]
)
def test_what_cannot_be_captured_is_launched_plainly_and_told_once(
    replays: Replays, streams: Counting, notes: list[str], lack: Exception
) -> None:
    for _ in range(REPEATS):
        run(replays, 3)
    streams.refuses = lack
    for _ in range(4):
        run(replays, 5)
        run(replays, 3)  # what was captured stays
    assert len(notes) == 1
    assert notes[0].endswith(f"captured as a CUDA graph: {str(lack).splitlines()[0]}")
    assert len(replays) == 1


def test_it_can_be_switched_off_and_forgets(streams: Counting, replays: Replays) -> None:
    off = Replays(streams, print, enabled=False)
    for _ in range(5):
        run(off, 3)
        run(replays, 3)
    assert (streams.captures, len(off)) == (1, 0)
    assert not off.forget()
    assert replays.forget()
    assert (len(replays), replays.graph_bytes) == (0, 0)
    run(replays, 3)
    assert streams.captures == 1


def test_what_a_graph_reads_lives_as_long_as_the_graph(replays: Replays) -> None:
    kept = torch.ones(3)
    alive = weakref.ref(kept)
    for _ in range(REPEATS):
        run(replays, 3, kept=kept)
    del kept
    gc.collect()
    assert alive() is not None
    replays.forget()
    gc.collect()
    assert alive() is None


def test_errors_of_the_network_are_its_own(replays: Replays) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        run(replays, 3, fail)
