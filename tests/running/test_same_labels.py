"""Tiles give the labels of the whole image, on real engines, for every family of networks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnseg.engine.graph import write_graph
from fcnseg.engine.runtimes.common import engine_info, output_names
from fcnseg.engine.runtimes.openvino import OpenVINOEngine, compile_graph, processor_has
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.io.hashing import file_sha256
from fcnseg.models import network_spec
from fcnseg.models.halo import halo_of
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.running.tile_grid import smallest_side
from fcnseg.types import Engine, Frame, Pixels, Prediction
from fcnseg.weights.loading import load_weights
from tests.conftest import make_tiny, photograph

FAMILIES: dict[str, dict[str, Any]] = {
    "8s": {},
    "16s": {"stride": 16},
    "32s-two-streams": {"stride": 32, "streams": "hha"},
    "8s-caffe": {"geometry": "caffe"},
    "16s-caffe-two-heads": {"stride": 16, "geometry": "caffe", "heads": 2},
    "32s-caffe": {"stride": 32, "geometry": "caffe"},
    "alexnet-caffe": {"backbone": "alexnet", "stride": 32, "geometry": "caffe"},
    "googlenet-same": {"backbone": "googlenet", "stride": 32},
}


def picture(folder: Path, recipe: Recipe, height: int, width: int) -> Frame:
    from fcnseg.io.images import read_color

    inputs: dict[str, Pixels] = {}
    for seed, modality in enumerate(recipe.modalities):
        smooth = read_color(photograph(folder / f"{modality}.png", width, height, seed)).astype(int)
        grain = np.random.default_rng(seed).integers(-8, 9, smooth.shape)
        inputs[modality] = (smooth + grain).clip(0, 255).astype(np.uint8)
    return Frame("a", "a", inputs)


def both(
    running: AbstractContextManager[Engine], recipe: Recipe, frame: Frame, longer: int
) -> tuple[Prediction, Prediction]:
    """The prediction of the whole image and that of tiles, of which there are several."""
    side = smallest_side(halo_of(network_spec(recipe))) + longer
    with running as engine:
        whole = Predictor(engine, recipe, probabilities=True).one(frame)
        tiling = Predictor(engine, recipe, probabilities=True, tile=side)
        tiled = tiling.one(frame)
    assert tiling.events["images cut into tiles"] == 1
    assert whole.probabilities
    assert all(np.ptp(values, axis=(1, 2)).max() > 0.01 for values in whole.probabilities.values())
    return whole, tiled


def same(found: Mapping[str, Any] | None, expected: Mapping[str, Any] | None) -> bool:
    assert found
    assert expected
    assert found.keys() == expected.keys()
    return all(np.array_equal(found[head], expected[head]) for head in expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_on_torch(tmp_path: Path, family: str) -> None:
    """Equal labels; scores but for their last bits: torch chooses other kernels for other sizes."""
    tiny = make_tiny(tmp_path, **FAMILIES[family])
    recipe = find_recipe(tiny.recipe)
    for height, width in ((90, 1187), (1187, 63)):
        running = TorchEngine(recipe, tiny.weights, "cpu")
        whole, tiled = both(running, recipe, picture(tmp_path, recipe, height, width), 71)
        assert same(tiled.labels, whole.labels)
        assert whole.probabilities
        assert tiled.probabilities
        assert all(np.allclose(tiled.probabilities[h], whole.probabilities[h], 0, 1e-4) for h in whole.labels)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["8s", "8s-caffe", "16s-caffe-two-heads", "alexnet-caffe"])
def test_on_openvino_to_the_last_bit(tmp_path: Path, family: str) -> None:
    tiny = make_tiny(tmp_path, **FAMILIES[family])
    recipe = find_recipe(tiny.recipe)
    write_graph(tmp_path / "graph.onnx", recipe, load_weights(recipe, tiny.weights).tensors, probabilities="float32")
    for precision, height, width, longer in (("fp32", 701, 1203, 90), ("bf16", 1024, 650, 10)):
        if not processor_has(precision):
            continue
        file = tmp_path / f"{precision}.engine"
        compile_graph(tmp_path / "graph.onnx", {file: output_names(recipe, probabilities=True)}, precision)
        info = engine_info(
            recipe, backend="openvino", device="cpu", precision=precision, weights_sha256="", versions={}
        )
        running = OpenVINOEngine(recipe, file, info, sha256=file_sha256(file), probabilities=True)
        whole, tiled = both(running, recipe, picture(tmp_path, recipe, height, width), longer)
        assert same(tiled.labels, whole.labels)
        assert same(tiled.probabilities, whole.probabilities)
