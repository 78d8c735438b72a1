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
from fcnseg.errors import EngineError, ImageError
from fcnseg.io.hashing import file_sha256
from fcnseg.recipes import load_recipe
from fcnseg.types import Engine, EngineInfo, Pixels
from fcnseg.weights.loading import load_weights
from tests.conftest import TinyModel, make_tiny
from tests.engine.runtimes.fake_tensorrt import SMALL, WITH_PROBABILITIES, FakePlan, FakeStream
from tests.fakes import RedEngine

HEIGHT, WIDTH = 30, 40


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


def images(rows: int = 1, seed: int = 0) -> dict[str, Pixels]:
    rng = np.random.default_rng(seed)
    return {"color": rng.integers(0, 256, (rows, HEIGHT, WIDTH, 3), dtype=np.uint8)}


def test_nothing_is_acquired_before_entry(make: Callable[[], Engine]) -> None:
    engine = make()
    with pytest.raises(EngineError, match="with"):
        engine.infer(images())
    engine.close()


def test_making_one_reads_no_file(model: TinyModel, tmp_path: Path) -> None:
    recipe = load_recipe(model.recipe)
    info = EngineInfo("", "", "fp32", recipe.name, "", {}, recipe.modalities, {})
    TorchEngine(recipe, tmp_path / "absent", "cpu")
    BatchedTorchEngine(recipe, tmp_path / "absent", "cpu")
    OpenVINOEngine(recipe, tmp_path / "absent", info, sha256="")
    TensorRTEngine(recipe, tmp_path / "absent", info, sha256="")


def test_labels_and_probabilities_have_the_size_of_the_image(make: Callable[[], Engine]) -> None:
    with make() as engine:
        labels, without = engine.infer(images(2))
        again, probabilities = engine.infer(images(2), probabilities=True)
        assert without is None
        assert probabilities is not None
        assert labels["labels"].shape == (2, HEIGHT, WIDTH)
        assert labels["labels"].dtype == np.uint8
        assert np.array_equal(labels["labels"], again["labels"])
        assert probabilities["labels"].shape == (2, 5, HEIGHT, WIDTH)
        assert np.array_equal(probabilities["labels"].argmax(1), labels["labels"])
        assert engine.info.modalities == ("color",)


def test_labels_do_not_depend_on_batch_composition(make: Callable[[], Engine]) -> None:
    with make() as engine:
        batch = images(4)["color"]
        together, values = engine.infer({"color": batch}, probabilities=True)
        assert values is not None
        for row in range(4):
            for neighbour in (row, 3 - row):
                pair = {"color": batch[[row, neighbour]]}
                labels, probabilities = engine.infer(pair, probabilities=True)
                assert probabilities is not None
                assert np.array_equal(labels["labels"][0], together["labels"][row])
                assert np.array_equal(probabilities["labels"][0], values["labels"][row])


def test_results_stay_as_they_were_given(make: Callable[[], Engine]) -> None:
    with make() as engine:
        first = engine.infer(images(seed=1))[0]["labels"]
        before = first.copy()
        engine.infer(images(seed=2))
        assert np.array_equal(first, before)


def test_images_that_are_a_view_are_read_as_they_are(make: Callable[[], Engine]) -> None:
    with make() as engine:
        pixels = images(2)["color"]
        flipped = pixels[:, ::-1, ::-1]
        expected = engine.infer({"color": flipped.copy()})[0]["labels"]
        assert np.array_equal(engine.infer({"color": flipped})[0]["labels"], expected)


@pytest.mark.parametrize(
    "inputs",
    [
        {"color": np.zeros((1, HEIGHT, WIDTH, 3), np.float32)},
        {"color": np.zeros((1, HEIGHT, WIDTH, 4), np.uint8)},
        {"color": np.zeros((HEIGHT, WIDTH, 3), np.uint8)},
        {"hha": np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)},
        {},
    ],
    ids=["dtype", "channels", "axes", "modality", "nothing"],
)
def test_inputs_that_the_model_does_not_take_are_image_errors(
    make: Callable[[], Engine], inputs: dict[str, Pixels]
) -> None:
    with make() as engine:
        with pytest.raises(ImageError) as caught:
            engine.infer(inputs)
        assert caught.value.stage == "predict"
        assert engine.infer(images())[0]["labels"].shape == (1, HEIGHT, WIDTH)


def test_a_closed_engine_is_an_error_and_can_be_entered_again(make: Callable[[], Engine]) -> None:
    engine = make()
    with engine:
        expected = engine.infer(images())[0]["labels"]
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(images())
    with engine:
        assert np.array_equal(engine.infer(images())[0]["labels"], expected)


def test_the_fake_is_an_engine() -> None:
    with RedEngine() as engine:
        labels, probabilities = engine.infer(images(2), probabilities=True)
        assert probabilities is not None
        assert np.array_equal(probabilities["labels"].argmax(1), labels["labels"])
        with pytest.raises(ImageError):
            RedEngine(widest_px=WIDTH - 1).infer(images())
