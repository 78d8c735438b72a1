"""The trunk without its margins against the trunk: maps, scores, and exported graphs, at every kind of size."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fcnseg.engine.export import export_onnx
from fcnseg.engine.graph import LabelGraph
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.models import FCN, Head, NetworkSpec, Stream, network_spec
from fcnseg.models.backbones import backbone_layers
from fcnseg.models.margins import WindowedTrunk, applies, plan_windows
from fcnseg.recipes import Shapes, find_recipe
from tests.conftest import make_tiny

EARLY = (Stream(4, first_layer="conv1_1_bgrd"),)
LATE = (Stream(3, "color"), Stream(2, "hha"))
SIZES = ((1, 1), (1, 300), (259, 2), (64, 64), (33, 97), (95, 160))


def trunk_without_margins(network: FCN, stream: Stream, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `network.trunk(stream, image)` gives, by way of a WindowedTrunk."""
    return WindowedTrunk(network, stream)(network, image)


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


@torch.inference_mode()
def map_errors(network: FCN, height: int, width: int, batch: int = 1) -> dict[str, float]:
    """By map, the worst stream's."""
    errors: dict[str, float] = {}
    for stream, image in zip(network.spec.streams, pictures(network, height, width, batch), strict=True):
        expected, found = network.trunk(stream, image), trunk_without_margins(network, stream, image)
        assert found.keys() == expected.keys()
        for name, tap in found.items():
            errors[name] = max(errors.get(name, 0), error(tap, expected[name]))
    return errors


@torch.inference_mode()
def score_error(network: FCN, height: int, width: int, batch: int = 1) -> float:
    images = pictures(network, height, width, batch)
    taps = [trunk_without_margins(network, *pair) for pair in zip(network.spec.streams, images, strict=True)]
    return error(network.fuse(network.spec.heads[0], taps, (height, width)), network(*images)[0])


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
        with torch.device("meta"), pytest.raises(ValueError, match="VGG-16"):
            WindowedTrunk(FCN(other), Stream())


# ---------------------------------------------------------------------- equal to the whole trunk


@pytest.fixture(scope="module")
def exact() -> FCN:
    """In float64, where only what is wrong shows: maps agree as far as their float32 tells."""
    return build(spec()).double()


@pytest.mark.parametrize("residue", range(32))
def test_every_residue_of_the_size(exact: FCN, residue: int) -> None:
    for height, width in ((residue + 1, 96 - 5 * residue % 32), (64 + 3 * residue % 32, residue + 33)):
        assert max(map_errors(exact, height, width).values()) < 2e-7


@settings(deadline=None, max_examples=20)
@given(height=st.integers(1, 200), width=st.integers(1, 200), batch=st.integers(1, 3))
def test_any_size_and_batch(exact: FCN, height: int, width: int, batch: int) -> None:
    assert max(map_errors(exact, height, width, batch).values()) < 2e-7


@pytest.mark.parametrize("streams", [(Stream(),), EARLY, LATE], ids=["one", "early", "late"])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_maps_and_scores_in_float32(stride: int, streams: tuple[Stream, ...]) -> None:
    network = build(spec(stride, streams), seed=stride)
    for height, width in SIZES:
        errors = map_errors(network, height, width, batch=3)
        assert errors.keys() == {*network.spec.skips, "fr"}
        assert max(errors.values()) < 1e-5
        assert score_error(network, height, width, batch=3) < 1e-5


def test_half_precision_loses_hardly_more_than_it_does_in_the_whole_trunk() -> None:
    network = build(replace(spec(), width=1 / 8))
    (image,) = pictures(network, 70, 85)
    with torch.inference_mode():
        expected = network.trunk(Stream(), image)
        lowered = network.to(torch.bfloat16)
        whole, windowed = lowered.trunk(Stream(), image), trunk_without_margins(lowered, Stream(), image)
    for name, tap in expected.items():
        assert windowed[name].dtype == torch.float32
        assert 0 < (windowed[name] - tap).norm() < 1.5 * (whole[name] - tap).norm()


def test_the_maps_have_borders_and_background_that_tell_errors_apart(exact: FCN) -> None:
    with torch.inference_mode():
        pool4 = exact.trunk(Stream(), *pictures(exact, 40, 40))["pool4"][0]
    background = WindowedTrunk(exact, Stream()).get_buffer("background_conv4_3")[:, 0, 0].float()
    assert error(pool4[:, 3, 0], background) > 0.05
    assert error(pool4[:, 0, 0], pool4[:, 3, 0]) > 0.05
    assert error(pool4[:, 7, 7], background) > 0.05


# ---------------------------------------------------------------------- exported


class Windowed(nn.Module):
    """A network with these trunks, called like the network."""

    def __init__(self, network: FCN) -> None:
        super().__init__()
        self.network = network
        self.trunks = nn.ModuleList(WindowedTrunk(network, stream) for stream in network.spec.streams)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        taps = [trunk(self.network, image) for trunk, image in zip(self.trunks, images, strict=True)]
        return tuple(self.network.fuse(head, taps, images[0].shape[-2:]) for head in self.network.spec.heads)


def compared(plain: LabelGraph, run: Callable[[dict[str, Any]], Any]) -> float:
    """The worst error of the probabilities that `run` gives for images by modality, over sizes and batches."""
    random = np.random.default_rng(0)
    errors = []
    for height, width in (*SIZES, (13, 18), (61, 47)):
        batch = 2 if height == 33 else 1
        images = {m: random.integers(0, 256, (batch, height, width, 3), np.uint8) for m in plain.recipe.modalities}
        with torch.inference_mode():
            _, expected = plain(*map(torch.from_numpy, images.values()))
        labels, probabilities = run(images)
        assert labels.shape == (batch, height, width)
        errors.append(error(torch.tensor(probabilities), expected))
    return max(errors)


@pytest.mark.slow
def test_one_file_serves_every_runtime_at_every_size(tmp_path: Path) -> None:
    """One test for all of them: exporting takes longer than everything else here."""
    openvino, onnxruntime = pytest.importorskip("openvino"), pytest.importorskip("onnxruntime")
    recipe = find_recipe(make_tiny(tmp_path, geometry="caffe").recipe)
    network = build(network_spec(recipe))
    plain = LabelGraph(network, recipe, "float32").eval()
    windowed = LabelGraph(cast(FCN, Windowed(network)), recipe, "float32").eval()
    file = tmp_path / "windowed.onnx"
    export_onnx(windowed, file)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    assert compared(plain, lambda images: session.run(None, images)) < 3e-5

    compiled = openvino.Core().compile_model(
        file, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    assert compared(plain, lambda images: compiled(images).values()) < 3e-5

    held = sum(np.prod(i.dims) for i in onnx.load(file).graph.initializer if i.data_type == onnx.TensorProto.FLOAT)
    assert held <= sum(t.numel() for t in (*windowed.parameters(), *windowed.buffers())) + 10  # every weight once

    if importlib.util.find_spec("tensorrt_rtx"):
        assert build_plan(file, "tensorrt-rtx", [Shapes((1, 1), (60, 80), (300, 300), 2)]).nbytes > 0
