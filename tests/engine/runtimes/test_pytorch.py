from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnseg.engine.runtimes.common import check_memory, working_bytes
from fcnseg.engine.runtimes.pytorch import TorchEngine, find_device
from fcnseg.errors import EngineError, ImageError, SettingsError
from fcnseg.models.label_network import labels_of, prepare
from fcnseg.recipes import Input, find_recipe
from tests.conftest import TinyModel, make_tiny

RNG = np.random.default_rng(0)


def image(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (1, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def engine(tiny: TinyModel):  # type: ignore[no-untyped-def]
    with TorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu") as opened:
        yield opened


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90))
def test_labels_have_the_images_own_size(engine: TorchEngine, height: int, width: int) -> None:
    labels, probabilities = engine.infer({"color": image(height, width)}, probabilities=True)
    assert labels["labels"].shape == (1, height, width)
    assert labels["labels"].dtype == np.uint8
    assert probabilities is not None
    found = probabilities["labels"]
    assert found.shape == (1, 5, height, width)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    # Where the softmax tells two classes apart at all, the arg-max of both is one.
    assert (np.take_along_axis(found, labels["labels"][:, None].astype(int), 1)[:, 0] == found.max(1)).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(2, 5), st.data())
def test_labels_do_not_depend_on_the_batchs_company(
    engine: TorchEngine, height: int, width: int, count: int, data: st.DataObject
) -> None:
    images = np.concatenate([image(height, width) for _ in range(count)])
    together, values = engine.infer({"color": images}, probabilities=True)
    i = data.draw(st.integers(0, count - 1))
    alone, own = engine.infer({"color": images[i : i + 1]}, probabilities=True)
    assert np.array_equal(together["labels"][i], alone["labels"][0])
    assert values is not None
    assert own is not None
    assert np.array_equal(values["labels"][i], own["labels"][0])


def test_random_weights_give_varied_labels(engine: TorchEngine) -> None:
    labels, _ = engine.infer({"color": image(60, 80)})
    assert len(np.unique(labels["labels"])) > 1


def test_the_graph_prepares_as_the_definition_says() -> None:
    rgb = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    mean = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    assert prepare(Input("color", "bgr", (1, 2, 3)), rgb, mean).flatten().tolist() == [29, 18, 7]
    assert prepare(Input("color", "rgb", (1, 2, 3)), rgb, mean).flatten().tolist() == [9, 18, 27]
    assert prepare(Input("hha", "as-stored", (1, 2, 3)), rgb, mean).flatten().tolist() == [9, 18, 27]
    depth = torch.tensor([0.0, -5.0, float("nan"), float("inf"), np.e**9])[None, None, :, None]
    found = prepare(Input("depth", "log", (8,)), depth, torch.tensor([8.0])[:, None, None]).flatten()
    assert found[:4].tolist() == [0, 0, 0, 0]
    assert found[4].item() == pytest.approx(1.0, abs=1e-5)


def test_more_than_256_classes_do_not_wrap() -> None:
    scores = torch.zeros(1, 300, 1, 1)
    scores[0, 299] = 1
    assert labels_of(scores).item() == 299


@pytest.mark.parametrize("streams", ["depth", "hha"])
def test_models_of_two_modalities_use_both(tmp_path: Path, streams: str) -> None:
    model = make_tiny(tmp_path, streams=streams, stride=32, geometry="caffe")
    color = image(40, 50)
    other = RNG.uniform(500, 9000, (2, 1, 40, 50, 1)).astype(np.float32)
    if streams == "hha":
        other = np.stack([image(40, 50), image(40, 50)])
    with TorchEngine(find_recipe(model.recipe), model.weights, "cpu") as opened:
        first, second = (
            opened.infer({"color": color, streams: o}, probabilities=True)[1]["labels"]  # type: ignore[index]
            for o in other
        )
        with pytest.raises(ImageError, match=f"takes color, {streams}"):
            opened.infer({"color": color})
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("backbone", "stride"), [("vgg16", 8), ("alexnet", 32), ("googlenet", 32)])
def test_bfloat16_runs_and_nearly_agrees(tmp_path: Path, backbone: str, stride: int) -> None:
    model = make_tiny(tmp_path, backbone=backbone, stride=stride)
    recipe, pixels = find_recipe(model.recipe), {"color": image(64, 64)}
    with (
        TorchEngine(recipe, model.weights, "cpu", "fp32") as exact,
        TorchEngine(recipe, model.weights, "cpu", "bf16") as rough,
    ):
        assert (exact.info.precision, rough.info.precision) == ("fp32", "bf16")
        a, b = (e.infer(pixels, probabilities=True)[1]["labels"] for e in (exact, rough))  # type: ignore[index]
    assert (a.argmax(1) == b.argmax(1)).mean() > 0.9
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    "pixels", [image(4, 4).astype(np.float32), image(4, 4)[0], image(4, 4)[..., :1]], ids=["float", "3-d", "1-channel"]
)
def test_wrong_arrays_are_refused(engine: TorchEngine, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="N x H x W x 3"):
        engine.infer({"color": pixels})


def test_an_image_too_large_for_memory_is_refused_before_it_is_tried(engine: TorchEngine) -> None:
    with pytest.raises(ImageError, match="GiB are free"):
        check_memory(engine.recipe, 300_000, 300_000, 4)
    wide = np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (1, 300_000, 300_000, 3))
    with pytest.raises(ImageError, match="GiB are free"):
        engine.infer({"color": wide})
    assert working_bytes(engine.recipe, 100, 100, 4) < working_bytes(engine.recipe, 200, 100, 4)
    assert working_bytes(engine.recipe, 100, 100, 2) < working_bytes(engine.recipe, 100, 100, 4)


def test_choices_that_do_not_exist(tiny: TinyModel) -> None:
    with pytest.raises(SettingsError, match="use fp32, bf16"):
        TorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu", "fp8")
    with pytest.raises(SettingsError, match="auto, cpu, cuda"):
        find_device("gpu")
    with pytest.raises(SettingsError, match="not supported"):
        find_device("meta")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="use --device cpu"):
            find_device("cuda:0")


def test_a_device_that_fails_is_one_line(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image\nfor this device")

    monkeypatch.setattr("fcnseg.models.fcn.FCN.to", fail)
    with pytest.raises(EngineError, match=r"^torch cannot put tiny.* on cpu: CUDA error: no kernel image; free"):
        TorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu").__enter__()


def test_nothing_is_acquired_before_entry_and_nothing_kept_after(tiny: TinyModel) -> None:
    engine = TorchEngine(find_recipe(tiny.recipe), Path("nowhere.safetensors"), "cpu")
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"color": image(3, 3)})
    with TorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu") as opened:
        pass
    with pytest.raises(EngineError, match="closed"):
        opened.infer({"color": image(3, 3)})
