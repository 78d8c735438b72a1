"""Class weights: the definition, over all heads at once, in any number of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.training import class_weights as balance
from fcnseg.training.class_weights import balanced_weights, count_class_pixels
from fcnseg.training.distributed import Ranks
from fcnseg.training.readers import Readers
from tests.training.memory import blocks, tiny_recipe

SIZES = [(40, 48), (24, 32), (9, 11)]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_pixels_of_every_head_are_counted(tmp_path: Path, workers: int) -> None:
    recipe = tiny_recipe(tmp_path, heads=2)
    samples = blocks(recipe, SIZES)
    told: list[tuple[int, int]] = []
    with Readers(workers) as readers:
        found = count_class_pixels(samples, recipe, Ranks(), readers, lambda *done: told.append(done))
    for head in recipe.heads:
        labels = np.concatenate([sample.labels[head.name].ravel() for sample in samples.samples])
        assert found[head.name].tolist() == [(labels == k).sum() for k in range(head.labels.classes)]
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_of_many_images_evenly_spaced_ones_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, SIZES * 3)
    monkeypatch.setattr(balance, "MAX_IMAGES", 3)
    assert int(count_class_pixels(samples, recipe, Ranks(), Readers())["labels"].sum()) == sum(
        int((samples[i].labels["labels"] != 255).sum()) for i in (0, 3, 6)
    )


def test_rare_classes_weigh_more() -> None:
    weights = balanced_weights(torch.tensor([400, 100, 25, 0, 1, 10_000]), 0.5)
    # the median of those that occur is 100
    assert weights.tolist() == pytest.approx([0.5, 1.0, 2.0, 1.0, 3.0, 0.5])
