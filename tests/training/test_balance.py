"""Class weights: the definition, over all heads at once, in any number of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.training.balance import balanced_weights
from fcnseg.training.processes import ALONE
from tests.training.memory import blocks, tiny_recipe


@pytest.mark.parametrize("workers", [0, 1])
def test_rare_classes_weigh_more(tmp_path: Path, workers: int) -> None:
    recipe = tiny_recipe(tmp_path)
    samples = blocks(recipe, [(40, 48), (24, 32), (9, 11)])
    told: list[int] = []
    found = balanced_weights(samples, recipe, 0.5, ALONE, workers, told.append)["labels"]
    labels = np.concatenate([sample.labels["labels"].ravel() for sample in samples.samples])
    share = np.array([(labels == k).sum() for k in range(recipe.heads[0].labels.classes)]) / (labels != 255).sum()
    present = share > 0
    # the lower of the two middle ones, where classes are even in number
    median = np.sort(share[present])[(present.sum() - 1) // 2]
    wanted = np.where(present, np.clip(np.sqrt(median / np.maximum(share, 1e-9)), 0.5, 3), 1)
    assert torch.allclose(found, torch.from_numpy(wanted).float())
    assert told == [1, 2, 3]
