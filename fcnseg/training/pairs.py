"""Labelled images on disk, and the random views of them that training sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fcnseg.errors import SourceError

VOID = 255


@dataclass(frozen=True)
class Pair:
    """One labelled image: pixels uint8 3 x H x W (RGB) and labels uint8 H x W, 255 where void."""

    name: str
    pixels: Tensor
    labels: Tensor


def load_pairs(folder: Path, classes: int) -> list[Pair]:
    """The images of `folder/images` with the labels of `folder/labels`, matched by stem, held in memory.

    Label values from `classes` up are void. Raises SourceError for a missing label or a size that differs.
    """
    pairs = []
    for image_path in sorted((folder / "images").iterdir()):
        label_path = folder / "labels" / f"{image_path.stem}.png"
        if not label_path.is_file():
            raise SourceError(f"{image_path} has no labels; expected {label_path}")
        pixels = np.array(Image.open(image_path).convert("RGB"))
        labels = np.array(Image.open(label_path))
        if labels.shape != pixels.shape[:2]:
            raise SourceError(f"{label_path} is {labels.shape}, its image {pixels.shape[:2]}; sizes must be equal")
        labels[labels >= classes] = VOID
        pairs.append(
            Pair(image_path.stem, torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), torch.from_numpy(labels))
        )
    if not pairs:
        raise SourceError(f"{folder / 'images'} holds no images")
    return pairs


def class_frequencies(pairs: list[Pair], classes: int) -> Tensor:
    """The share of labelled pixels of each class, float32 K."""
    counts = torch.stack([torch.bincount(p.labels.flatten().long(), minlength=256)[:classes] for p in pairs]).sum(0)
    return counts / counts.sum()


@dataclass(frozen=True)
class Views:
    """Random crops of `size` (height, width) px, scaled by `scale` (least, most), mirrored, with jittered colour."""

    size: tuple[int, int]
    scale: tuple[float, float] = (0.6, 1.8)
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3

    def __call__(self, pair: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One view: float32 3 x h x w in 0..255 (RGB) and int64 labels h x w."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * torch.rand((), generator=generator).item()

        scale = float(np.exp(uniform(*np.log(self.scale))))
        height, width = (max(s, round(n * scale)) for s, n in zip(self.size, pair.labels.shape, strict=True))
        top, left = int(uniform(0, height - self.size[0] + 1)), int(uniform(0, width - self.size[1] + 1))
        x, y = _scaled_crop(pair, (height, width), (top, left), self.size)
        if uniform(0, 1) < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        grey = x.mean(0, keepdim=True)
        x = grey + (x - grey) * (1 + uniform(-self.saturation, self.saturation))
        mean = x.mean()
        x = mean + (x - mean) * (1 + uniform(-self.contrast, self.contrast))
        return (x * (1 + uniform(-self.brightness, self.brightness))).clamp(0, 255), y


def _scaled_crop(
    pair: Pair, scaled: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The window of `size` at `corner` of the pair resized to `scaled`, sampled without resizing the rest."""
    rows = (torch.arange(size[0]) + corner[0] + 0.5) * 2 / scaled[0] - 1
    columns = (torch.arange(size[1]) + corner[1] + 0.5) * 2 / scaled[1] - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None]
    x = F.grid_sample(pair.pixels[None].float(), grid, align_corners=False, padding_mode="border")[0]
    y = F.grid_sample(pair.labels[None, None].float(), grid, mode="nearest", align_corners=False, padding_mode="border")
    return x, y[0, 0].long()
