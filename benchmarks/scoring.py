"""Speed of `fcnseg score` beside torchmetrics: `python -m benchmarks.scoring [PAIRS]`.

Writes 5,000 pairs (or so many) of indexed PNGs, 500 x 375, 21 classes and void, as VOC has them; scores them with the
command as typed, start-up included, three times; then with torchmetrics' MulticlassJaccardIndex in its fastest setting
(no validation) over the same files, decoded by Pillow, and compares the numbers. Prints machine, command and date.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

from fcnseg.engine.hardware import cpu_name
from fcnseg.recipes import find_recipe
from fcnseg.scoring.measures import Tally, class_iu

WIDTH, HEIGHT, CLASSES = 500, 375, 21
SCENES = Path(__file__).parent.parent / "examples/street/labels"


def scene(rng: np.random.Generator, sources: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A cut of a labelled scene with its classes renamed, and void along boundaries."""
    labels = sources[rng.integers(len(sources))]
    scale = rng.uniform(1.02, 1.8) * max(WIDTH / labels.shape[1], HEIGHT / labels.shape[0])
    size = round(labels.shape[1] * scale), round(labels.shape[0] * scale)
    image = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    left, top = rng.integers(0, size[0] - WIDTH + 1), rng.integers(0, size[1] - HEIGHT + 1)
    cut = np.asarray(image.crop((left, top, left + WIDTH, top + HEIGHT)))
    return rng.permutation(CLASSES).astype(np.uint8)[cut]


def write_pairs(folder: Path, count: int) -> None:
    """Ground truth with a void line between classes, and predictions that are shifted and wrong here and there."""
    rng = np.random.default_rng(0)
    palette = find_recipe("voc-fcn8s").heads[0].labels.palette
    sources = [np.asarray(Image.open(path)) for path in sorted(SCENES.iterdir())]
    for number in range(count):
        truth = scene(rng, sources)
        predicted = np.roll(truth, rng.integers(-4, 5, 2), (0, 1))
        top, left = rng.integers(0, HEIGHT - 60), rng.integers(0, WIDTH - 60)
        predicted[top : top + 60, left : left + 60] = rng.integers(CLASSES)
        edge = np.zeros(truth.shape, bool)
        edge[1:] |= truth[1:] != truth[:-1]
        edge[:, 1:] |= truth[:, 1:] != truth[:, :-1]
        for side, labels in (("gt", np.where(edge, np.uint8(255), truth)), ("pred", predicted)):
            image = Image.fromarray(labels)
            image.putpalette(palette)
            (folder / side).mkdir(exist_ok=True)
            image.save(folder / side / f"{number:05}.png", compress_level=6 if side == "gt" else 1)


def torchmetrics_counts(folder: Path) -> tuple[NDArray[np.int64], float]:
    """Its confusion matrix over the same files, and the seconds it took."""
    metric = MulticlassJaccardIndex(CLASSES, average=None, ignore_index=255, validate_args=False)
    start = time.perf_counter()
    for path in sorted((folder / "gt").iterdir()):
        truth, predicted = (
            torch.from_numpy(np.array(Image.open(folder / side / path.name))) for side in ("gt", "pred")
        )
        metric.update(predicted.long()[None], truth.long()[None])
    metric.compute()
    return metric.confmat.numpy(), time.perf_counter() - start


def main() -> None:
    """Print the timings and how far the numbers agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="?", type=int, default=5000, metavar="PAIRS")
    count = parser.parse_args().pairs
    print(f"{date.today()}  {cpu_name()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"command: python -m benchmarks.scoring {count}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, count)
        file = folder / "score.json"
        command = [Path(sys.executable).with_name("fcnseg"), "score", folder / "pred", folder / "gt", "-q"]
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([*command, "--model", "voc-fcn8s", "--json-file", file], check=True)
            times.append(time.perf_counter() - start)
        print(f"fcnseg score: {', '.join(f'{t:.2f}' for t in times)} s for {count} pairs of {WIDTH} x {HEIGHT}")
        theirs, seconds = torchmetrics_counts(folder)
        print(f"torchmetrics: {seconds:.2f} s, {seconds / min(times):.1f} times as long")
        ours = json.loads(file.read_text())
        difference = np.abs(class_iu(Tally.of(theirs)) - [row["iu"] for row in ours["per_class"]]).max()
        same = (theirs == np.array(ours["confusion"])).all()
        print(f"confusion matrices {'are equal' if same else 'DIFFER'}; largest difference of an IU: {difference:.1e}")


if __name__ == "__main__":
    main()
