"""torchvision's FCN-ResNets: the same scores and labels as torchvision gives, whatever runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fcnseg.engine.graph import write_graph
from fcnseg.engine.onnx_session import session_of
from fcnseg.errors import ImageError, RecipeError, WeightsMismatchError
from fcnseg.models import network_spec
from fcnseg.models.arithmetic import network_gflop
from fcnseg.models.halo import halo_of
from fcnseg.models.label_network import LabelNetwork
from fcnseg.models.layers import weight_shapes
from fcnseg.recipes import Recipe, find_recipe, load_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.running.tile_grid import cut_image
from fcnseg.training.initial_weights import find_initial_weights
from fcnseg.types import EngineInfo, Frame
from fcnseg.weights.importing import import_weights
from fcnseg.weights.loading import load_weights
from tests.cli.test_train import labelled

segmentation = pytest.importorskip("torchvision.models.segmentation")

SIZES = [(1, 1), (33, 47), (64, 80), (75, 50)]


def random_network(name: str, **options: Any) -> nn.Module:
    """torchvision's network with random weights that behave: normalisation has statistics of its own."""
    torch.manual_seed(0)
    network: nn.Module = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=21, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr,operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr,operator]
            nn.init.uniform_(module.weight, 0.3, 0.7)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    network = random_network("fcn_resnet50", aux_loss=True)
    path = tmp_path_factory.mktemp("weights") / "fcn_resnet50_coco.pth"
    torch.save(network.state_dict(), path)
    return network, path


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return find_recipe("coco-fcn-resnet50")


def photograph(size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)


