"""Training presets: the paper's schedule, the authors' solvers, and a modern one for people with their own data.

Sources: `paper` is section 4 of Long, Shelhamer & Darrell 2015 (arXiv 1411.4038; epochs from arXiv 1605.06211), `heavy`
the solvers of the authors' release (shelhamer/fcn.berkeleyvision.org at 1305c73). The release draws every image at
random; here each image comes once an epoch, in a new random order.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fcnseg.engine.hardware import has_bf16
from fcnseg.errors import SettingsError
from fcnseg.recipes import RESNETS, Recipe
from fcnseg.texts import read_text
from fcnseg.training.preset_values import check_values

STRIDES = (32, 16, 8)
"""Strides of the stages, coarsest first."""


@dataclass(frozen=True)
class Preset:
    """Hyperparameters of a training. Numbers of images and steps are totals over all processes."""

    name: str = "modern"
    staged: bool = False
    """Train 32s, then 16s, then 8s, each from the one before; otherwise the recipe's network at once."""
    epochs: tuple[float, ...] = (120,)
    """Passes over the data in each stage; the last number also holds for further stages."""
    steps: tuple[int, ...] = ()
    """Optimizer steps of each stage, instead of epochs."""
    batch_size: int = 8
    """Images a step."""
    optimizer: str = "adamw"
    """`sgd` or `adamw`."""
    lr: float = 3e-3
    """Peak learning rate of the first stage."""
    finetune_lr: float = 3e-4
    """The same when training begins with given weights; 0: `lr` then too."""
    stage_lr_factor: float = 0.01
    """Factor on the learning rate as each skip is added (staged only)."""
    lr_schedule: str = "cosine"
    """`constant`; `poly`, (1 - progress)^0.9; or `cosine`, after a linear warm-up over a tenth of the stage."""
    momentum: float = 0.9
    """Momentum of SGD, beta 1 of AdamW."""
    trunk_lr_multiplier: float = 1.0
    """Factor on the learning rate of the trunk, all layers but scores and deconvolutions; 0: it is not trained."""
    weight_decay: float = 0.02
    bias_lr_multiplier: float = 1.0
    bias_decay: bool = False
    """Apply the weight decay to biases (and normalisation) too."""
    normalize_loss: bool = True
    """The pixel loss is the mean over the labelled pixels of a step; otherwise their sum."""
    deconvolutions: str = "fixed"
    """`fixed`: bilinear; `last-fixed`: all but the last one of each head learn; `learned`."""
    crop: tuple[int, ...] = ()
    """Height and width, px, of random crops; 0, 0: whole images; empty: chosen from the size of the images."""
    scale: tuple[float, float] = (0.6, 1.8)
    """Smallest and largest factor of random scaling before a crop; unused for whole images."""
    hflip: bool = True
    """Flip half of the images horizontally."""
    vflip: bool = False
    """Flip half of the images vertically."""
    rotation: float = 0.0
    """Turn each crop by a random angle of at most so many degrees; what comes from outside the image is void."""
    color_jitter: float = 0.25
    """Relative range of random brightness and contrast (saturation 1.2 times as much); 0: off."""
    class_balance_power: float = 0.5
    """Class weights are (median frequency / own frequency) to this power, clipped to 1/2 and 3; 0: all are 1."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the pixel loss, in their order; empty: by `class_balance_power`."""
    focal_gamma: float = 0.0
    """Exponent of the focal loss, which takes the place of the cross-entropy; 0: off."""
    dice_weight: float = 0.0
    """Weight of the soft Dice loss beside the pixel loss."""
    jaccard_weight: float = 1.0
    """Weight of the soft Jaccard (IoU) loss beside the pixel loss."""
    clip_grad_norm: float = 5.0
    """Largest norm of the gradient; 0: no clipping."""
    batch_norm: bool = True
    """Train random weights with batch normalisation, which is folded into the convolutions afterwards."""
    restore_batch_norm: bool = False
    """Give initial weights that have no batch normalisation layers of it, which change nothing at first."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is the result; 0: no average."""
    precision: str = "auto"
    """Arithmetic of the trunk: `fp32`, `bf16`, or `auto`: bf16 where the device computes in it, else fp32."""

    def stage_lr(self, stage: int) -> float:
        """Return the peak learning rate of a stage: 0 is 32s, 1 is 16s, 2 is 8s."""
        return self.lr * (self.stage_lr_factor**stage if self.staged else 1.0)

    def in_precision(self, device: torch.device) -> Preset:
        """Return the preset with `auto` replaced by the precision of a device."""
        if self.precision != "auto":
            return self
        return replace(self, precision="bf16" if has_bf16(str(device)) else "fp32")

    def steps_of(self, stage: int, images: int) -> int:
        """Return the number of steps of a stage over that many images."""
        if self.steps:
            return self.steps[min(stage, len(self.steps) - 1)]
        return max(1, round(self.epochs[min(stage, len(self.epochs) - 1)] * images / self.batch_size))


