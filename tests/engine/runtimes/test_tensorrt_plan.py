"""Real builds with tensorrt-rtx, which needs no GPU for that; every failure that it keeps to itself is loud here."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fcnseg.engine.graph import write_graph
from fcnseg.engine.onnx_session import session_of
from fcnseg.engine.precision import measure_ranges, quantize, with_headroom
from fcnseg.engine.runtimes.tensorrt import library
from fcnseg.engine.runtimes.tensorrt import plan as tensorrt
from fcnseg.engine.runtimes.tensorrt import progress as tensorrt_progress
from fcnseg.engine.runtimes.tensorrt.library import load_library
from fcnseg.engine.runtimes.tensorrt.onnx_graph import prepared_graph
from fcnseg.engine.runtimes.tensorrt.plan import build_plan
from fcnseg.errors import EngineError
from fcnseg.models import network_spec
from fcnseg.models.layers import weight_shapes
from fcnseg.recipes import Shapes, find_recipe
from fcnseg.weights.loading import load_weights
from tests.conftest import TinyModel, make_tiny

pytest.importorskip("tensorrt_rtx")

RTX = "tensorrt-rtx"
DYNAMIC = Shapes((1, 1), (60, 80), (128, 160), 4)
STATIC = Shapes((48, 64), (48, 64), (48, 64), 2)


def write(model: TinyModel, file: Path, **options: object) -> Path:
    recipe = find_recipe(model.recipe)
    write_graph(file, recipe, load_weights(recipe, model.weights).tensors, **options)  # type: ignore[arg-type]
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def color(folder: Path) -> Path:
    """A float32 graph with probabilities."""
    return write(make_tiny(folder), folder / "color.onnx", probabilities="float32")


def edited(color: Path, name: str, change: Callable[[onnx.GraphProto], object]) -> Path:
    """A graph that someone changed after the export."""
    model = onnx.load(color)
    change(model.graph)
    path = color.with_name(f"{name}.onnx")
    onnx.save(model, path)
    return path


# ---------------------------------------------------------------------- plans of every kind


@pytest.mark.parametrize("profiles", [[STATIC], [DYNAMIC], [STATIC, DYNAMIC]], ids=["static", "dynamic", "both"])
def test_float32_plans(color: Path, profiles: list[Shapes]) -> None:
    plan = build_plan(color, RTX, profiles).content
    assert plan.nbytes > 100_000
    assert (plan.format, plan.ndim) == ("B", 1)


def test_int8_plans(color: Path) -> None:
    image = {"color": np.random.default_rng(0).integers(0, 256, (1, 60, 80, 3), dtype=np.uint8)}
    model = onnx.load(color)
    onnx.save(quantize(model, measure_ranges(model, [image])), color.with_name("int8.onnx"))
    assert build_plan(color.with_name("int8.onnx"), RTX, [DYNAMIC], outputs=["labels"]).content.nbytes > 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_plans_of_half_precision(folder: Path, precision: str) -> None:
    model = make_tiny(folder, geometry="caffe")
    recipe = find_recipe(model.recipe)
    weights = with_headroom(load_weights(recipe, model.weights).tensors, network_spec(recipe))
    file, apart = folder / f"{precision}.onnx", precision == "fp16"
    write_graph(file, recipe, weights, probabilities="float16", precision=precision, separate_weights=apart)
    assert build_plan(file, RTX, [DYNAMIC]).content.nbytes > 0


def test_two_heads_one_of_many_classes_over_two_modalities(folder: Path) -> None:
    path = make_tiny(folder, streams="depth", stride=32, heads=2).recipe
    many = ", ".join(f'"class {i}"' for i in range(300))
    path.write_text(path.read_text().replace("classes = [", f"ignore = 999\nclasses = [{many}, ", 1))
    recipe = find_recipe(path)
    shapes = weight_shapes(network_spec(recipe))
    write_graph(folder / "heads.onnx", recipe, {name: np.ones(shape, "f4") for name, shape in shapes.items()})
    model = onnx.load_from_string(prepared_graph(folder / "heads.onnx", None))
    types = {output.name: output.type.tensor_type.elem_type for output in model.graph.output}
    assert types == {"head0": onnx.TensorProto.INT32, "head1": onnx.TensorProto.UINT8}
    assert build_plan(folder / "heads.onnx", RTX, [DYNAMIC]).content.nbytes > 0


def test_two_streams(folder: Path) -> None:
    model = make_tiny(folder, streams="hha", stride=32, geometry="caffe")
    assert build_plan(write(model, folder / "hha.onnx"), RTX, [DYNAMIC, STATIC]).content.nbytes > 0


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet"])
@pytest.mark.slow
def test_the_other_networks_in_float16(folder: Path, backbone: str) -> None:
    model = make_tiny(folder, backbone=backbone, stride=32)
    file = write(model, folder / f"{backbone}.onnx", precision="fp16")
    assert build_plan(file, RTX, [DYNAMIC]).content.nbytes > 0


def test_a_plan_keeps_only_the_outputs_asked_for(color: Path) -> None:
    model = onnx.load_from_string(prepared_graph(color, ["labels"]))
    assert [output.name for output in model.graph.output] == ["labels"]
    with pytest.raises(EngineError, match="no output lables; it gives labels, probabilities"):
        build_plan(color, RTX, [DYNAMIC], outputs=["lables"])


def test_the_prepared_graph_gives_the_same_labels(color: Path) -> None:

    image = {"color": np.random.default_rng(1).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)}
    graphs = color.read_bytes(), prepared_graph(color, None)
    (before, _), (after, _) = (session_of(g).run(["labels", "probabilities"], image) for g in graphs)
    assert len(np.unique(before)) > 1
    assert np.array_equal(before, after)


# ---------------------------------------------------------------------- what TensorRT would pass over


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"junk, not a graph", "is no ONNX file"), (b"", "holds no network")],
    ids=["junk", "empty: parses without an error"],
)
def test_files_that_are_no_graph(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=f"bad.onnx {said}"):
        build_plan(tmp_path / "bad.onnx", RTX, [DYNAMIC])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"none\.onnx cannot be read: No such file"):
        build_plan(tmp_path / "none.onnx", RTX, [DYNAMIC])


def test_weights_that_are_not_beside_the_graph(color: Path, tmp_path: Path) -> None:
    onnx.save(
        onnx.load(color), tmp_path / "graph.onnx", save_as_external_data=True, location="numbers", size_threshold=0
    )
    (tmp_path / "numbers").unlink()
    with pytest.raises(EngineError, match=r"TensorRT-RTX cannot read graph\.onnx: Failed to import initializer"):
        build_plan(tmp_path / "graph.onnx", RTX, [DYNAMIC])


def rename_input(graph: onnx.GraphProto) -> None:
    graph.input[0].name = "colour"
    for node in graph.node:
        node.input[:] = ["colour" if name == "color" else name for name in node.input]


def test_an_input_of_another_name(color: Path) -> None:
    with pytest.raises(EngineError, match=r"takes 'colour' as UINT8 \(-1, -1, -1, 3\), which no fcnseg graph does"):
        build_plan(edited(color, "name", rename_input), RTX, [DYNAMIC])


def test_an_input_of_other_channels(color: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4

    with pytest.raises(EngineError, match=r"TensorRT-RTX cannot (read|build)|takes 'color' as UINT8 \(-1, -1, -1, 4\)"):
        build_plan(edited(color, "channels", change), RTX, [DYNAMIC])


def test_an_input_of_another_type(color: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT

    with pytest.raises(EngineError, match="takes 'color' as FLOAT"):
        build_plan(edited(color, "type", change), RTX, [DYNAMIC])


def test_an_operator_it_does_not_know(color: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        next(node for node in graph.node if node.op_type == "Relu").op_type = "Sulk"

    with pytest.raises(EngineError, match=r"TensorRT-RTX cannot read operator\.onnx: Sulk Relu:"):
        build_plan(edited(color, "operator", change), RTX, [DYNAMIC])


def test_a_network_it_parses_but_cannot_build(color: Path) -> None:
    """A deconvolution in bfloat16: the reason is only in the logger."""

    def change(graph: onnx.GraphProto) -> None:
        node = next(node for node in graph.node if node.op_type == "ConvTranspose")
        place = list(graph.node).index(node)
        source, weight, result = node.input[0], node.input[1], node.output[0]
        cast = [onnx.helper.make_node("Cast", [name], [f"{name}_low"], to=16) for name in (source, weight)]
        back = onnx.helper.make_node("Cast", [f"{result}_low"], [result], to=1)
        node.input[:], node.output[:] = [f"{source}_low", f"{weight}_low"], [f"{result}_low"]
        graph.node.insert(place + 1, back)
        for extra in cast:
            graph.node.insert(place, extra)

    with pytest.raises(
        EngineError, match=r"TensorRT-RTX cannot (build|read) deconvolution.onnx: .*(onvolution|upscore)"
    ):
        build_plan(edited(color, "deconvolution", change), RTX, [DYNAMIC])


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([], "at least one range"),
        ([Shapes((90, 90), (60, 80), (128, 128), 1)], "90 x 90 over 80 x 60 to 128 x 128 in batches of 1 are no range"),
        ([DYNAMIC, Shapes((1, 1), (60, 200), (128, 128), 1)], "1 x 1 over 200 x 60"),
        ([Shapes((0, 1), (60, 80), (128, 128), 1)], "1 x 0 over"),
        ([Shapes((1, 1), (60, 80), (128, 128), 0)], "batches of 0"),
    ],
    ids=["none", "min above opt", "opt above max", "zero", "no batch"],
)
def test_ranges_that_are_none(color: Path, shapes: list[Shapes], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        build_plan(color, RTX, shapes)


def test_a_profile_that_the_library_refuses(color: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """add_optimization_profile gives -1, and the reason to the logger."""
    monkeypatch.setattr(tensorrt, "_check_profiles", lambda profiles: None)
    with pytest.raises(EngineError, match=r"does not take sizes 90 x 90 to 128 x 128 for this graph: .*MIN<=OPT<=MAX"):
        build_plan(color, RTX, [Shapes((90, 90), (60, 80), (128, 128), 1)])


def fixed_height(color: Path) -> Path:
    """A graph whose height is 64 px, so that no other range can be built."""

    def change(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64

    return edited(color, "fixed", change)


def test_a_range_that_the_graph_does_not_allow(color: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot build fixed\.onnx: .*profile has min=1, opt=60, max=128"):
        build_plan(fixed_height(color), RTX, [DYNAMIC])


def test_errors_are_one_line_and_the_next_build_works(color: Path) -> None:
    with pytest.raises(EngineError) as caught:
        build_plan(fixed_height(color), RTX, [DYNAMIC])
    assert "\n" not in str(caught.value)
    assert build_plan(color, RTX, [STATIC]).content.nbytes > 0
    assert load_library(RTX).reason() == "it gave no reason"


# ---------------------------------------------------------------------- watching


def test_progress_rises_to_the_end(color: Path) -> None:
    heard: list[tuple[str, float]] = []
    build_plan(color, RTX, [STATIC], on_progress=lambda phase, part: heard.append((phase, part)))
    parts = [part for _, part in heard]
    assert parts == sorted(parts)
    assert parts[0] >= 0
    assert parts[-1] == 1
    assert all(phase for phase, _ in heard)


def explode(*_: object) -> bool:
    raise ZeroDivisionError("of the caller's own")


def test_what_a_callback_raises_surfaces(color: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="of the caller's own"):
        build_plan(color, RTX, [DYNAMIC], on_progress=explode)
    assert "tensorrt-build" not in {thread.name for thread in threading.enumerate()}


def test_ctrl_c_ends_a_build(color: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_plan(color, RTX, [DYNAMIC], on_progress=lambda phase, part: signal.raise_signal(signal.SIGINT))
    assert "tensorrt-build" not in {thread.name for thread in threading.enumerate()}


def test_progress_of_nested_phases() -> None:
    progress = tensorrt_progress.BuildProgress()
    progress.start("all", None, 2)
    progress.start("first", "all", 4)
    progress.step("first", 0)
    assert (progress.name, progress.fraction) == ("first", 0.125)
    progress.finish("first")  # before its last step: TensorRT may skip some
    progress.step("all", 0)
    assert progress.fraction == 0.5
    progress.start("second", "all", 1)
    progress.step("second", 5)  # never beyond its end
    progress.step("unknown", 1)
    progress.finish("unknown")
    assert progress.fraction == 1


# ---------------------------------------------------------------------- the libraries


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, color: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(library, "_loaded", {})
    with pytest.raises(EngineError, match=r"TensorRT cannot be loaded .*; `pip install tensorrt`"):
        build_plan(color, "tensorrt", [DYNAMIC])


def test_one_logger_a_process() -> None:
    assert load_library(RTX) is load_library(RTX)


def test_nothing_is_imported_before_it_is_used() -> None:
    libraries = {"tensorrt", "tensorrt_rtx", "onnx"}
    code = f"import sys, fcnseg.engine.runtimes.tensorrt.engine; print({libraries} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
