"""The form of the graph that a plan is built of: decided by speed on a GPU, by planned memory where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fcnseg.engine.builder import Builder
from fcnseg.engine.calibration import SampleImages, sample_images
from fcnseg.engine.graph import GraphForm
from fcnseg.engine.identity import EngineIdentity
from fcnseg.engine.precision import measure_ranges, quantize
from fcnseg.engine.runtimes.tensorrt import compile as tensorrt_compile
from fcnseg.engine.runtimes.tensorrt.compile import compile_engines
from fcnseg.engine.runtimes.tensorrt.plan import Plan, build_plan
from fcnseg.errors import DeviceError, EngineError
from fcnseg.models import network_spec
from fcnseg.models.layers import weight_shapes
from fcnseg.recipes import Recipe, Shapes, find_recipe
from fcnseg.weights.loading import LoadedWeights, load_weights
from tests.conftest import TinyModel, make_tiny

SIZES = Shapes((1, 1), (60, 80), (96, 128), 4)
FULL, WITHOUT_MARGINS, PLAIN = GraphForm(True, True, True), GraphForm(), GraphForm(skip_margins=False)


def builder_of(model: TinyModel, folder: Path) -> Builder:
    recipe = find_recipe(model.recipe)
    folder.mkdir(exist_ok=True)
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Builder(recipe, model.weights, SampleImages([{"color": image}], "noise"), folder)


def identity_of(recipe: Recipe, precision: str, backend: str = "tensorrt-rtx") -> EngineIdentity:
    return EngineIdentity(recipe.name, "", "", backend, precision, "no GPU", "", "", (SIZES,))


class Trials:
    """Stands in for building and measuring on a GPU: `seconds` by form, or the error of building it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[GraphForm], float | EngineError]) -> None:
        self.seconds, self.forms = seconds, []  # type: ignore[var-annotated]
        for name in ("build_plan", "image_seconds", "has_gpu"):
            monkeypatch.setattr(tensorrt_compile, name, getattr(self, name))

    windows_are_static = True

    def has_gpu(self) -> bool:
        return True

    def build_plan(self, graph: Path, *_: object, **__: object) -> Plan:
        self.forms.append(GraphForm(*(bool(int(digit)) for digit in graph.stem.split("-")[1:])))
        result = self.seconds(self.forms[-1])
        if isinstance(result, EngineError):
            raise result
        return Plan(
            memoryview(graph.name.encode()), is_static=self.windows_are_static or not self.forms[-1].skip_margins
        )

    def image_seconds(self, *_: object) -> float:
        return float(self.seconds(self.forms[-1]))  # type: ignore[arg-type]


def compiled(model: TinyModel, folder: Path, precision: str, backend: str = "tensorrt") -> Mapping[str, str]:
    builder = builder_of(model, folder)
    file = folder / f"{precision}.plan"
    found = compile_engines(builder, identity_of(builder.recipe, precision, backend), {file: ["labels"]})
    assert found.graph.exists()
    return found.choices


