"""Killed at any moment, a run with all kinds of outputs ends as an undisturbed one does."""

import random
import time
from pathlib import Path

import pytest

from tests.killed_runs import start, tree, write_photos

CHILD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from fcnseg.recipes import find_recipe
from fcnseg.running import run as running
from tests.fakes import RedEngine

class Paced(RedEngine):
    def __init__(self):
        super().__init__()
        heads = {head.name: head.labels for head in find_recipe("street-fcn8s").heads}
        self.info = replace(self.info, heads=heads)

    def infer(self, inputs, probabilities=False):
        time.sleep(0.01)
        return super().infer(inputs, probabilities)

running.engine_of = lambda options, hooks: Paced()
out = Path(sys.argv[2])
summary = running.run(
    sys.argv[1], out / "labels", model="street-fcn8s", overlay=out / "overlay", colour_png=out / "colours",
    mask=("sky,pole", out / "masks"), cutout=("building,road", out / "cut"), yolo=out / "yolo",
    stats=out / "stats.csv", polygons=out / "polygons.json", polygon_tolerance=1, space_check=False,
)
print(summary.done, summary.kept, summary.failed, flush=True)
"""

IMAGES, KILLS = 120, 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), IMAGES)


def label_maps(out: Path) -> int:
    return len(list(out.glob("labels/[0-6]/*.png")))


@pytest.mark.slow
def test_kills_change_nothing(photos: Path, tmp_path: Path) -> None:
    undisturbed, out, rng = tmp_path / "undisturbed", tmp_path / "out", random.Random(0)
    with start(CHILD, photos, undisturbed) as child:
        assert child.communicate()[0].split() == [str(IMAGES), "0", "0"]
    expected = tree(undisturbed)
    assert len(expected) == 7 * IMAGES + 2
    for _ in range(KILLS):
        before = label_maps(out)
        with start(CHILD, photos, out) as child:
            deadline = time.monotonic() + 30
            goal = before + rng.randrange(IMAGES // KILLS)
            while child.poll() is None and label_maps(out) <= goal and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.02)
            child.kill()
        for name, content in tree(out).items():
            assert ".fcnseg-part-" in name or content == expected[name] or "/" not in name, name
    with start(CHILD, photos, out) as child:
        done, kept, failed = map(int, child.communicate(timeout=60)[0].split())
    assert (done + kept, failed, kept > 0) == (IMAGES, 0, True)
    assert tree(out) == expected
