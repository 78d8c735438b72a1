"""The memory and the room on disk that a training needs, estimated before it starts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fcnseg.models import network_spec
from fcnseg.models.arithmetic import feature_values
from fcnseg.models.layers import weight_layers
from fcnseg.training.plan import TrainPlan
from fcnseg.training.trainer import Execution
from fcnseg.workers.limits import free_memory_bytes

LIBRARIES_BYTES = 700 << 20
"""Memory of a process that has loaded PyTorch."""

READER_BYTES = 350 << 20
"""Memory of a process that reads images."""

SCORE_COPIES = 5
"""Float32 score maps of the image's size in a step: scores, softmax, their gradients, and the sums of overlap."""

TYPICAL = 500, 500
"""Height and width of images, px, whose sizes are not known."""


@dataclass(frozen=True)
class Needs:
    """Bytes that a training needs, and those that are free."""

    memory: int
    free_memory: int
    disk: int
    free_disk: int

    @property
    def faults(self) -> list[str]:
        """Shortages, in words, with what helps."""
        pairs = {
            "memory": (self.memory, self.free_memory, "a smaller --micro-batch or --crop"),
            "disk": (self.disk, self.free_disk, "another --out"),
        }
        return [
            f"the training needs about {size_text(needed)} of {name}, and {size_text(free)} are free; use {remedy}"
            for name, (needed, free, remedy) in pairs.items()
            if needed > free
        ]

    @property
    def line(self) -> str:
        """The estimate in words."""
        memory = f"memory about {size_text(self.memory)} of {size_text(self.free_memory)} free"
        return f"{memory}; disk about {size_text(self.disk)} of {size_text(self.free_disk)} free"


def estimate_needs(plan: TrainPlan, execution: Execution) -> Needs:
    """Return what a training needs: on a GPU the memory is the GPU's."""
    preset, spec = plan.preset, replace(network_spec(plan.recipe), batch_norm=False)
    weights = sum(int(np.prod(shape)) for layer in weight_layers(spec) for shape in layer.shapes.values()) * 4
    moments = 2 if preset.optimizer == "adamw" else 1
    copies = 1 + moments + bool(preset.ema_decay)
    height, width = preset.crop if any(preset.crop) else np.max(plan.sizes, axis=0).tolist() if plan.sizes else TYPICAL
    images = min(execution.micro_batch, preset.batch_size)
    trunk_bytes = 2 if preset.precision == "bf16" else 4
    normalised = preset.batch_norm if plan.initial.state is None else preset.restore_batch_norm
    values = feature_values(spec, height, width) * (2 if normalised else 1)
    classes = sum(head.labels.classes for head in plan.recipe.heads)
    maps = values * trunk_bytes + SCORE_COPIES * classes * height * width * 4
    compute = weights * (copies + 1) + images * maps  # and the gradients
    if execution.device.type == "cuda":
        memory, free_memory = compute, torch.cuda.mem_get_info(execution.device)[0]
    else:
        memory = compute + LIBRARIES_BYTES + execution.workers * READER_BYTES
        free_memory = free_memory_bytes()
    disk = weights * (2 * (copies + 1) + 3)  # a checkpoint and its successor, the model, the best one and its successor
    return Needs(memory, free_memory, disk, free_bytes(plan.out))


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk where a folder is, or would be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def size_text(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, size >> 20)} MiB"
