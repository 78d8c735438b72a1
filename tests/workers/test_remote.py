"""Functions called in a subprocess: answers, faults, deaths."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from fcnseg.scoring.counting import PairCounts, compare
from fcnseg.scoring.options import ScoreOptions
from fcnseg.scoring.score import plan
from fcnseg.workers.process import WorkerDiedError
from fcnseg.workers.remote import RemoteFunction
from tests.scoring.maps import data_set


class Counter:
    """A function with state, which does what it is asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: str) -> object:
        self.calls += 1
        if request == "print":
            print("a library prints on standard output", flush=True)
        if request == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if request == "abort":
            os.write(2, b"terminate called:   bad alloc\n\n")
            os.abort()
        return self.calls, os.getpid()


@pytest.fixture
def counter() -> Iterator[RemoteFunction[str, tuple[int, int]]]:
    function: RemoteFunction[str, tuple[int, int]] = RemoteFunction(Counter())  # type: ignore[arg-type]
    yield function
    function.stop()


def test_it_answers_batches_and_a_fault_is_its_answer(tmp_path: Path) -> None:
    predictions, truth = data_set(tmp_path, 1, 3)
    (task,) = plan(str(predictions), str(truth), ScoreOptions(classes="3"))
    function = RemoteFunction(partial(compare, how=task.comparison))
    assert [type(function(pair)) for pair in task.pairing.pairs] == [PairCounts] * 3
    with pytest.raises(AttributeError):
        function(object())  # type: ignore[arg-type]
    assert type(function(task.pairing.pairs[0])) is PairCounts
    function.stop()


def test_state_stays_between_calls(counter: RemoteFunction[str, tuple[int, int]]) -> None:
    (first, pid), (second, again) = counter("print"), counter("")
    assert (first, second) == (1, 2)
    assert pid == again != os.getpid()
    counter.stop()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    ("request_", "cause"),
    [("die", "it ran out of memory and was killed"), ("abort", "signal SIGABRT: terminate called: bad alloc")],
)
def test_a_death_is_explained(counter: RemoteFunction[str, object], request_: str, cause: str) -> None:
    with pytest.raises(WorkerDiedError) as caught:
        counter(request_)
    assert str(caught.value) == cause
    with pytest.raises(WorkerDiedError):
        counter("")
    counter.stop()


def test_a_process_that_cannot_begin_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("nowhere")  # that the subprocess does not find
    exec("def function(request): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "nowhere", module)
    function: RemoteFunction[str, None] = RemoteFunction(module.function)
    with pytest.raises(WorkerDiedError, match="exit code 1: ModuleNotFoundError: No module named 'nowhere'"):
        function("")


def test_a_process_ends_with_a_parent_that_is_killed_within_a_request() -> None:
    request = pickle.dumps(bytes(1000))
    with subprocess.Popen(
        [sys.executable, "-c", "from fcnseg.workers.remote import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stderr
        process.stderr.close()  # as the parent's death closes it
        process.stdin.write(pickle.dumps(len) + request[:500])
        process.stdin.close()
        assert process.wait(30) == 1
