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
    """Return the preset's optimizer of all trainable parameters; each group has an `lr_multiplier`.

    With an `lr_multiplier` of 0 for the trunk, its parameters are marked as not to be trained.
    """
    trunk_multiplier = preset.trunk_lr_multiplier
    if not trunk_multiplier:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not in_trunk(name))
    trainable = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    parts = [(trainable, 1.0)]
    if trunk_multiplier != 1:
        parts = [
            ([(name, p) for name, p in trainable if not in_trunk(name)], 1.0),
            ([(name, p) for name, p in trainable if in_trunk(name)], trunk_multiplier),
        ]
    groups: list[dict[str, Any]] = []
    for parameters, multiplier in parts:
        groups += [
            {
                "params": [p for _, p in parameters if p.ndim > 1],
                "lr_multiplier": multiplier,
                "weight_decay": preset.weight_decay,
            },
            {
                "params": [p for _, p in parameters if p.ndim == 1],
                "lr_multiplier": multiplier * preset.bias_lr_multiplier,
                "weight_decay": preset.weight_decay if preset.bias_decay else 0.0,
            },
        ]
    groups = [group for group in groups if group["params"]]
    if preset.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=preset.lr, momentum=preset.momentum)
    return torch.optim.AdamW(groups, lr=preset.lr, betas=(preset.momentum, 0.999))


def in_trunk(name: str) -> bool:
    """Tell whether a parameter is of the trunk, the former classifier, by its name or that of its layer."""
    return not name.startswith(("score_", "upscore", "scale_"))


def hold_frozen_statistics(network: nn.Module, preset: Preset) -> None:
    """Have the normalisation layers of a trunk that is not trained keep their statistics."""
    if preset.trunk_lr_multiplier == 0:
        for name, module in network.named_children():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and in_trunk(name):
                module.eval()


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
