"""The trunk without its margins against the trunk: maps, scores, and exported graphs, at every kind of size."""

from __future__ import annotations

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
from fcnseg.models import FCN, Head, NetworkSpec, Stream, network_spec
from fcnseg.models.backbones import backbone_layers
from fcnseg.models.margins import WindowedTrunk, applies, plan_windows, trunk_without_margins
from fcnseg.recipes import Recipe, Shapes, find_recipe
from tests.conftest import make_tiny

EARLY = (Stream(4, first_layer="conv1_1_bgrd"),)
LATE = (Stream(3, "color"), Stream(2, "hha"))
SIZES = ((1, 1), (1, 300), (259, 2), (64, 64), (33, 97), (95, 160))


def spec(stride: int = 8, streams: tuple[Stream, ...] = (Stream(),)) -> NetworkSpec:
    return NetworkSpec("vgg16", stride, (Head(3),), streams, "caffe", width=1 / 16, fc_width=16)


def with_biases(network: FCN, seed: int = 0) -> FCN:
    """Random biases as large as what an image leaves of the features: without them margins are zeros everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, module in network.named_children():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.bias, std=1 if name.startswith("score_") else 10)  # type: ignore[arg-type]
            if name.startswith("score_"):
                nn.init.normal_(module.weight, std=0.3)  # type: ignore[arg-type]
    return network.eval()


def pictures(network: FCN, height: int, width: int, batch: int = 1) -> list[Tensor]:
    """One image a stream, in the precision of the network's scores."""
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
        other = replace(spec(32), **change)  # type: ignore[arg-type]
        assert not applies(other)
        with torch.device("meta"), pytest.raises(ValueError, match="VGG-16"):
            WindowedTrunk(FCN(other), Stream())


# ---------------------------------------------------------------------- equal to the whole trunk


@pytest.fixture(scope="module")
def exact() -> FCN:
    """In float64, where only what is wrong shows: maps agree as far as their float32 tells."""
    return with_biases(FCN(spec())).double()


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
    network = with_biases(FCN(spec(stride, streams)), seed=stride)
    for height, width in SIZES:
        errors = map_errors(network, height, width, batch=3)
        assert errors.keys() == {*network.spec.skips, "fr"}
        assert max(errors.values()) < 1e-5
        assert score_error(network, height, width, batch=3) < 1e-5


def test_half_precision_loses_no_more_than_it_does_in_the_whole_trunk() -> None:
    network = with_biases(FCN(replace(spec(), width=1 / 8)))
    (image,) = pictures(network, 70, 85)
    with torch.inference_mode():
        expected = network.trunk(Stream(), image)
        lowered = network.to(torch.bfloat16)
        whole, windowed = lowered.trunk(Stream(), image), trunk_without_margins(lowered, Stream(), image)
    for name, tap in expected.items():
        assert windowed[name].dtype == torch.float32
        assert 0 < error(windowed[name], tap) < 1.5 * error(whole[name], tap)


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


class Exported:
    """A graph with probabilities, plain in torch, and windowed as a file."""

    def __init__(self, folder: Path, streams: str, stride: int) -> None:
        self.recipe: Recipe = find_recipe(make_tiny(folder, streams=streams, stride=stride, geometry="caffe").recipe)
        network = with_biases(FCN(network_spec(self.recipe)))
        self.plain = LabelGraph(network, self.recipe, "float32").eval()
        self.windowed = LabelGraph(cast(FCN, Windowed(network)), self.recipe, "float32").eval()
        self.file = folder / "windowed.onnx"
        export_onnx(self.windowed, self.file)

    def check(self, run: Callable[[dict[str, Any]], Any]) -> None:
        """`run` gives the graph's outputs for images by modality."""
        random = np.random.default_rng(0)
        for height, width in (*SIZES, (13, 18), (61, 47)):
            batch = 2 if height == 33 else 1
            images = {m: random.integers(0, 256, (batch, height, width, 3), np.uint8) for m in self.recipe.modalities}
            with torch.inference_mode():
                _, expected = self.plain(*map(torch.from_numpy, images.values()))
            labels, probabilities = run(images)
            assert labels.shape == (batch, height, width)
            assert error(torch.tensor(probabilities), expected) < 1e-4


@pytest.fixture(scope="module", params=[("color", 8), ("hha", 16)], ids=["8s", "late-16s"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"), *request.param)


@pytest.mark.xdist_group("exported")
def test_one_file_runs_at_every_size_in_onnx_runtime(exported: Exported) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported.file, options, providers=["CPUExecutionProvider"])
    exported.check(lambda images: session.run(None, images))


@pytest.mark.xdist_group("exported")
def test_one_file_runs_at_every_size_in_openvino(exported: Exported) -> None:
    openvino = pytest.importorskip("openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(exported.file, "CPU", settings)
    exported.check(lambda images: compiled(images).values())


@pytest.mark.xdist_group("exported")
def test_tensorrt_builds_it_for_a_range_of_sizes(exported: Exported) -> None:
    pytest.importorskip("tensorrt_rtx")
    from fcnseg.engine.tensorrt import build_plan

    assert build_plan(exported.file, "tensorrt-rtx", [Shapes((1, 1), (60, 80), (300, 300), 2)]).nbytes > 0


@pytest.mark.xdist_group("exported")
def test_the_file_holds_every_weight_once(exported: Exported) -> None:
    held = sum(np.prod(i.dims) for i in onnx.load(exported.file).graph.initializer if i.data_type == 1)
    windowed = exported.windowed
    assert held <= sum(t.numel() for t in (*windowed.parameters(), *windowed.buffers())) + 10
