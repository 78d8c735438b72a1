"""Graphs of one size: the labels of the dynamic graph, in every runtime that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from fcnseg.engine.export import export_model
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.errors import SettingsError
from fcnseg.recipes import Shapes, find_recipe
from tests.conftest import Outcome, TinyModel, make_tiny

FAMILIES: dict[str, dict[str, Any]] = {
    "8s": {"geometry": "caffe"},
    "16s": {"geometry": "caffe", "stride": 16},
    "32s, same": {"stride": 32},
    "alexnet": {"backbone": "alexnet", "stride": 32, "geometry": "caffe"},
    "googlenet": {"backbone": "googlenet", "stride": 32, "geometry": "caffe"},
    "two heads": {"geometry": "caffe", "heads": 2},
    "early fusion": {"streams": "depth", "stride": 32, "geometry": "caffe"},
    "late fusion": {"streams": "hha", "stride": 32, "geometry": "caffe"},
}
DYNAMIC_NODES = {"Shape", "Range", "Expand", "Mod", "Div", "Clip"}
SIZES = [(1, 1), (45, 70)]

Images = dict[str, np.ndarray]


def images(model: TinyModel, size: tuple[int, int], batch: int) -> Images:
    draw = np.random.default_rng(size[0])
    whole = {m: draw.integers(0, 256, (batch, *size, 1 if m == "depth" else 3)) for m in modalities(model)}
    return {m: values.astype(np.float32 if m == "depth" else np.uint8) for m, values in whole.items()}


def modalities(model: TinyModel) -> tuple[str, ...]:
    return find_recipe(model.recipe).modalities


def in_onnx_runtime(file: Path, given: Images) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return list(onnxruntime.InferenceSession(file, options).run(None, given))


def in_openvino(file: Path, given: Images) -> list[np.ndarray]:
    compiled = openvino.compile_model(openvino.Core().read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(given)
    return [found[output] for output in compiled.outputs]


def in_opencv(file: Path, given: Images) -> list[np.ndarray]:
    net = cv2.dnn.readNetFromONNX(str(file))
    for name, values in given.items():
        net.setInput(values, name)
    return list(net.forward([output.name for output in onnx.load(file).graph.output]))


RUNTIMES = {"onnxruntime": in_onnx_runtime, "openvino": in_openvino, "opencv": in_opencv}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_runtime_gives_the_labels_of_the_dynamic_graph(family: str, tmp_path: Path) -> None:
    model = make_tiny(tmp_path, **FAMILIES[family])
    export_model(str(model.recipe), tmp_path / "any.onnx", weights=model.weights)
    for size in SIZES:
        export_model(str(model.recipe), tmp_path / "one.onnx", weights=model.weights, size=size, batch=2)
        graph = onnx.load(tmp_path / "one.onnx").graph
        assert not DYNAMIC_NODES & {node.op_type for node in graph.node}
        assert {tuple(d.dim_value for d in i.type.tensor_type.shape.dim)[:3] for i in graph.input} == {(2, *size)}
        given = images(model, size, 2)
        expected = in_onnx_runtime(tmp_path / "any.onnx", given)
        for name, run in RUNTIMES.items():
            if name == "opencv" and "depth" in given:  # it has no logical And
                continue
            for labels, one in zip(expected, run(tmp_path / "one.onnx", given), strict=True):
                agreement = (labels == one.reshape(labels.shape)).mean()
                assert agreement >= 0.999, (name, size)


def test_one_axis_may_stay_dynamic(tmp_path: Path) -> None:
    model = make_tiny(tmp_path, geometry="caffe")
    words = {"weights": model.weights, "probabilities": "float32"}
    for given, shape in (({"size": (45, 70)}, ["N", 45, 70, 3]), ({"batch": 3}, [3, "H", "W", 3])):
        export_model(str(model.recipe), tmp_path / "one.onnx", **words, **given)  # type: ignore[arg-type]
        graph = onnx.load(tmp_path / "one.onnx").graph
        dims = graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == shape
        onnx.checker.check_model(tmp_path / "one.onnx", full_check=True)
        assert in_onnx_runtime(tmp_path / "one.onnx", images(model, (45, 70), 3))[1].shape == (3, 5, 45, 70)


def test_tensorrt_rtx_builds_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = make_tiny(tmp_path, geometry="caffe")
    export_model(str(model.recipe), tmp_path / "one.onnx", weights=model.weights, size=(48, 64), batch=1)
    only = Shapes((48, 64), (48, 64), (48, 64), 1)
    assert build_plan(tmp_path / "one.onnx", "tensorrt-rtx", [only]).content.nbytes > 100_000


def test_the_command(fcnseg: Callable[..., Outcome], tmp_path: Path) -> None:
    model, out = make_tiny(tmp_path), tmp_path / "one.onnx"
    words = ("export", model.recipe, "--weights", model.weights, "--out", out)
    done = fcnseg(*words, "--size", "45x70", "--batch", "2")
    assert done.code == 0
    assert "color: uint8, 2 x 45 x 70 x 3" in done.err
    assert "labels: uint8, 2 x 45 x 70" in done.err
    for wrong in ("45", "0x70", "45x", "axb", "1x2x3"):
        assert (fcnseg(*words, "--size", wrong).code) == 2
    with pytest.raises(SettingsError):
        export_model(str(model.recipe), out, weights=model.weights, size=(0, 5))
