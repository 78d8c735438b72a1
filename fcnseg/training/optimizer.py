"""The optimizer of a preset, its learning-rate schedule, and the exponential moving average of weights."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fcnseg.training.presets import Preset

WARM_UP = 0.1
"""Share of a stage over which the `cosine` schedule rises to its peak."""


def make_optimizer(network: nn.Module, preset: Preset) -> torch.optim.Optimizer:
    """Return the preset's optimizer of all trainable parameters; each group has an `lr_multiplier`."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    decay = preset.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p.ndim > 1], "lr_multiplier": 1.0, "weight_decay": decay},
        {
            "params": [p for p in trainable if p.ndim == 1],
            "lr_multiplier": preset.bias_lr_multiplier,
            "weight_decay": decay if preset.bias_decay else 0.0,
        },
    ]
    if preset.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=preset.lr, momentum=preset.momentum)
    return torch.optim.AdamW(groups, lr=preset.lr, betas=(preset.momentum, 0.999))


def scheduled_lr(schedule: str, peak: float, progress: float) -> float:
    """Return the learning rate at a progress from 0 to 1 through a stage, by `Preset.lr_schedule`."""
    if schedule == "poly":
        return float(peak * (1 - min(progress, 1.0)) ** 0.9)
    if schedule == "cosine":
        if progress < WARM_UP:
            return peak * (0.04 + 0.96 * progress / WARM_UP)
        return peak * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
    return peak


def ema_update(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return the update of an exponential moving average, for `torch.optim.swa_utils.AveragedModel`.

    Over the first steps the decay is smaller, so that short trainings forget their initial weights too.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        n = float(steps)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for average, new in zip(averages, current, strict=True):
            average.lerp_(new.to(average.dtype), weight) if average.is_floating_point() else average.copy_(new)

    return update
