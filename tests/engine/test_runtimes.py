"""One graph, three runtimes: ONNX Runtime and OpenVINO hold against torch for every family of networks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fcnseg.engine.graph import GraphForm, write_graph
from fcnseg.engine.onnx_session import session_of
from fcnseg.engine.runtimes.common import coarse_names, output_names
from fcnseg.engine.runtimes.openvino import OpenVINOEngine, compile_graph
from fcnseg.errors import OutputError
from fcnseg.io.hashing import file_sha256
from fcnseg.models import network_spec
from fcnseg.models.label_network import LabelNetwork, labels_of
from fcnseg.models.layers import weight_shapes
from fcnseg.recipes import MODALITIES, Recipe, find_recipe, load_recipe, recipe_names
from fcnseg.types import EngineInfo
from fcnseg.weights.loading import LoadedWeights, load_weights
from tests.conftest import make_tiny

FAMILIES = {
    "vgg-8s": {"geometry": "same"},
    "vgg-8s-caffe": {"geometry": "caffe"},
    "vgg-16s-caffe": {"geometry": "caffe", "stride": 16},
    "vgg-32s-early-fusion": {"streams": "depth", "geometry": "caffe", "stride": 32},
    "vgg-32s-late-fusion": {"streams": "hha", "stride": 32},
    "vgg-8s-two-heads": {"heads": 2},
    "vgg-8s-many-classes": {"classes": 300, "stride": 32},
    "alexnet-32s": {"backbone": "alexnet", "geometry": "caffe", "stride": 32},
    "googlenet-32s": {"backbone": "googlenet", "geometry": "caffe", "stride": 32},
}

SIZES = [(1, 1, 1), (2, 1, 40), (1, 33, 17), (3, 71, 20), (1, 64, 96), (1, 130, 99)]


@dataclass
class Exported:
    """A network as torch and as a file."""

    recipe: Recipe
    network: LabelNetwork
    file: Path

    def inputs(self, batch: int, height: int, width: int) -> dict[str, Any]:
        rng = np.random.default_rng(height * 1000 + width)
        shape = (batch, height, width)
        return {
            m: rng.random((*shape, 1), dtype=np.float32) * 5000
            if m == "depth"
            else rng.integers(0, 256, (*shape, MODALITIES[m]), dtype=np.uint8)
            for m in self.recipe.modalities
        }

    def expected(self, inputs: dict[str, Any]) -> list[np.ndarray]:
        with torch.inference_mode():
            scores = self.network.scores(*(torch.from_numpy(inputs[m]) for m in self.recipe.modalities))
        return [labels_of(s).numpy() for s in scores] + [s.softmax(1).numpy() for s in scores]


def export(folder: Path, family: str) -> Exported:
    tiny = make_tiny(folder, **FAMILIES[family])
    recipe = load_recipe(tiny.recipe)
    loaded = load_weights(recipe, tiny.weights)
    write_graph(folder / "model.onnx", recipe, loaded.tensors, probabilities="float32")
    write_graph(folder / "coarse.onnx", recipe, loaded.tensors, form=GraphForm(classes_last=True), coarse_scores=True)
    return Exported(recipe, LabelNetwork(loaded.network(), recipe).eval(), folder / "model.onnx")


def assert_agree(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Probabilities within 1e-3 (scores reach hundreds here); the same labels wherever the best two are further
    apart than that."""
    heads = len(found) // 2
    for labels, values, want, sure in zip(
        found[:heads], found[heads:], expected[:heads], expected[heads:], strict=True
    ):
        assert np.abs(values - sure).max() < 1e-3
        best = np.sort(sure, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > 2e-3
        assert clear.mean() > 0.3 or clear.size < 100
        assert (labels == want)[clear].all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_runtime_agrees_with_torch_at_every_size(family: str, tmp_path: Path) -> None:
    exported = export(tmp_path, family)
    assert_file_says_what_it_takes_and_gives(exported)
    session = session_of(str(exported.file))
    with (
        openvino_engine(exported, tmp_path / "engine") as engine,
        openvino_engine(exported, tmp_path / "coarse", probabilities=False) as coarse,
    ):
        for size in SIZES:
            inputs = exported.inputs(*size)
            expected = exported.expected(inputs)
            assert_agree(session.run(None, inputs), expected)
            labels, probabilities = engine.infer(inputs, probabilities=True)
            assert probabilities is not None
            assert_agree([*labels.values(), *probabilities.values()], expected)
            for head, found in coarse.infer(inputs)[0].items():
                assert found.dtype == labels[head].dtype
                assert np.array_equal(found, labels[head])


def openvino_engine(exported: Exported, file: Path, *, probabilities: bool = True) -> OpenVINOEngine:
    recipe = exported.recipe
    if probabilities:
        compile_graph(exported.file, {file: output_names(recipe, True)}, "fp32")
    else:
        compile_graph(exported.file.with_name("coarse.onnx"), {file: coarse_names(recipe)}, "fp32")
    info = EngineInfo("openvino", "", "fp32", recipe.name, "", {h.name: h.labels for h in recipe.heads}, (), {})
    return OpenVINOEngine(recipe, file, info, sha256=file_sha256(file), probabilities=probabilities)


def assert_file_says_what_it_takes_and_gives(exported: Exported) -> None:
    model = onnx.load(exported.file)
    onnx.checker.check_model(model, full_check=True)
    axes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    recipe = exported.recipe
    for modality in recipe.modalities:
        assert axes[modality] == ["N", "H", "W", MODALITIES[modality]]
    names = output_names(recipe, True)
    for head, name in zip(recipe.heads, names[len(recipe.heads) :], strict=True):
        assert axes[head.name] == ["N", "H", "W"]
        assert axes[name] == ["N", head.labels.classes, "H", "W"]
    said = {p.key: p.value for p in model.metadata_props}
    assert said["model"] == recipe.name
    assert recipe.heads[0].labels.names[0] in said["classes"]


def test_half_precision_probabilities_and_separate_weights(tiny_weights: LoadedWeights, tmp_path: Path) -> None:
    recipe, tensors = tiny_weights.recipe, tiny_weights.tensors
    write_graph(tmp_path / "half.onnx", recipe, tensors, probabilities="float16", separate_weights=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["half.onnx", "half.onnx.data"]
    session = session_of(str(tmp_path / "half.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 30, 3), dtype=np.uint8)
    labels, probabilities = session.run(None, {"color": pixels})
    assert (labels.dtype, probabilities.dtype) == (np.uint8, np.float16)
    assert np.allclose(probabilities.astype(float).sum(1), 1, atol=2e-2)


def test_a_full_disk_leaves_nothing(
    tiny_weights: LoadedWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_graph(tmp_path / "model.onnx", tiny_weights.recipe, tiny_weights.tensors)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_has_a_graph(name: str, tmp_path: Path) -> None:
    """Of valid ONNX, with weights of its shapes."""
    recipe = find_recipe(name)
    small = replace(recipe, architecture=replace(recipe.architecture, width=0.07, fc_width=8))
    weights = {key: np.zeros(shape, np.float32) for key, shape in weight_shapes(network_spec(small)).items()}
    write_graph(tmp_path / "model.onnx", small, weights)
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)


@pytest.fixture
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> LoadedWeights:
    tiny = make_tiny(tmp_path_factory.mktemp("graph"), stride=32)
    return load_weights(load_recipe(tiny.recipe), tiny.weights)
