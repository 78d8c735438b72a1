"""The contract of `Engine`, held by every runtime; TensorRT's with a fake library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.engine.graph import write_graph
from fcnseg.engine.runtimes.batched import BatchedTorchEngine
from fcnseg.engine.runtimes.common import output_names
from fcnseg.engine.runtimes.openvino import OpenVINOEngine, compile_graph
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.engine.runtimes.tensorrt import engine as tensorrt_runtime
from fcnseg.engine.runtimes.tensorrt.engine import TensorRTEngine
from fcnseg.errors import ImageError
from fcnseg.io.hashing import file_sha256
from fcnseg.recipes import load_recipe
from fcnseg.testing import check_engine
from fcnseg.types import Engine, EngineInfo
from fcnseg.weights.loading import load_weights
from tests.conftest import TinyModel, make_tiny
from tests.engine.runtimes.fake_tensorrt import SMALL, WITH_PROBABILITIES, FakePlan, FakeStream
from tests.fakes import RedEngine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_tiny(tmp_path_factory.mktemp("model"), stride=32)


@pytest.fixture(scope="module")
def openvino_file(model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    recipe = load_recipe(model.recipe)
    write_graph(folder / "model.onnx", recipe, load_weights(recipe, model.weights).tensors, probabilities="float32")
    compile_graph(folder / "model.onnx", {folder / "engine": output_names(recipe, True)}, "fp32")
    return folder / "engine"


@pytest.fixture(params=["torch", "torch in batches", "openvino", "tensorrt"])
def make(
    request: pytest.FixtureRequest, model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Engine]:
    """Makes engines that give probabilities, not entered yet."""
    recipe = load_recipe(model.recipe)
    heads = {head.name: head.labels for head in recipe.heads}
    info = EngineInfo(request.param, "", "fp32", recipe.name, "", heads, recipe.modalities, {})
    if request.param == "torch":
        return lambda: TorchEngine(recipe, model.weights, "cpu")
    if request.param == "torch in batches":
        return lambda: BatchedTorchEngine(recipe, model.weights, "cpu", batch=4)
    if request.param == "openvino":
        file = request.getfixturevalue("openvino_file")
        return lambda: OpenVINOEngine(recipe, file, info, sha256=file_sha256(file), probabilities=True)
    plan = FakePlan([SMALL], WITH_PROBABILITIES)
    monkeypatch.setattr(tensorrt_runtime, "load_library", lambda name: plan.library())
    monkeypatch.setattr(tensorrt_runtime, "find_device", torch.device)
    monkeypatch.setattr(tensorrt_runtime, "CudaStreams", FakeStream)
    (tmp_path / "plan").write_bytes(b"plan")
    return lambda: TensorRTEngine(
        recipe, tmp_path / "plan", info, sha256=file_sha256(tmp_path / "plan"), probabilities=True
    )


def test_it_keeps_to_the_contract(make: Callable[[], Engine]) -> None:
    check_engine(make)


def test_it_takes_the_modalities_of_its_model(make: Callable[[], Engine]) -> None:
    with make() as engine:
        assert engine.info.modalities == ("color",)


def test_making_one_reads_no_file(model: TinyModel, tmp_path: Path) -> None:
    recipe = load_recipe(model.recipe)
    info = EngineInfo("", "", "fp32", recipe.name, "", {}, recipe.modalities, {})
    TorchEngine(recipe, tmp_path / "absent", "cpu")
    BatchedTorchEngine(recipe, tmp_path / "absent", "cpu")
    OpenVINOEngine(recipe, tmp_path / "absent", info, sha256="")
    TensorRTEngine(recipe, tmp_path / "absent", info, sha256="")


def test_the_fake_is_an_engine() -> None:
    with RedEngine() as engine:
        images = {"color": np.zeros((2, 30, 40, 3), np.uint8)}
        labels, probabilities = engine.infer(images, probabilities=True)
        assert probabilities is not None
        assert np.array_equal(probabilities["labels"].argmax(1), labels["labels"])
        with pytest.raises(ImageError):
            RedEngine(widest_px=39).infer(images)
