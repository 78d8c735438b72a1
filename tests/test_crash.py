"""Killed at any moment, a run goes on where it was, and ends as an undisturbed one does."""

import random
import signal
import time
from pathlib import Path

import pytest

from fcnseg.running.status import status
from tests.killed_runs import start, tree, write_photos

CHILD = """
import sys, time
from pathlib import Path
from fcnseg.recipes import find_recipe
from fcnseg.io.storage import LocalFolder
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.pipeline import Pipeline
from fcnseg.running.sinks import LabelPngSink
from fcnseg.io.sources import open_source
from fcnseg.running.predictor import Predictor
from tests.fakes import RedEngine

class Paced(RedEngine):
    def infer(self, inputs, probabilities=False):
        time.sleep(0.005)
        return super().infer(inputs, probabilities)

photos, out = map(Path, sys.argv[1:])
(out / ".fcnseg").mkdir(parents=True, exist_ok=True)
with SqliteLedger(out / ".fcnseg/ledger.sqlite", out) as ledger, Paced() as engine:
    predictor = Predictor(engine, find_recipe("street-fcn8s"))
    summary = Pipeline(open_source(photos), predictor, [LabelPngSink(LocalFolder(out), engine.info)], ledger).run()
    print(summary.done, summary.kept, summary.failed, flush=True)
"""

IMAGES = 300


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), IMAGES)


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    with start(CHILD, photos, out) as child:
        assert child.communicate()[0].split() == [str(IMAGES), "0", "0"]
    return tree(out)


@pytest.mark.slow
def test_forty_kills_change_nothing(photos: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out, rng, done_before = tmp_path / "out", random.Random(0), 0
    for kill in range(40):
        with start(CHILD, photos, out) as child:
            deadline = time.monotonic() + 30
            goal = done_before + rng.randrange(5)  # this many label maps more, then a random moment later
            while child.poll() is None and len(list(out.glob("*/*.png"))) < goal and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.01)
            child.kill()
        done_before = len(list(out.glob("*/*.png")))
        for name, content in tree(out).items():
            assert ".fcnseg-part-" in name or content == undisturbed[name], (kill, name)
        assert done_before < IMAGES, "killed too late to mean anything"
    with start(CHILD, photos, out) as child:
        done, kept, failed = map(int, child.communicate(timeout=60)[0].split())
    assert (done + kept, failed) == (IMAGES, 0)
    assert kept > 0.5 * done_before, "finished work is kept"
    assert tree(out) == undisturbed
    (part,) = status(out)
    assert (part.done, part.failed, part.running) == (IMAGES, 0, 0)
    assert not list((out / ".fcnseg").glob("*.lock"))
    assert list(out.rglob(".fcnseg")) == [out / ".fcnseg"]


def test_two_processes_at_once_do_each_image_once(photos: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start(CHILD, photos, out) as one, start(CHILD, photos, out) as other:
        tallies = [tuple(map(int, child.communicate(timeout=60)[0].split())) for child in (one, other)]
    assert sum(done for done, _, _ in tallies) == IMAGES
    assert all(done + kept == IMAGES for done, kept, _ in tallies)
    assert tree(out) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_one_of_two_processes_may_die(
    photos: Path, undisturbed: dict[str, bytes], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    with start(CHILD, photos, out) as one, start(CHILD, photos, out) as other:
        while len(list(out.glob("*/*.png"))) < 40:
            time.sleep(0.002)
        one.send_signal(number)
        tally = other.communicate(timeout=60)[0].split()
        one.communicate(timeout=60)
    assert int(tally[0]) + int(tally[1]) == IMAGES
    assert tree(out) == undisturbed
