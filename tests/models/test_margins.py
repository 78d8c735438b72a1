"""The trunk without its margins against the trunk: maps, scores, and exported graphs, at every kind of size."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from torch import Tensor, nn

from fcnseg.engine.graph import TYPES, GraphForm, write_graph, write_network
from fcnseg.engine.graph_margins import windowed_trunk
from fcnseg.engine.graph_trunk import TrunkWriter
from fcnseg.engine.graph_writer import GraphWriter
from fcnseg.engine.onnx_session import session_of
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.models import FCN, Head, NetworkSpec, Stream, network_spec
from fcnseg.models.backbones import backbone_layers
from fcnseg.models.label_network import LabelNetwork
from fcnseg.models.margins import applies, plan_windows
from fcnseg.recipes import Shapes, find_recipe
from tests.conftest import make_tiny

EARLY = (Stream(4, first_layer="conv1_1_bgrd"),)
LATE = (Stream(3, "color"), Stream(2, "hha"))
SIZES = ((1, 1), (1, 300), (259, 2), (64, 64), (33, 97), (95, 160))


def spec(stride: int = 8, streams: tuple[Stream, ...] = (Stream(),)) -> NetworkSpec:
    return NetworkSpec("vgg16", stride, (Head(3),), streams, "caffe", width=1 / 16, fc_width=16)


def build(of: NetworkSpec, seed: int = 0) -> FCN:
    """Random weights, and biases as large as what an image leaves of the features: without, margins are all zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FCN(of)
        for name, module in network.named_children():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.bias, std=1 if name.startswith("score_") else 10)  # type: ignore[arg-type]
            if name.startswith("score_"):
                nn.init.normal_(module.weight, std=0.01)  # type: ignore[arg-type]
    return network.eval()


