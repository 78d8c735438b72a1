"""TensorRT engines on a real GPU, against the network in float32."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fcnseg.engine.graph import GraphForm, write_graph
from fcnseg.engine.hardware import cuda_capability
from fcnseg.engine.precision import is_homogeneous, measure_ranges, quantize, with_headroom
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.engine.runtimes.tensorrt.engine import TensorRTEngine
from fcnseg.engine.runtimes.tensorrt.library import serves
from fcnseg.engine.runtimes.tensorrt.packages import MODULES
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.errors import ImageError
from fcnseg.io.hashing import file_sha256
from fcnseg.models import network_spec
from fcnseg.recipes import Recipe, Shapes, find_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.types import EngineInfo, Frame
from fcnseg.weights.loading import load_weights
from tests.conftest import TinyModel, make_tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SMALL = Shapes((1, 1), (60, 80), (96, 128), 4)
LARGE = Shapes((64, 64), (240, 320), (480, 640), 2)
FLOORS = {"fp32": 0.9999, "fp16": 0.99, "bf16": 0.97, "int8": 0.85}
"""Tiny random networks tell classes apart by less than trained ones do: real models have higher floors."""


@pytest.fixture(params=sorted(MODULES))
def library(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(MODULES[request.param][0]) is None:
        pytest.skip(f"needs {request.param}")
    if not serves(request.param, cuda_capability()):
        pytest.skip(f"{request.param} does not serve this GPU")
    return str(request.param)


def photographs(recipe: Recipe, rows: int, height: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Smooth random images of every modality."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (rows, 3, 4, 5)).astype("f4"))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
    color = smooth.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    depth = 500 + color[..., :1].astype(np.float32) * 20
    return {m: depth if m == "depth" else color for m in recipe.modalities}


def build(model: TinyModel, folder: Path, library: str, precision: str, shapes: list[Shapes]) -> TensorRTEngine:
    """An engine with float32 probabilities, not entered yet."""
    recipe = find_recipe(model.recipe)
    loaded, spec = load_weights(recipe, model.weights), network_spec(recipe)
    weights = with_headroom(loaded.tensors, spec) if precision == "fp16" and is_homogeneous(spec) else loaded.tensors
    file, stated = folder / f"{precision}.onnx", "fp32" if precision == "int8" else precision
    write_graph(
        file,
        recipe,
        weights,
        probabilities="float32",
        form=GraphForm(skip_margins=precision != "int8"),
        precision=stated,
    )
    if precision == "int8":
        graph = onnx.load(file)
        images = [photographs(recipe, 2, 60, 80, seed) for seed in range(4)]
        onnx.save(quantize(graph, measure_ranges(graph, images)), file)
    (folder / "plan").write_bytes(build_plan(file, library, shapes).content)
    heads = {head.name: head.labels for head in recipe.heads}
    info = EngineInfo(library, "this GPU", precision, recipe.name, loaded.sha256, heads, recipe.modalities, {})
    return TensorRTEngine(recipe, folder / "plan", info, sha256=file_sha256(folder / "plan"), probabilities=True)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_labels_agree_with_the_network(tmp_path: Path, library: str, precision: str) -> None:
    model = make_tiny(tmp_path)
    recipe = find_recipe(model.recipe)
    with (
        build(model, tmp_path, library, precision, [SMALL, LARGE]) as engine,
        TorchEngine(recipe, model.weights, "cpu") as network,
    ):
        for rows, height, width in [(1, 1, 1), (1, 37, 51), (4, 60, 80), (3, 96, 128), (5, 61, 79), (3, 480, 640)]:
            inputs = photographs(recipe, rows, height, width)
            found, probabilities = engine.infer(inputs, probabilities=True)
            expected, _ = network.infer(inputs)
            assert probabilities is not None
            assert np.isfinite(probabilities["labels"]).all()
            assert np.allclose(probabilities["labels"].sum(1), 1, atol=1e-3)
            if height > 1:
                assert (found["labels"] == expected["labels"]).mean() >= FLOORS[precision]


@pytest.mark.parametrize(
    "options",
    [
        {"streams": "depth", "stride": 32, "geometry": "caffe"},
        {"streams": "hha", "stride": 32, "geometry": "caffe"},
        {"heads": 2, "stride": 16},
        {"backbone": "alexnet", "stride": 32},
        {"backbone": "googlenet", "stride": 32},
    ],
    ids=["early fusion", "late fusion", "two heads", "alexnet", "googlenet"],
)
def test_every_kind_of_network(tmp_path: Path, library: str, options: dict[str, object]) -> None:
    model = make_tiny(tmp_path, **options)  # type: ignore[arg-type]
    recipe = find_recipe(model.recipe)
    inputs = photographs(recipe, 3, 60, 80)
    with (
        build(model, tmp_path, library, "fp32", [SMALL]) as engine,
        TorchEngine(recipe, model.weights, "cpu") as network,
    ):
        found, expected = engine.infer(inputs)[0], network.infer(inputs)[0]
    assert set(found) == set(expected)
    assert all((found[head] == expected[head]).mean() >= FLOORS["fp32"] for head in found)


def test_batches_in_flight_and_company_change_nothing(tmp_path: Path, library: str) -> None:
    model = make_tiny(tmp_path)
    recipe = find_recipe(model.recipe)
    batches = [photographs(recipe, 1 + i % 4, 50 + i, 70, seed=i) for i in range(9)]
    with build(model, tmp_path, library, "fp32", [SMALL]) as engine:
        together = [labels["labels"] for labels, _ in engine.infer_many(batches)]
        for batch, labels in zip(batches, together, strict=True):
            alone = [engine.infer({"color": batch["color"][i : i + 1]})[0]["labels"] for i in range(len(labels))]
            assert np.array_equal(labels, np.concatenate(alone))


def test_sizes_outside_the_plan(tmp_path: Path, library: str) -> None:
    model = make_tiny(tmp_path)
    recipe = find_recipe(model.recipe)
    with build(model, tmp_path, library, "fp32", [SMALL]) as engine:
        with pytest.raises(ImageError, match="1 x 1 to 128 x 96"):
            engine.infer(photographs(recipe, 1, 97, 128))
        assert engine.infer(photographs(recipe, 1, 96, 128))[0]["labels"].shape == (1, 96, 128)


@pytest.mark.parametrize("geometry", ["same", "caffe"])
def test_images_beyond_the_plans_range_are_cut_into_tiles(tmp_path: Path, library: str, geometry: str) -> None:
    """The labels are those of torch on the whole image as far as they are for images within the range."""
    model = make_tiny(tmp_path, geometry=geometry)
    recipe = find_recipe(model.recipe)
    frame = Frame("a", "a", {m: a[0] for m, a in photographs(recipe, 1, 901, 1203).items()})
    range_ = Shapes((64, 64), (480, 640), (640, 704), 2)
    with build(model, tmp_path, library, "fp32", [range_]) as engine, TorchEngine(recipe, model.weights) as network:
        assert (engine.info.largest, engine.info.max_batch) == ((640, 704), 2)
        predictor = Predictor(engine, recipe)
        found = predictor.one(frame).labels["labels"]
        expected = network.infer({m: a[None] for m, a in frame.inputs.items()})[0]["labels"][0]
    assert predictor.events["images cut into tiles"] == 1
    assert (found == expected).mean() >= FLOORS["fp32"]


def test_memory_that_does_not_suffice_is_told_and_tiles_do(tmp_path: Path) -> None:
    model = make_tiny(tmp_path)
    recipe = find_recipe(model.recipe)
    frame = Frame("a", "a", {m: a[0] for m, a in photographs(recipe, 1, 2001, 1999).items()})
    with TorchEngine(recipe, model.weights, "cuda") as engine:
        expected = Predictor(engine, recipe, tile="off").one(frame).labels["labels"]
        torch.cuda.empty_cache()
        share = (torch.cuda.memory_allocated() + 150e6) / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            predictor = Predictor(engine, recipe)
            found = predictor.one(frame).labels["labels"]
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert predictor.events["images cut into tiles"] == 1
    assert (found == expected).mean() >= FLOORS["fp32"]
