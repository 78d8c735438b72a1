"""Killed at any moment, a run with all kinds of outputs ends as an undisturbed one does."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        path = folder / f"{i % 7}" / f"{i:04}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i % 5, 30, 3), dtype=np.uint8)).save(path, compress_level=1)
    return folder


def start(photos: Path, out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(photos), str(out)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Every file but the records."""
    files = (p for p in folder.rglob("*") if p.is_file() and ".fcnseg" not in p.parts)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def label_maps(out: Path) -> int:
    return len(list(out.glob("labels/[0-6]/*.png")))


@pytest.mark.slow
def test_kills_change_nothing(photos: Path, tmp_path: Path) -> None:
    undisturbed, out, rng = tmp_path / "undisturbed", tmp_path / "out", random.Random(0)
    with start(photos, undisturbed) as child:
        assert child.communicate()[0].split() == [str(IMAGES), "0", "0"]
    expected = tree(undisturbed)
    assert len(expected) == 7 * IMAGES + 2
    for _ in range(KILLS):
        before = label_maps(out)
        with start(photos, out) as child:
            deadline = time.monotonic() + 30
            goal = before + rng.randrange(IMAGES // KILLS)
            while child.poll() is None and label_maps(out) <= goal and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.02)
            child.kill()
        for name, content in tree(out).items():
            assert ".fcnseg-part-" in name or content == expected[name] or "/" not in name, name
    with start(photos, out) as child:
        done, kept, failed = map(int, child.communicate(timeout=60)[0].split())
    assert (done + kept, failed, kept > 0) == (IMAGES, 0, True)
    assert tree(out) == expected
