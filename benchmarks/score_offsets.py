"""Offsets of the bundled model's class scores: `python -m benchmarks.score_offsets WEIGHTS FOLDER ... --out FILE`.

A training that weighs rare classes more than others sees them where they are not. A constant added to the scores of
each class puts that right; it goes into the bias of the finest score layer, so that nothing changes at inference. The
offsets here are those of the highest mean IU, averaged over the FOLDERs of `images/` and `labels/` (class indices; 11
and up are void), found by coordinate ascent on every fourth pixel of each axis. Prints the mean IU of each FOLDER
before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.bundled_model import CLASSES
from fcnseg.models.label_network import LabelNetwork
from fcnseg.recipes import find_recipe
from fcnseg.scoring.measures import Tally, mean_iu
from fcnseg.weights.loading import load_whole_model

STEPS = (0.8, 0.4, 0.2)
EVERY_PX = 4
LAYER = "score_pool3.bias"


def sampled(network: LabelNetwork, folder: Path, images: int) -> tuple[Tensor, Tensor]:
    """Return scores K x n and classes n of the labelled pixels that are sampled from a folder's images."""
    paths = sorted((folder / "images").iterdir())
    scores, truth = [], []
    for path in paths[:: max(1, len(paths) // images)]:
        image = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
        labels = torch.from_numpy(np.array(Image.open(folder / "labels" / f"{path.stem}.png"))).long()
        with torch.inference_mode():
            values = network.scores(image[None])[0][0, :, ::EVERY_PX, ::EVERY_PX]
        labels = labels[::EVERY_PX, ::EVERY_PX]
        scores.append(values[:, labels < CLASSES])
        truth.append(labels[labels < CLASSES])
    return torch.cat(scores, 1), torch.cat(truth)


def figure(samples: tuple[Tensor, Tensor], offsets: Tensor) -> float:
    """Return the mean IU, percent, with the offsets added."""
    scores, truth = samples
    pairs = torch.bincount(truth * CLASSES + (scores + offsets[:, None]).argmax(0), minlength=CLASSES**2)
    return 100 * float(mean_iu(Tally.of(pairs.view(CLASSES, CLASSES).numpy())))


def fitted(folders: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the offsets by which the mean over the folders is highest, as far as single steps lead there."""
    offsets, best = torch.zeros(CLASSES), 0.0
    for step in STEPS:
        moved = True
        while moved:
            moved = False
            for index in range(CLASSES):
                for change in (-step, step):
                    trial = offsets.clone()
                    trial[index] += change
                    mean = float(np.mean([figure(samples, trial) for samples in folders]))
                    if mean > best:
                        offsets, best, moved = trial, mean, True
    return offsets


def main() -> None:
    """Fit, and write the weights with the offsets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=101, help="images that are sampled from a folder")
    parser.add_argument("--out", type=Path, help="file for the weights")
    arguments = parser.parse_args()
    recipe = find_recipe("street-fcn8s")
    loaded = load_whole_model(recipe, arguments.weights)
    network = LabelNetwork(loaded.network(), recipe).eval()
    folders = [sampled(network, folder, arguments.images) for folder in arguments.folders]
    offsets = fitted(folders)
    print("offsets", [round(float(value), 1) for value in offsets])
    for folder, samples in zip(arguments.folders, folders, strict=True):
        print(f"{folder.name}: {figure(samples, torch.zeros(CLASSES)):.2f} -> {figure(samples, offsets):.2f} % mean IU")
    if arguments.out:
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in loaded.tensors.items()}
        save_file({**tensors, LAYER: tensors[LAYER] + offsets}, arguments.out)


if __name__ == "__main__":
    main()
