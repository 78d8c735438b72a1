"""Augmented views of labelled samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fcnseg.training.augmentation import AugmentedSamples
from tests.training.memory import blocks, preset, tiny_recipe


def test_views_are_of_the_cropped_size_and_keep_labels_with_their_pixels(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, [(50, 70)], void=0.0)
    how = replace(preset("modern", recipe, color_jitter=0.0), crop=(32, 40))
    views = AugmentedSamples(samples, how, (0, 0))
    for visit in range(20):
        view = views[0, visit]
        pixels, labels = view.inputs["color"], view.labels["labels"]
        assert pixels.shape == (32, 40, 3)
        assert labels.shape == (32, 40)
        told = (pixels[..., 0] / 250 * 5).long().clamp(0, 4)
        assert float((told == labels).float().mean()) > 0.75  # all but at the borders of blocks, which are blurred
        assert torch.equal(views[0, visit].inputs["color"], pixels)
    assert len({views[0, visit].inputs["color"].sum().item() for visit in range(20)}) > 10