_PUBLISHED = Preset(
    staged=True,
    optimizer="sgd",
    finetune_lr=0.0,
    lr_schedule="constant",
    weight_decay=5e-4,
    bias_lr_multiplier=2.0,
    crop=(0, 0),
    hflip=False,
    color_jitter=0.0,
    class_balance_power=0.0,
    jaccard_weight=0.0,
    clip_grad_norm=0.0,
    batch_norm=False,
    ema_decay=0.0,
    precision="fp32",
)

PRESETS = {
    "paper": replace(
        _PUBLISHED,
        name="paper",
        batch_size=20,
        lr=1e-4,
        momentum=0.9,
        bias_decay=True,
        deconvolutions="last-fixed",
        epochs=(175, 60),
    ),
    "heavy": replace(
        _PUBLISHED, name="heavy", batch_size=1, lr=1e-10, momentum=0.99, normalize_loss=False, steps=(100_000,)
    ),
    "modern": Preset(),
}

_ALEXNET: dict[str, Any] = {
    "batch_size": 20,
    "lr": 1e-4,
    "momentum": 0.9,
    "normalize_loss": True,
    "bias_lr_multiplier": 1.0,
    "bias_decay": True,
}
"""Differences of the release's solver of voc-fcn-alexnet (there, the score's bias alone learns twice as fast)."""

PAPER_LR = {"vgg16": 1e-4, "alexnet": 1e-3, "googlenet": 5e-5}
"""The paper's learning rates by backbone."""


def find_preset(name: str | Path, recipe: Recipe) -> Preset:
    """Return a preset by name, or from a TOML file with the values that differ from its `base` (else `modern`).

    The published ones follow the recipe: the paper's learning rate of the backbone, the release's solver of the net,
    and one stage for nets that were trained at once. Raises SettingsError.
    """
    if str(name).endswith(".toml"):
        return _read_preset(Path(name), recipe)
    if str(name) not in PRESETS:
        raise SettingsError(f"there is no preset {str(name)!r}; use {', '.join(PRESETS)}, or a FILE.toml")
    preset = PRESETS[str(name)]
    if preset.name == "modern":
        return preset
    if recipe.architecture.backbone in RESNETS:
        raise SettingsError(f"the preset {name} is for networks of the paper, which {recipe.name} is not; use modern")
    preset = replace(preset, staged=not recipe.architecture.skip_scales)
    if preset.name == "paper":
        return replace(preset, lr=PAPER_LR[recipe.architecture.backbone])
    if recipe.architecture.backbone == "alexnet":
        preset = replace(preset, **_ALEXNET)
    if len(recipe.streams) > 1:
        preset = replace(preset, lr=1e-12)
    if recipe.dataset == "voc" and not recipe.architecture.skip_scales:
        return preset
    return replace(preset, steps=(300_000,))


def _read_preset(path: Path, recipe: Recipe) -> Preset:
    try:
        values = tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"the preset {path} cannot be read: {error}; give a TOML file") from error
    base = find_preset(str(values.pop("base", "modern")), recipe)
    return override(replace(base, name=path.stem), values, str(path))


def override(preset: Preset, values: Mapping[str, Any], where: str) -> Preset:
    """Return the preset with other values for some of its fields; `where` they come from is for the error.

    `epochs` replaces a number of steps, and `lr` holds for fine-tuning too unless `finetune_lr` is given.
    Raises SettingsError that names every unknown key and invalid value.
    """
    checked = check_values(Preset, values, where)
    if "epochs" in checked:
        checked.setdefault("steps", ())
    if "lr" in checked:
        checked.setdefault("finetune_lr", 0.0)
    return replace(preset, **checked)
