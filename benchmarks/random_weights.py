"""Random weights that behave as trained ones do, for measurements of networks whose weights cannot be shipped.

The trunk: each convolution is drawn at random and scaled, channel by channel, so that its results have mean 0 and
variance 1 over photographs (the examples'): no channel is dead and none large, as after training with normalisation.
The scores: fitted to the photographs' ground truth by ridge regression, the coarsest first and each skip to what it
leaves. They have margins where the features tell classes apart, and no large numbers that cancel. Classes that the
photographs do not show stay below the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from fcnseg.engine.reference import at_size
from fcnseg.models import FCN, network_spec
from fcnseg.models.backbones import backbone_layers, grids
from fcnseg.models.layers import trunk_names
from fcnseg.recipes import Recipe

STREET = Path(__file__).parent.parent / "examples" / "street"
SIZE = (360, 480)
"""Height and width of the photographs that weights are fitted to."""

TARGET = 10.0
"""The score that a pixel's own class is fitted to; the others are fitted to 0."""

RIDGE = 1e-2
"""The share of the features' variance that is added to it: weights stay small."""


@torch.no_grad()
def write_weights(path: Path, recipe: Recipe, photographs: int = 4) -> None:
    """Write weights of a recipe with one stream of colour and one head, the same at every call."""
    torch.manual_seed(0)
    network = FCN(network_spec(recipe)).eval()
    images, truth = _street(recipe, photographs)
    _normalise(network, images)
    (taps,) = (network.trunk(stream, images) for stream in network.spec.streams)
    _fit_scores(network, taps, truth)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path, {"recipe": recipe.name})


def _street(recipe: Recipe, count: int) -> tuple[Tensor, Tensor]:
    """The network's inputs N x 3 x H x W and ground truth N x H x W of example photographs."""
    files = sorted((STREET / "images").glob("*.jpg"))[:count]
    pixels = np.stack([at_size(np.asarray(Image.open(file).convert("RGB")), *SIZE) for file in files])
    masks = [np.asarray(Image.open(STREET / "labels" / f"{file.stem}.png")) for file in files]
    truth = np.stack([at_size(mask, *SIZE) for mask in masks])
    (source,) = recipe.streams[0].inputs
    ordered = pixels[..., ::-1] if source.order == "bgr" else pixels
    images = torch.from_numpy(ordered.astype(np.float32)).permute(0, 3, 1, 2) - torch.tensor(source.mean)[:, None, None]
    return images, torch.from_numpy(truth.astype(np.int64))


def _normalise(network: FCN, images: Tensor) -> None:
    """Scale each convolution of the trunk as it runs for the first time."""
    names = trunk_names(network.spec, network.spec.streams[0]).values()
    convolutions = [m for n, m in network.named_children() if n in names and isinstance(m, nn.Conv2d)]
    convolutions[0].weight /= images.std()  # its margins are padded apart, so that no hook sees it run

    def scale(module: nn.Conv2d, _: Any, result: Tensor) -> Tensor:
        height, width = (n // 4 for n in result.shape[-2:])
        middle = result[..., height : height + 2 * height + 1, width : width + 2 * width + 1]
        mean, spread = middle.mean((0, 2, 3)), middle.std((0, 2, 3))
        module.weight /= spread[:, None, None, None]
        assert module.bias is not None
        module.bias.copy_(-mean / spread)
        return (result - mean[:, None, None]) / spread[:, None, None]

    hooks = [convolution.register_forward_hook(scale) for convolution in convolutions[1:]]
    network.trunk(network.spec.streams[0], images)
    for hook in hooks:
        hook.remove()


def _fit_scores(network: FCN, taps: dict[str, Tensor], truth: Tensor) -> None:
    """Fit the score layers, coarsest first, to the ground truth at the centre of each of their cells."""
    spec = network.spec
    outputs = grids(backbone_layers(spec.backbone, spec.geometry))
    last = backbone_layers(spec.backbone, spec.geometry)[-1].name
    classes = spec.heads[0].classes
    done: list[tuple[Tensor, Any]] = []
    for tap in ("fr", *spec.skips):
        grid, features = outputs[last if tap == "fr" else tap], taps[tap]
        rows, columns = (_centres(grid, n, size) for n, size in zip(features.shape[-2:], truth.shape[1:], strict=True))
        labels = truth[:, rows[1]][:, :, columns[1]]
        inside = features[:, :, rows[0]][..., columns[0]]
        wanted = TARGET * F.one_hot(labels.clamp_max(classes - 1), classes).permute(0, 3, 1, 2).float()
        for scores, coarser in done:
            wanted = wanted - _read(scores, coarser, grid, rows[0], columns[0])
        score = network.get_submodule(f"score_{tap}")
        assert isinstance(score, nn.Conv2d)
        _ridge(score, inside, wanted)
        done.append((score(features), grid))


def _centres(grid: Any, cells: int, size: int) -> tuple[Tensor, Tensor]:
    """The cells whose centres lie in an image of that size along an axis, and the pixels that these are."""
    pixels = torch.tensor([round(float(grid.origin_px + grid.step_px * i)) for i in range(cells)])
    inside = ((pixels >= 0) & (pixels < size)).nonzero()[:, 0]
    return inside, pixels[inside]


def _read(scores: Tensor, coarser: Any, grid: Any, rows: Tensor, columns: Tensor) -> Tensor:
    """Coarser scores at the centres of these cells of a grid, interpolated bilinearly."""
    places = []
    for cells, count in ((rows, scores.shape[2]), (columns, scores.shape[3])):
        px = cells * float(grid.step_px) + float(grid.origin_px)
        places.append(2 * ((px - float(coarser.origin_px)) / float(coarser.step_px) + 0.5) / count - 1)
    rows_there, columns_there = torch.meshgrid(*places, indexing="ij")
    where = torch.stack([columns_there, rows_there], -1).float().expand(len(scores), -1, -1, -1)
    return F.grid_sample(scores, where, align_corners=False)


def _ridge(score: nn.Conv2d, features: Tensor, wanted: Tensor) -> None:
    """Set a score layer to the ridge regression of `wanted`, N x K x h x w, on features N x C x h x w."""
    x = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    y = wanted.permute(0, 2, 3, 1).reshape(-1, wanted.shape[1])
    centre, level = x.mean(0), y.mean(0)
    x, y = x - centre, y - level
    ridge = RIDGE * float((x**2).mean()) * len(x)
    if len(x) < x.shape[1]:  # the same by as many numbers as there are cells
        weight = (x.T @ torch.linalg.solve(x @ x.T + ridge * torch.eye(len(x)), y)).T
    else:
        weight = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.T @ y).T
    score.weight.copy_(weight[:, :, None, None])
    assert score.bias is not None
    score.bias.copy_(level - weight @ centre)


def sample_photographs(count: int, size: tuple[int, int]) -> Sequence[np.ndarray]:
    """The last example photographs, uint8 H x W x 3, cut or mirrored to `size` (height, width): none of the fit."""
    files = sorted((STREET / "images").glob("*.jpg"))[-count:]
    return [at_size(np.asarray(Image.open(file).convert("RGB")), *size) for file in files]
