"""Augmentation: random scaling, cropping, flipping and colour jitter of labelled samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, sin

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcnseg.training.presets import Preset
from fcnseg.training.samples import LabelledSample, Samples

Visit = tuple[int, int]
"""An image's index in the data set and the number of the visit in its stage, which seeds the augmentation."""


@dataclass(frozen=True)
class View:
    """An augmented sample: `inputs` by modality H x W x C (uint8, or float32 if resampled), `labels` int64 H x W."""

    name: str
    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]


class AugmentedSamples:
    """The views of a stage. A visit gives the same view in any process, at any time."""

    def __init__(
        self, samples: Samples, preset: Preset, seed: Sequence[int], ignore: Mapping[str, int] | None = None
    ) -> None:
        self.samples, self.preset, self.seed = samples, preset, tuple(seed)
        self.ignore = dict(ignore or {})
        """The label of void, by head; rotations need it."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, visit: Visit) -> View:
        index, number = visit
        rng = np.random.default_rng((*self.seed, number))
        sample = self.samples[index]
        view = _random_crop(sample, self.preset, rng, self.ignore) if any(self.preset.crop) else _whole(sample)
        if self.preset.hflip and rng.random() < 0.5:
            view = _flipped(view, 1)
        if self.preset.vflip and rng.random() < 0.5:
            view = _flipped(view, 0)
        if self.preset.color_jitter and "color" in view.inputs:
            view.inputs["color"] = _jittered(view.inputs["color"].float(), self.preset.color_jitter, rng)
        return view


def _whole(sample: LabelledSample) -> View:
    inputs = {k: torch.from_numpy(np.ascontiguousarray(x)) for k, x in sample.inputs.items()}
    return View(sample.name, inputs, {k: torch.from_numpy(y.astype(np.int64)) for k, y in sample.labels.items()})


def _flipped(view: View, axis: int) -> View:
    """Return a view upside down (axis 0) or left to right (1)."""
    return View(
        view.name,
        {k: x.flip(axis) for k, x in view.inputs.items()},
        {k: y.flip(axis) for k, y in view.labels.items()},
    )


def _random_crop(sample: LabelledSample, preset: Preset, rng: np.random.Generator, ignore: Mapping[str, int]) -> View:
    """Scale the image at random (at least to the size of the crop) and crop it anywhere, turned about its centre.

    Only the crop is resampled. Labels and depth take the nearest pixel: a mean of two classes, or of depth and missing
    depth, has no meaning.
    """
    whole = _whole(sample)
    size = next(iter(whole.labels.values())).shape
    scale = float(np.exp(rng.uniform(*np.log(preset.scale))))
    height, width = (max(c, round(n * scale)) for c, n in zip(preset.crop, size, strict=True))
    top, left = int(rng.integers(height - preset.crop[0] + 1)), int(rng.integers(width - preset.crop[1] + 1))
    rows = (torch.arange(preset.crop[0]) + top + 0.5) * 2 / height - 1
    columns = (torch.arange(preset.crop[1]) + left + 0.5) * 2 / width - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None]
    if preset.rotation:
        grid = _turned(grid, float(np.deg2rad(rng.uniform(-preset.rotation, preset.rotation))), (width, height))
    outside = (grid[0].abs() > 1).any(-1)

    def resampled(x: Tensor, mode: str) -> Tensor:
        """Return the crop of x, H x W x C."""
        y = F.grid_sample(x.permute(2, 0, 1)[None].float(), grid, mode, "border", align_corners=False)
        return y[0].permute(1, 2, 0)

    inputs = {k: resampled(x, "nearest" if k == "depth" else "bilinear") for k, x in whole.inputs.items()}
    labels = {k: resampled(y[..., None], "nearest")[..., 0].long() for k, y in whole.labels.items()}
    if preset.rotation:
        labels = {k: y.masked_fill(outside, ignore[k]) for k, y in labels.items()}
    return View(sample.name, inputs, labels)


def _turned(grid: Tensor, angle: float, size: tuple[int, int]) -> Tensor:
    """Turn sampling positions 1 x H x W x 2 (x, y; -1..1 across `size` px) about their centre, by radians."""
    scale = grid.new_tensor(size) / 2
    centre = grid.mean((1, 2), keepdim=True)
    x, y = ((grid - centre) * scale).unbind(-1)
    turned = torch.stack([x * cos(angle) - y * sin(angle), x * sin(angle) + y * cos(angle)], -1)
    return turned / scale + centre


def _jittered(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Change saturation, contrast and brightness at random; float32 H x W x 3 in 0..255."""
    saturation, contrast, brightness = (1 + rng.uniform(-strength, strength, 3) * (1.2, 1.0, 1.0)).tolist()
    grey = x.mean(-1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = x.mean()
    x = (mean + (x - mean) * contrast) * brightness
    return x.clamp(0, 255)
