"""The figures of the bundled model's card: `python -m benchmarks.bundled_model FOLDER ...`.

Each FOLDER holds `images/` and `labels/` (class indices; 11 and up are void). Prints mean IU and pixel accuracy with
95 % intervals (percentiles of 1,000 resamplings of the images, seed 0) and the IU of each class, in percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import fcnseg
from fcnseg.scoring.confusion import Counts, confusion
from fcnseg.scoring.measures import Floats, Tally, class_iu, mean_iu, pixel_accuracy

CLASSES, VOID, RESAMPLINGS = 11, 255, 1000


def counts_by_image(segmenter: fcnseg.Segmenter, folder: Path) -> Counts:
    """The confusion matrix of each image, N x K x K."""
    found = []
    for path in sorted((folder / "images").iterdir()):
        truth = np.array(Image.open(folder / "labels" / f"{path.stem}.png"))
        truth[truth >= CLASSES] = VOID
        found.append(confusion(truth, segmenter(path).labels["labels"], CLASSES))
    return np.stack(found)


def interval(counts: Counts, measure: Callable[[Tally], Floats]) -> str:
    """The 95 % confidence interval of a measure over resampled images."""
    rng = np.random.default_rng(0)
    samples = (rng.integers(0, len(counts), len(counts)) for _ in range(RESAMPLINGS))
    low, high = np.percentile([100 * measure(Tally.of(counts[sample].sum(0))) for sample in samples], (2.5, 97.5))
    return f"{low:.1f} to {high:.1f}"


def main() -> None:
    """Print the figures of every folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    folders = parser.parse_args().folders
    with fcnseg.load(device="cpu") as segmenter:
        names = segmenter.info.heads["labels"].names
        for folder in folders:
            counts = counts_by_image(segmenter, folder)
            total = Tally.of(counts.sum(0))
            print(f"{folder.name}: {len(counts)} images")
            for title, measure in (("mean IoU", mean_iu), ("pixel accuracy", pixel_accuracy)):
                print(f"  {title} {100 * measure(total):.2f} % ({interval(counts, measure)})")
            print("  " + ", ".join(f"{n} {100 * iu:.1f}" for n, iu in zip(names, class_iu(total), strict=True)))


if __name__ == "__main__":
    main()
