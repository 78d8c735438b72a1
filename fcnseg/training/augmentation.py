"""What training sees of a labelled image: the whole as it is, or a random view of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from fcnseg.training.presets import Regime
from fcnseg.training.samples import Sample, Samples

Visit = tuple[int, int]
"""An image's number in the data set, and which visit of the stage it is: the visit's number seeds its view."""


@dataclass(frozen=True)
class View:
    """One view: `inputs` by modality, H x W x C (uint8, or float32 once scaled), `labels` by head, int64 H x W."""

    name: str
    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]


class Views(Dataset[View]):
    """The views of a stage: a visit gives the same one in any process, at any time."""

    def __init__(self, samples: Samples, regime: Regime, seed: Sequence[int]) -> None:
        self.samples, self.regime, self.seed = samples, regime, tuple(seed)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, visit: Visit) -> View:
        index, number = visit
        rng = np.random.default_rng((*self.seed, number))
        sample = self.samples[index]
        view = _crop(sample, self.regime, rng) if any(self.regime.crop) else _whole(sample)
        if self.regime.mirror and rng.random() < 0.5:
            view = View(
                view.name,
                {k: x.flip(1) for k, x in view.inputs.items()},
                {k: y.flip(1) for k, y in view.labels.items()},
            )
        if self.regime.color and "color" in view.inputs:
            view.inputs["color"] = _recolored(view.inputs["color"].float(), self.regime.color, rng)
        return view


def _whole(sample: Sample) -> View:
    inputs = {k: torch.from_numpy(np.ascontiguousarray(x)) for k, x in sample.inputs.items()}
    return View(sample.name, inputs, {k: torch.from_numpy(y.astype(np.int64)) for k, y in sample.labels.items()})


def _crop(sample: Sample, regime: Regime, rng: np.random.Generator) -> View:
    """A window of the crop's size anywhere in the image, once that is scaled at random (at least to the crop's size).

    Only the window is sampled. Labels and depth take the nearest pixel: halves of classes, and of what was not
    measured, are nothing.
    """
    whole = _whole(sample)
    size = next(iter(whole.labels.values())).shape
    scale = float(np.exp(rng.uniform(*np.log(regime.scale))))
    height, width = (max(c, round(n * scale)) for c, n in zip(regime.crop, size, strict=True))
    top, left = int(rng.integers(height - regime.crop[0] + 1)), int(rng.integers(width - regime.crop[1] + 1))
    rows = (torch.arange(regime.crop[0]) + top + 0.5) * 2 / height - 1
    columns = (torch.arange(regime.crop[1]) + left + 0.5) * 2 / width - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None]

    def taken(x: Tensor, mode: str) -> Tensor:
        """The window of x, H x W x C."""
        y = F.grid_sample(x.permute(2, 0, 1)[None].float(), grid, mode, "border", align_corners=False)
        return y[0].permute(1, 2, 0)

    inputs = {k: taken(x, "nearest" if k == "depth" else "bilinear") for k, x in whole.inputs.items()}
    return View(
        sample.name, inputs, {k: taken(y[..., None], "nearest")[..., 0].long() for k, y in whole.labels.items()}
    )


def _recolored(x: Tensor, reach: float, rng: np.random.Generator) -> Tensor:
    """Other saturation, contrast and brightness; float32 H x W x 3 in 0..255."""
    saturation, contrast, brightness = (1 + rng.uniform(-reach, reach, 3) * (1.2, 1.0, 1.0)).tolist()
    grey = x.mean(-1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = x.mean()
    x = (mean + (x - mean) * contrast) * brightness
    return x.clamp(0, 255)
