"""What is read ahead: in order, whatever becomes of the processes, and never waited for in vain."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.errors import SourceError, TrainingError
from fcnseg.training import readers as module
from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.batches import StepReader, VisitSampler
from fcnseg.training.distributed import Ranks
from fcnseg.training.readers import Readers, ReadingStoppedError
from fcnseg.training.samples import LabelledSample
from tests.training.memory import InMemory, blocks, preset, tiny_recipe
from tests.training.read_by_processes import dies_once, doubled, segfaults


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_and_errors_as_they_are(workers: int) -> None:
    with Readers(workers) as readers:
        assert list(readers.map(doubled, range(20))) == [2 * i for i in range(20)]
        assert list(readers.map(abs, [-1, 2])) == [1, 2]  # another function, in the same processes
        found = readers.map(doubled, [1, 2, -7, 3])
        assert [next(found), next(found)] == [2, 4]
        with pytest.raises(SourceError, match=r"-7\.png is damaged; replace it"):
            next(found)
        assert list(readers.map(doubled, [5])) == [10]


def test_killed_processes_are_done_without(tmp_path: Path) -> None:
    said: list[str] = []
    with Readers(2, on_warning=said.append) as readers:
        assert list(readers.map(partial(dies_once, tmp_path, 5, signal.SIGKILL), range(7))) == list(range(7))
    assert said == [
        "a process that reads images died (it ran out of memory and was killed); 1 read on",
        "a process that reads images died (it ran out of memory and was killed); images are read without workers now",
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_what_crashes_every_process_is_named_and_never_read_by_this_one(workers: int) -> None:
    with (
        Readers(workers) as readers,
        pytest.raises(TrainingError, match=r"two processes that read image 3 died .*SEGV"),
    ):
        list(readers.map(segfaults, range(6), "image {}".format))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_request_to_stop_is_heard_while_nothing_comes(workers: int) -> None:
    asked = iter([False, False, True])
    with Readers(workers, stop=lambda: next(asked)) as readers, pytest.raises(ReadingStoppedError):
        list(readers.map(time.sleep, [3600.0]))


def test_long_reading_is_said_with_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.0)
    said: list[str] = []
    done = threading.Event()

    def say(warning: str) -> None:
        said.append(warning)
        done.set()

    readers = Readers(0, on_warning=say)
    assert list(readers.map(lambda _: done.wait(60), ["a.jpg"])) == [True]
    assert said[0].startswith("reading a.jpg has taken 0 s so far; ")


def test_where_no_thread_can_be_started_this_one_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "startable_threads", lambda count: 0)
    main = threading.get_ident()
    assert list(Readers(0).map(lambda _: threading.get_ident(), range(2))) == [main] * 2


@pytest.mark.parametrize("ignore", [255, 65535])
def test_batches_are_the_same_from_processes(tmp_path: Path, ignore: int) -> None:
    recipe = tiny_recipe(tmp_path)
    (first, *others) = blocks(recipe, [(40, 48), (40, 48), (24, 30)]).samples
    labels = first.labels["labels"].astype(np.uint16)
    labels[0] = ignore
    samples = InMemory((LabelledSample("first", first.inputs, {"labels": labels}), *others))
    read = StepReader(AugmentedSamples(samples, preset("modern", recipe), (0, 0)), 2)
    for visits in VisitSampler(3, 3, (0, 0), 0, 2, Ranks()):
        here = read(visits)
        there = pickle.loads(pickle.dumps(here))
        for ours, theirs in zip(here, there, strict=True):
            assert ours.names == theirs.names
            for mine, other in ((ours.inputs, theirs.inputs), (ours.labels, theirs.labels)):
                assert all(
                    torch.equal(value, other[key]) and value.dtype == other[key].dtype for key, value in mine.items()
                )
