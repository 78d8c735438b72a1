"""Validation: huge images in tiles have the figures of whole ones."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.models.label_network import LabelNetwork
from fcnseg.training import validation
from fcnseg.training.validation import WORST, HeadTally, TiledPrediction
from tests.training.memory import blocks, network_of, tiny_recipe


@pytest.mark.parametrize("heads", [1, 2])
def test_tiles_change_no_label_and_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heads: int) -> None:
    recipe = tiny_recipe(tmp_path, heads=heads, stride=16)
    graph = LabelNetwork(network_of(recipe).eval(), recipe)
    (sample,) = blocks(recipe, [(90, 1500)]).samples
    seen: list[tuple[int, ...]] = []
    scores = graph.scores
    monkeypatch.setattr(graph, "scores", lambda *images: (seen.append(tuple(images[0].shape)), scores(*images))[1])
    predict = TiledPrediction(graph, torch.device("cpu"), lambda images: nullcontext(), "no step")
    with torch.inference_mode():
        whole = predict(sample)
        monkeypatch.setattr(validation, "MOST_PX", 90 * 1000)
        tiled = predict(sample)
    assert seen[0] == (1, 90, 1500, 3)
    assert len(seen) > 2
    assert all(shape[1] * shape[2] <= 90 * 1000 for shape in seen[1:])
    for head in whole:
        assert float((whole[head][0] == tiled[head][0]).mean()) > 0.9999
        assert tiled[head][1] == pytest.approx(whole[head][1], rel=1e-5)


def test_the_worst_images_are_kept_and_those_without_labels_are_none(tmp_path: Path) -> None:
    space = tiny_recipe(tmp_path).heads[0].labels
    tally = HeadTally(space)
    truth = np.zeros((10, 10), np.uint8)
    for index in range(8):
        predicted = truth.copy()
        predicted[:index] = 1
        tally.add(index, truth, predicted, 1.0)
    tally.add(8, np.full((10, 10), space.ignore, np.uint8), truth, 0.0)
    assert [image.index for image in tally.worst] == [7, 6, 5, 4]
    assert len(tally.worst) == WORST
    assert tally.loss == 8.0
