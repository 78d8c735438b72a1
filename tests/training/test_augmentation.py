"""Augmented views of labelled samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.training.augmentation import AugmentedSamples
from fcnseg.training.samples import LabelledSample
from tests.training.memory import InMemory, blocks, preset, tiny_recipe


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


def test_turned_crops_keep_labels_with_their_pixels_and_have_void_outside(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    rows, columns = np.mgrid[:60, :80]
    image = np.stack([rows * 4, columns * 3, rows * 0 + 7], -1).astype(np.uint8)
    labels = (rows // 20).astype(np.uint8)
    samples = InMemory((LabelledSample("a", {"color": image}, {"labels": labels}),))
    how = replace(preset("modern", recipe, color_jitter=0.0, hflip=False, rotation=90.0), crop=(60, 60), scale=(1, 1))
    views = AugmentedSamples(samples, how, (0, 0), {"labels": 255})
    angles, void = [], []
    for visit in range(30):
        view = views[0, visit]
        pixels, found = view.inputs["color"].numpy(), view.labels["labels"].numpy()
        known = found != 255
        assert (abs(pixels[known][:, 0] / 4 // 20 - found[known]) <= 1).all()
        assert float((pixels[known][:, 0] / 4 // 20 == found[known]).mean()) > 0.9
        right = pixels[30, 40, :2] - pixels[30, 30, :2]  # ten pixels to the right, in the image
        angles.append(float(np.degrees(np.arctan2(right[0] / 4, right[1] / 3))))
        assert np.hypot(right[0] / 4, right[1] / 3) == pytest.approx(10, abs=0.5)  # turned, not sheared
        void.append(float((~known).mean()))
    assert min(angles) < -45
    assert max(angles) > 45
    assert 0.05 < np.mean(void) < 0.3


def test_flips_upside_down_are_half_of_the_views(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, [(16, 24)])
    how = preset("modern", recipe, color_jitter=0.0, hflip=False, vflip=True)
    original = samples[0].labels["labels"].astype(np.int64)
    seen = [AugmentedSamples(samples, how, (0, 0))[0, visit].labels["labels"].numpy() for visit in range(40)]
    flipped = [bool((labels == original[::-1]).all()) for labels in seen]
    assert all(f or (labels == original).all() for f, labels in zip(flipped, seen, strict=True))
    assert 10 < sum(flipped) < 30
