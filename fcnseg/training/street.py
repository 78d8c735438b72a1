"""Train the bundled model: `python -m fcnseg.training.street --camvid DIR --scenes DIR --out RUN`.

Trains on `DIR/train` (and the rendered scenes, so that the shipped examples work too), chooses by `DIR/val`, and
writes RUN/network.pt: the batch-normalised network folded into the plain one, with its figures.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import cast

import torch
from torch import nn

from fcnseg.models.fcn import FCN, deconvolution_names, fold_batch_norm
from fcnseg.models.spec import Head, NetworkSpec
from fcnseg.scoring.confusion import class_iu, mean_iu, pixel_accuracy
from fcnseg.training.loop import Progress, Schedule, Trainer
from fcnseg.training.pairs import Views, class_frequencies, load_pairs

CLASSES = 11
MEAN_BGR = (110.248, 108.357, 104.985)
"""The mean of camvid/train."""
SPEC = NetworkSpec("vgg16", 8, (Head(CLASSES),), geometry="same", width=0.25, fc_width=256, batch_norm=True)


def build(spec: NetworkSpec = SPEC) -> FCN:
    """The network to train: random scores (nothing coarser came before) and fixed bilinear deconvolutions.

    They are dense, which bfloat16 training on a CPU runs seven times faster than grouped ones.
    """
    network = FCN(spec, frozenset(deconvolution_names(spec)))
    for name, module in network.named_children():
        if name.startswith("score_"):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")  # type: ignore[arg-type]
        if isinstance(module, nn.ConvTranspose2d):
            module.requires_grad_(False)
    return network


def main() -> None:
    """Command line of the training script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camvid", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--scenes", type=Path, help="rendered scenes: images/ and labels/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    photographs = load_pairs(options.camvid / "train", CLASSES)
    validation = load_pairs(options.camvid / "val", CLASSES)
    scenes = load_pairs(options.scenes, CLASSES) if options.scenes else []
    frequency = class_frequencies(photographs, CLASSES)
    weights = (frequency.median() / frequency).sqrt().clamp(0.5, 3.0)
    schedule = Schedule(options.epochs, seed=options.seed)
    trainer = Trainer(build(), MEAN_BGR, weights, Views((288, 352)), schedule)

    def report(progress: Progress) -> None:
        iu = "" if progress.mean_iu is None else f"  mean IU {100 * progress.mean_iu:.2f} %"
        print(f"epoch {progress.epoch:4d}  loss {progress.loss:.4f}  {progress.seconds:.1f} s{iu}", flush=True)

    start = time.monotonic()
    trainer.run(photographs + scenes, validation, options.out / "checkpoint.pt", report)
    network = fold_batch_norm(cast(FCN, trainer.average.module.eval()))
    counts = trainer.validate(validation)
    figures = {
        "mean_iu": mean_iu(counts),
        "pixel_accuracy": pixel_accuracy(counts),
        "class_iu": class_iu(counts).tolist(),
        "seconds": time.monotonic() - start,
        "epochs": options.epochs,
        "seed": options.seed,
    }
    torch.save(network.state_dict(), options.out / "network.pt")
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