def pictures(network: FCN, height: int, width: int, batch: int = 1) -> list[Tensor]:
    """One image a stream, at the scale of photographs less their mean."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    shapes = [(batch, stream.channels, height, width) for stream in network.spec.streams]
    return [60 * torch.randn(shape, generator=generator) for shape in shapes]


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value, which is not zero."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert expected.abs().max() > 0
    return float((found - expected).abs().max() / expected.abs().max())


class Graph:
    """The network without margins as two graphs: one gives its scores, one its trunks' maps."""

    def __init__(self, network: FCN, precision: str = "fp32") -> None:
        spec, weights = network.spec, {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        scores, images = self._begun(spec)
        found = write_network(scores, spec, weights, images, form=GraphForm(), precision=precision)
        self.scores = self._session(scores, found)
        maps, images = self._begun(spec)
        found, self.names = [], []
        for i, (stream, image) in enumerate(zip(spec.streams, images, strict=True)):
            taps = windowed_trunk(TrunkWriter(maps, spec, stream, weights, TYPES[precision]), image)
            found += taps.values()
            self.names += [(tap, i) for tap in taps]
        self.maps = self._session(maps, found)

    @staticmethod
    def _begun(spec: NetworkSpec) -> tuple[GraphWriter, list[str]]:
        graph = GraphWriter()
        axes = [["N", stream.channels, "H", "W"] for stream in spec.streams]
        return graph, [graph.input(f"image{i}", TensorProto.FLOAT, a) for i, a in enumerate(axes)]

    @staticmethod
    def _session(graph: GraphWriter, outputs: list[str]) -> Any:
        for i, tensor in enumerate(outputs):
            same = graph.node("Identity", tensor, output=f"out{i}")
            graph.output(same, TensorProto.FLOAT, ["N", f"C{i}", f"H{i}", f"W{i}"])
        with TemporaryDirectory() as folder:
            graph.save(Path(folder) / "graph.onnx", {})
            return session_of((Path(folder) / "graph.onnx").read_bytes())

    def run(self, images: list[Tensor]) -> dict[tuple[str, int], Tensor]:
        """The scores, and each stream's maps by name and number."""
        inputs = {f"image{i}": image.numpy() for i, image in enumerate(images)}
        found = [*self.scores.run(None, inputs), *self.maps.run(None, inputs)]
        return dict(zip([("scores", 0), *self.names], map(torch.from_numpy, found), strict=True))


@torch.inference_mode()
def errors(network: FCN, graph: Graph, height: int, width: int, batch: int = 1) -> dict[str, float]:
    """The worst error of the scores, and of each map over the streams."""
    images = pictures(network, height, width, batch)
    found = graph.run(images)
    worst = {"scores": error(found["scores", 0], network(*images)[0])}
    for i, (stream, image) in enumerate(zip(network.spec.streams, images, strict=True)):
        for name, tap in network.trunk(stream, image).items():
            worst[name] = max(worst.get(name, 0), error(found[name, i], tap))
    return worst


# ---------------------------------------------------------------------- the plan


def test_the_plan_ends_with_the_last_pooling_before_which_image_and_border_stay_apart() -> None:
    plan = plan_windows(backbone_layers("vgg16", "caffe"))
    assert (plan.steps[-1].layer.name, plan.block_px) == ("pool4", 16)
    poolings = {s.layer.name: (s.first, s.background) for s in plan.steps if s.layer.name.startswith("pool")}
    assert poolings == {"pool1": (48, 1), "pool2": (23, 2), "pool3": (10, 3), "pool4": (3, 3)}
    assert plan.surplus > plan.block_px  # the smallest image's map is larger than a blank one


def test_only_plain_vgg_with_large_margins_is_offered() -> None:
    others = {"backbone": "alexnet"}, {"geometry": "same"}, {"geometry": "classifier"}, {"batch_norm": True}
    assert applies(spec())
    for change in others:
        other = replace(spec(32), **change)
        assert not applies(other)


# ---------------------------------------------------------------------- equal to the whole trunk


@pytest.fixture(scope="module")
def network() -> FCN:
    return build(spec())


@pytest.fixture(scope="module")
def graph(network: FCN) -> Graph:
    return Graph(network)


@pytest.mark.parametrize("residue", range(32))
def test_every_residue_of_the_size(network: FCN, graph: Graph, residue: int) -> None:
    for height, width in ((residue + 1, 96 - 5 * residue % 32), (64 + 3 * residue % 32, residue + 33)):
        assert max(errors(network, graph, height, width).values()) < 1e-5


@settings(deadline=None, max_examples=20)
@given(height=st.integers(1, 200), width=st.integers(1, 200), batch=st.integers(1, 3))
def test_any_size_and_batch(network: FCN, graph: Graph, height: int, width: int, batch: int) -> None:
    assert max(errors(network, graph, height, width, batch).values()) < 1e-5


@pytest.mark.parametrize("streams", [(Stream(),), EARLY, LATE], ids=["one", "early", "late"])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_maps_and_scores_of_every_kind(stride: int, streams: tuple[Stream, ...]) -> None:
    network = build(spec(stride, streams), seed=stride)
    graph = Graph(network)
    for height, width in SIZES:
        found = errors(network, graph, height, width, batch=3)
        assert found.keys() == {"scores", *network.spec.skips, "fr"}
        assert max(found.values()) < 1e-5


def test_half_precision_loses_hardly_more_than_it_does_in_the_whole_trunk() -> None:
    network = build(replace(spec(), width=1 / 8))
    (image,) = pictures(network, 70, 85)
    found = Graph(network, "fp16").run([image])
    with torch.inference_mode():
        expected = network.trunk(Stream(), image)
        whole = network.to(torch.float16).trunk(Stream(), image)
    for name, tap in expected.items():
        assert found[name, 0].dtype == torch.float32
        assert 0 < (found[name, 0] - tap).norm() < 1.5 * (whole[name] - tap).norm()


def test_the_maps_have_borders_and_background_that_tell_errors_apart(network: FCN) -> None:
    with torch.inference_mode():
        pool4 = network.trunk(Stream(), *pictures(network, 40, 40))["pool4"][0]
    background = pool4[:, 3, 3]  # the first cell that depends on neither image nor border
    assert error(pool4[:, 3, 0], background) > 0.05
    assert error(pool4[:, 0, 0], pool4[:, 3, 0]) > 0.05
    assert error(pool4[:, 7, 7], background) > 0.05


# ---------------------------------------------------------------------- exported


def compared(plain: LabelNetwork, run: Callable[[dict[str, Any]], Any]) -> float:
    """The worst error of the probabilities that `run` gives for images by modality, over sizes and batches."""
    random = np.random.default_rng(0)
    errors = []
    for height, width in (*SIZES, (13, 18), (61, 47)):
        batch = 2 if height == 33 else 1
        images = {m: random.integers(0, 256, (batch, height, width, 3), np.uint8) for m in plain.recipe.modalities}
        with torch.inference_mode():
            expected = plain.scores(*map(torch.from_numpy, images.values()))[0].softmax(1)
        labels, probabilities = run(images)
        assert labels.shape == (batch, height, width)
        errors.append(error(torch.tensor(probabilities), expected))
    return max(errors)


def test_one_file_serves_every_runtime_at_every_size(tmp_path: Path) -> None:
    recipe = find_recipe(make_tiny(tmp_path, geometry="caffe").recipe)
    network = build(network_spec(recipe))
    plain = LabelNetwork(network, recipe).eval()
    file, weights = tmp_path / "windowed.onnx", {name: t.numpy() for name, t in network.state_dict().items()}
    write_graph(file, recipe, weights, probabilities="float32")

    session = session_of(str(file))
    assert compared(plain, lambda images: session.run(None, images)) < 3e-5

    compiled = openvino.Core().compile_model(
        file, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    assert compared(plain, lambda images: compiled(images).values()) < 3e-5

    held = sum(np.prod(i.dims) for i in onnx.load(file).graph.initializer if i.data_type == onnx.TensorProto.FLOAT)
    vectors = sum(2 * values.size for name, values in weights.items() if name.endswith(".bias"))
    assert held <= sum(values.size for values in weights.values()) + vectors + 10  # every weight once

    if importlib.util.find_spec("tensorrt_rtx"):
        assert build_plan(file, "tensorrt-rtx", [Shapes((1, 1), (60, 80), (300, 300), 2)]).content.nbytes > 0