def expected_scores(network: nn.Module, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Normalised as torchvision's reference does."""
    x = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        scores: np.ndarray[Any, Any] = network((x - mean) / deviation)["out"].numpy()
    return scores


def check(scores: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert scores.shape == expected.shape
    assert np.abs(scores - expected).max() <= 1e-5 * np.ptp(expected)
    assert (scores.argmax(1) == expected.argmax(1)).mean() >= 0.9999


@pytest.mark.parametrize("size", SIZES)
def test_scores_are_torchvisions(theirs: tuple[nn.Module, Path], recipe: Recipe, size: tuple[int, int]) -> None:
    network, path = theirs
    image, expected = photograph(size), expected_scores(network, photograph(size))
    ours = LabelNetwork(load_weights(recipe, path).network(), recipe)
    with torch.inference_mode():
        check(ours.scores(torch.from_numpy(image))[0].numpy(), expected)


@pytest.mark.parametrize("size", [(67, 120), (150, 75), (96, 97)])
def test_resized_images_have_torchvisions_labels(theirs: tuple[nn.Module, Path], size: tuple[int, int]) -> None:
    """Of an image resized by torchvision's own transforms; its scores are interpolated to the image's own size."""
    import fcnseg

    network, path = theirs
    image = Image.fromarray(photograph(size)[0]).resize((size[1] * 2, size[0] * 2))
    transforms = segmentation.FCN_ResNet50_Weights.DEFAULT.transforms(resize_size=96)
    with torch.inference_mode():
        scores = network(transforms(image)[None])["out"]
        own = nn.functional.interpolate(scores, image.size[::-1], mode="bilinear", align_corners=False)
    with fcnseg.load("coco-fcn-resnet50", path, backend="torch", device="cpu", resize_short=96) as segmenter:
        found = segmenter(image, probabilities=True)
        (alone,) = segmenter([image])
    assert (found.labels["labels"] == own.argmax(1)[0].numpy()).mean() >= 0.9999
    assert found.probabilities is not None
    assert np.abs(found.probabilities["labels"] - own.softmax(1)[0].numpy()).max() < 1e-4
    assert np.array_equal(alone.labels["labels"], found.labels["labels"])
    assert alone.probabilities is None


def test_the_graph_gives_them_too(theirs: tuple[nn.Module, Path], recipe: Recipe, tmp_path: Path) -> None:
    network, path = theirs
    loaded = load_weights(recipe, path)
    write_graph(tmp_path / "g.onnx", recipe, loaded.tensors, probabilities="float32")
    import openvino

    session = session_of(tmp_path / "g.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "g.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in SIZES:
        expected = torch.from_numpy(expected_scores(network, photograph(size)))
        probabilities = expected.softmax(1).numpy()
        for results in (session.run(None, {"color": photograph(size)}), list(compiled(photograph(size)).values())):
            labels, found = (np.asarray(result) for result in results)
            assert np.abs(found - probabilities).max() < 1e-4
            assert (labels == expected.argmax(1).numpy()).mean() >= 0.9999


def test_the_auxiliary_head_and_wrappers_are_left_out(
    theirs: tuple[nn.Module, Path], recipe: Recipe, tmp_path: Path
) -> None:
    state = {k: v for k, v in theirs[0].state_dict().items() if not k.startswith("aux")}
    whole = load_weights(recipe, theirs[1]).tensors
    forms: dict[str, Mapping[str, Any]] = {
        "without": state,
        "wrapped": {"model": {f"module.{k}": v for k, v in theirs[0].state_dict().items()}, "epoch": 3},
    }
    for name, content in forms.items():
        torch.save(content, tmp_path / f"{name}.pth")
        report = import_weights(tmp_path / f"{name}.pth", recipe, tmp_path / f"{name}.safetensors")
        assert report.convention == "torchvision"
        again = load_weights(recipe, tmp_path / f"{name}.safetensors")
        assert not again.training_start
        assert all(np.array_equal(again.tensors[key], whole[key]) for key in whole)


def test_other_networks_are_told_apart(theirs: tuple[nn.Module, Path], recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatchError, match="it fits coco-fcn-resnet50: use --model coco-fcn-resnet50"):
        load_weights(find_recipe("coco-fcn-resnet101"), theirs[1])
    broken = dict(theirs[0].state_dict())
    del broken["backbone.layer1.0.bn2.running_var"]
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(WeightsMismatchError, match=r"layer1_0_conv2\.bias"):
        load_weights(recipe, tmp_path / "broken.pth")


def test_the_larger_one_has_the_layers_of_torchvisions() -> None:
    with torch.device("meta"):
        network = segmentation.fcn_resnet101(weights=None, weights_backbone=None, num_classes=21)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    shapes = weight_shapes(network_spec(find_recipe("coco-fcn-resnet101")))
    assert sorted(tuple(c.weight.shape) for c in convolutions) == sorted(s for s in shapes.values() if len(s) == 4)


def test_arithmetic_is_that_of_the_convolutions(recipe: Recipe) -> None:
    operations = 0

    def count(module: nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        nonlocal operations
        operations += 2 * module.weight.numel() * output.shape[2] * output.shape[3]

    with torch.device("meta"):
        network = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=21).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)  # type: ignore[arg-type]
    network(torch.empty(1, 3, 75, 101, device="meta"))
    assert network_gflop(network_spec(recipe), 75, 101) == pytest.approx(operations / 1e9)


def test_tiles_give_its_scores_where_its_scale_is_whole(recipe: Recipe) -> None:
    """On a narrow network with its own halo: inside the halo nothing changes; other sizes are not cut."""
    spec = replace(network_spec(recipe), width=0.05)
    halo = halo_of(spec)
    assert (halo.step_px, halo.side_px) == (8, 8)
    network = load_narrow(spec)
    width = halo.before_px + halo.after_px + 160
    width += -width % 8
    image = torch.randn(1, 3, 16, width, generator=torch.Generator().manual_seed(0))
    tiles = cut_image((16, width), halo, most_px=16 * (width - 64))
    assert len(tiles) > 1
    with torch.inference_mode():
        (whole,) = network(image)
        for _, columns in tiles:
            (part,) = network(image[..., columns.pixels])
            torch.testing.assert_close(part[..., columns.kept], whole[..., columns.labels], rtol=1e-4, atol=1e-4)
    assert len(cut_image((16, width + 1), halo, most_px=16 * (width - 64))) == 0


def load_narrow(spec: Any) -> nn.Module:
    from fcnseg.models.fcn import FCN

    torch.manual_seed(2)
    network = FCN(spec)
    nn.init.normal_(network._modules["score_fr"].weight)  # type: ignore[union-attr,arg-type]
    return network.eval()


def test_a_recipe_of_another_stride_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    for change in ("stride = 16", 'geometry = "caffe"'):
        text = recipe.path.read_text().replace("stride = 8" if "stride" in change else 'geometry = "same"', change)
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(RecipeError, match='resnet50 is of stride 8 and geometry "same"'):
            load_recipe(tmp_path / "r.toml")


class Unneeded:
    """An engine that takes images up to 1600 x 1600, which nothing reaches."""

    info = EngineInfo("fake", "cpu", "fp32", "m", "0" * 64, {}, ("color",), {}, largest=(1600, 1600))


@pytest.mark.parametrize("size", [(1601, 1608), (1608, 1999), (1611, 1613)])
@pytest.mark.parametrize("tile", ["auto", 1024])
def test_an_image_whose_scale_no_tile_has_is_refused_with_the_reason(
    recipe: Recipe, size: tuple[int, int], tile: str | int
) -> None:
    frame = Frame("a", "a", {"color": np.zeros((*size, 3), np.uint8)})
    predictor = Predictor(Unneeded(), recipe, tile=tile)  # type: ignore[arg-type]
    ((_, error),) = predictor.stream([[frame]])
    assert isinstance(error, ImageError)
    assert "only where both sides are multiples of 8" in str(error)
    assert "--resize-short" in str(error)
    assert (f"do not fit --tile {tile}" in str(error)) == (tile != "auto")


def in_torchvisions_form(spec: Any) -> dict[str, torch.Tensor]:
    """Random tensors of a network of that width, named and normalised as torchvision saves them."""
    torch.manual_seed(4)
    state: dict[str, torch.Tensor] = {}
    for name, shape in weight_shapes(spec).items():
        layer, _, kind = name.rpartition(".")
        if layer == "score_fr":
            state[f"classifier.4.{kind}"] = torch.randn(shape) * 0.1
        elif kind == "weight":
            stage, _, part = layer.rpartition("_")
            theirs = {"conv1": "backbone.conv1", "classifier_0": "classifier.0"}.get(layer)
            norm = {"conv1": "backbone.bn1", "classifier_0": "classifier.1"}.get(layer)
            block = f"backbone.{stage.replace('_', '.')}"
            last = "downsample.0" if part == "downsample" else part
            theirs = theirs or f"{block}.{last}"
            norm = norm or f"{block}.{'downsample.1' if part == 'downsample' else part.replace('conv', 'bn')}"
            state[f"{theirs}.weight"] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
            for number, statistic in enumerate(("weight", "bias", "running_mean", "running_var")):
                state[f"{norm}.{statistic}"] = torch.rand(shape[0]) * 0.3 + (0.6 if number in (0, 3) else 0)
            state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    return state


def test_training_begins_with_them_and_its_model_runs(recipe: Recipe, tmp_path: Path) -> None:
    import fcnseg

    (tmp_path / "narrow.toml").write_text(recipe.path.read_text().replace("stride = 8", "stride = 8\nwidth = 0.05"))
    narrow = load_recipe(tmp_path / "narrow.toml")
    torch.save(in_torchvisions_form(network_spec(narrow)), tmp_path / "narrow.pth")
    given = load_weights(narrow, tmp_path / "narrow.pth").tensors
    labelled(tmp_path / "data/train", 4, classes=21)
    labelled(tmp_path / "data/val", 1, classes=21, first=9)
    result = fcnseg.train(
        tmp_path / "data",
        tmp_path / "run",
        model=tmp_path / "narrow.toml",
        weights=[tmp_path / "narrow.pth"],
        steps=(2,),
        batch_size=2,
        crop=(33, 40),
        device="cpu",
    )
    assert result
    trained = find_recipe(tmp_path / "run/model.toml")
    after = load_weights(trained, None).tensors
    assert after.keys() == given.keys()
    moved = [float(np.abs(after[name] - given[name]).max()) for name in given]
    assert max(moved) > 0
    assert max(moved) < 0.05  # two steps away from what was given, its score layer included
    broken = in_torchvisions_form(network_spec(narrow))
    del broken["backbone.layer2.1.bn2.running_var"]
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(WeightsMismatchError, match=r"layer2_1_conv2\.bias"):
        find_initial_weights(narrow, [tmp_path / "broken.pth"])
    with fcnseg.load(str(tmp_path / "run/model.toml"), backend="torch", device="cpu") as segmenter:
        labels = segmenter(tmp_path / "data/val/images/9.jpg").labels["labels"]
    assert labels.shape == (48, 64)