@pytest.fixture(scope="module")
def caffe(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_tiny(tmp_path_factory.mktemp("caffe"), geometry="caffe")


@pytest.mark.parametrize(
    ("slow", "expected", "tried"),
    [
        (lambda form: form != FULL, "skip margins", 4),  # each choice beside the best until then
        (lambda form: sum((form.skip_margins, not form.subpixel, not form.classes_last)), "subpixel, classes last", 4),
        (lambda form: not form.subpixel, "skip margins, subpixel", 4),
    ],
)
def test_the_fastest_form_is_kept(
    caffe: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    slow: Callable[[GraphForm], int],
    expected: str,
    tried: int,
) -> None:
    trials = Trials(monkeypatch, lambda form: 1.0 + slow(form))
    assert compiled(caffe, tmp_path, "fp16") == {"graph": expected}
    assert len(trials.forms) == tried
    assert len(list(tmp_path.glob("*.onnx"))) == 1  # the others would fill the disk
    (graph,) = tmp_path.glob("*.onnx")
    assert (tmp_path / "fp16.plan").read_bytes() == graph.name.encode()


def test_what_is_decided_holds_for_the_other_precisions(
    caffe: TinyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trials = Trials(monkeypatch, lambda form: 2.0 - form.subpixel)
    assert compiled(caffe, tmp_path, "int8") == {"graph": "skip margins, subpixel"}
    assert len(trials.forms) == 4
    assert compiled(caffe, tmp_path, "fp16") == {"graph": "skip margins, subpixel"}
    assert len(trials.forms) == 5


def test_a_form_that_does_not_build_is_passed_over(
    caffe: TinyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Trials(monkeypatch, lambda form: EngineError("no tactic") if form.skip_margins else 1.0)
    assert compiled(caffe, tmp_path, "fp16") == {"graph": "plain"}
    Trials(monkeypatch, lambda form: DeviceError("OutOfMemory"))
    (tmp_path / "form.json").unlink()
    with pytest.raises(DeviceError, match="OutOfMemory"):
        compiled(caffe, tmp_path, "fp16")


def test_without_a_gpu_memory_is_planned_before_a_plan_runs(
    caffe: TinyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trials = Trials(monkeypatch, lambda form: 1.0)
    monkeypatch.setattr(tensorrt_compile, "has_gpu", lambda: False)
    monkeypatch.setattr(Trials, "windows_are_static", False)
    assert compiled(caffe, tmp_path, "fp16", "tensorrt-rtx") == {"graph": "plain", "kernels": "none"}
    assert trials.forms == [WITHOUT_MARGINS, PLAIN]
    assert not (tmp_path / "form.json").exists()
    monkeypatch.setattr(Trials, "windows_are_static", True)
    assert compiled(caffe, tmp_path / "static", "fp16") == {"graph": "skip margins"}
    assert compiled(make_tiny(tmp_path), tmp_path / "same", "fp32") == {"graph": "plain"}  # has no margins
    assert len(trials.forms) == 4


# ---------------------------------------------------------------------- real models, built whole


def numbers(spec: Any) -> dict[str, np.ndarray]:
    """Weights of the size and spread of a trained network's, repeated noise: quickly made."""
    noise = np.random.default_rng(0).standard_normal(9973).astype(np.float32)
    return {
        name: np.resize(noise * (2 / max(1, prod(shape[1:]))) ** 0.5, shape)
        for name, shape in weight_shapes(spec).items()
    }


@pytest.fixture(scope="module", params=["street-fcn8s", "voc-fcn8s"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """A builder of a model at its full width, with real weights where they are here."""
    pytest.importorskip("tensorrt_rtx")
    recipe, folder = find_recipe(request.param), tmp_path_factory.mktemp(request.param)
    images = sample_images(recipe)
    builder = Builder(recipe, None, SampleImages(images.inputs[:1], images.name), folder)
    if recipe.bundled:
        builder._weights = load_weights(recipe)
    else:
        tensors = numbers(network_spec(recipe))
        builder._weights = LoadedWeights(recipe, tensors, frozenset(), "", recipe.path, training_start=False)
    return builder


def types_of(layer: str) -> tuple[str, str]:
    """The types of a layer's first input and first output, in the library's words."""
    inputs, outputs = layer.split("Outputs: [")
    return inputs.split("Datatype: ")[1].split(",")[0], outputs.split("Datatype: ")[1].split(",")[0]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "trunk"), [("fp32", "Float"), ("fp16", "Half"), ("bf16", "BFloat16")])
def test_every_layer_computes_in_its_precision(whole: Builder, precision: str, trunk: str) -> None:
    graph = whole.write(precision, precision=precision, form=PLAIN)
    plan = build_plan(graph, "tensorrt-rtx", [whole.recipe.shapes], outputs=["labels"], describe=True)
    assert plan.is_static
    for layer in plan.layers:
        if "LayerType: correlation" in layer or "LayerType: deconv" in layer:
            exact = layer.startswith(("Name: score", "Name: upscore"))
            assert set(types_of(layer)) == {"Float" if exact else trunk}, layer


@pytest.mark.slow
def test_memory_is_planned_unless_margins_are_left_out(whole: Builder) -> None:
    """TensorRT-RTX says "Static Tensor Allocation failed" of voc-fcn8s without its margins."""
    graph = whole.write("windows", precision="fp16")
    plan = build_plan(graph, "tensorrt-rtx", [whole.recipe.shapes], outputs=["labels"])
    assert plan.is_static != (whole.recipe.name == "voc-fcn8s")


@pytest.mark.slow
def test_int8_goes_from_layer_to_layer(whole: Builder) -> None:
    """What a convolution reads is int8, and pools are. TensorRT-RTX leaves a convolution's own result in float, which
    the layer after it quantises: no placement of scales was found that changes that."""
    if whole.recipe.name == "voc-fcn8s":
        pytest.skip("half a minute of a processor, for the same layers")
    model = onnx.load(whole.write("float", form=PLAIN))
    onnx.save(quantize(model, measure_ranges(model, whole.calibration())), whole.work / "int8.onnx")
    plan = build_plan(
        whole.work / "int8.onnx", "tensorrt-rtx", [whole.recipe.shapes], outputs=["labels"], describe=True
    )
    assert plan.is_static
    layers = {layer.split(",")[0].removeprefix("Name: ").split("_myl")[0]: layer for layer in plan.layers}
    trunk = {name: types_of(layer) for name, layer in layers.items() if name.startswith(("conv", "fc"))}
    assert len(trunk) == 15
    assert {read for read, _ in trunk.values()} == {"Int8"}
    pools = [types_of(layer) for layer in plan.layers if "LayerType: maxpool" in layer]
    assert pools == [("Int8", "Int8")] * 5  # none twice
    assert {types_of(layer) for name, layer in layers.items() if name.startswith(("score", "upscore"))} == {
        ("Float", "Float")
    }
