"""The settings that a training goes by, in lines: also those that were chosen for it."""

from collections.abc import Mapping

from torch import Tensor

from fcnseg.recipes import Recipe
from fcnseg.training.plan import TrainPlan
from fcnseg.training.trainer import Execution


def settings_lines(plan: TrainPlan, execution: Execution) -> list[str]:
    """Return the effective settings of a plan, a topic a line."""
    preset, images = plan.preset, len(plan.train)
    stages = [preset.steps_of(stage, images) for stage in range(len(plan.strides))]
    nets = ", ".join(f"{stride}s {steps:,} steps" for stride, steps in zip(plan.strides, stages, strict=True))
    epochs = ", ".join(f"{steps * preset.batch_size / images:.4g}" for steps in stages)
    micro_batch = min(execution.micro_batch, preset.batch_size)
    shared = f", shared by {execution.ranks.world_size} processes" if execution.ranks.world_size > 1 else ""
    height, width = preset.crop
    crop = f"crops {width}x{height} px, scaled {preset.scale[0]:g} to {preset.scale[1]:g}" if height else "whole images"
    views = {
        "flipped": preset.hflip,
        "upside down": preset.vflip,
        f"turned up to {preset.rotation:g} degrees": preset.rotation,
        f"colour jitter {preset.color_jitter:g}": preset.color_jitter,
    }
    losses = {
        f"focal {preset.focal_gamma:g}": preset.focal_gamma,
        f"Jaccard {preset.jaccard_weight:g}": preset.jaccard_weight,
        f"Dice {preset.dice_weight:g}": preset.dice_weight,
    }
    workers = f"{execution.workers} reading processes" if execution.workers else "a reading thread"
    rates = f"{preset.optimizer}, lr {preset.lr:g} ({preset.lr_schedule}), weight decay {preset.weight_decay:g}"
    trunk = {0.0: ", trunk frozen", 1.0: ""}.get(
        preset.trunk_lr_multiplier, f", trunk at {preset.trunk_lr_multiplier:g} of it"
    )
    return [
        f"stages: {nets} over {images:,} images, {epochs} epochs; validated on {len(plan.validation):,}",
        f"batch {preset.batch_size}, {micro_batch} at once{shared}; {workers}; {execution.device}, {preset.precision}",
        f"{rates}{trunk}; seed {plan.seed}",
        "; ".join([", ".join([crop, *_given(views)]), ", ".join(["pixel loss", *_given(losses)])]),
    ]


def _given(texts: Mapping[str, object]) -> list[str]:
    return [text for text, is_given in texts.items() if is_given]


def class_weight_line(recipe: Recipe, weights: Mapping[str, Tensor]) -> str:
    """Return the weight of each class in the pixel loss."""
    parts = []
    for head in recipe.heads:
        of_head = f"{head.name}: " if len(recipe.heads) > 1 else ""
        pairs = zip(head.labels.names, weights[head.name].tolist(), strict=True) if weights else ()
        parts.append(of_head + (", ".join(f"{name} {weight:.3g}" for name, weight in pairs) or "all 1"))
    return f"class weights: {'; '.join(parts)}"
