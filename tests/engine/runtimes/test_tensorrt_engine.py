"""The runtime side of TensorRT without a GPU, on a fake library and stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.engine.record import read_sealed, write_sealed
from fcnseg.engine.runtimes.tensorrt import engine as tensorrt_runtime
from fcnseg.engine.runtimes.tensorrt.engine import TensorRTEngine
from fcnseg.errors import DeviceError, EngineError, ImageError, TooLargeError
from fcnseg.io.hashing import file_sha256
from fcnseg.recipes import find_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.types import EngineInfo, Frame
from tests.conftest import make_tiny
from tests.engine.runtimes.fake_tensorrt import (
    LARGE,
    OLD_DRIVER,
    SCRATCH_A_PIXEL,
    SMALL,
    WITH_PROBABILITIES,
    FakeContext,
    FakePlan,
    FakeStream,
)

RNG = np.random.default_rng(0)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TensorRTEngine]:
    recipe = find_recipe(make_tiny(tmp_path, stride=32).recipe)
    info = EngineInfo("tensorrt", "a GPU", "fp16", recipe.name, "00", {}, recipe.modalities, {})
    (tmp_path / "plan").write_bytes(b"plan")

    def engine(
        plan: FakePlan, probabilities: bool = False, backend: str = "tensorrt", **versions: str
    ) -> TensorRTEngine:
        monkeypatch.setattr(tensorrt_runtime, "load_library", lambda name: plan.library(name=name))
        monkeypatch.setattr(tensorrt_runtime, "find_device", torch.device)
        monkeypatch.setattr(tensorrt_runtime, "CudaStreams", FakeStream)
        file = tmp_path / "plan"
        own = replace(info, backend=backend, versions=versions)
        return TensorRTEngine(recipe, file, own, sha256=file_sha256(file), probabilities=probabilities)

    return engine


def image(rows: int, height: int, width: int) -> dict[str, np.ndarray]:
    return {"color": RNG.integers(0, 256, (rows, height, width, 3), dtype=np.uint8)}


def test_labels_and_probabilities_come_back(opened: Callable[..., TensorRTEngine]) -> None:
    with opened(FakePlan([SMALL], WITH_PROBABILITIES), True) as engine:
        for rows, height, width in [(2, 30, 40), (4, 40, 50), (1, 1, 1)]:
            inputs = image(rows, height, width)
            labels, probabilities = engine.infer(inputs, probabilities=True)
            assert np.array_equal(labels["labels"], inputs["color"][..., 0] % 5)
            assert labels["labels"].dtype == np.uint8
            assert probabilities is not None
            assert np.array_equal(probabilities["labels"].argmax(1), labels["labels"])
            assert engine.infer(inputs)[1] is None


def test_plans_may_not_bring_host_code(opened: Callable[..., TensorRTEngine]) -> None:
    plan = FakePlan([SMALL])
    with opened(plan):
        assert plan.runtime.engine_host_code_allowed is False


def test_batches_larger_than_the_plans_run_in_parts(opened: Callable[..., TensorRTEngine]) -> None:
    plan = FakePlan([SMALL])
    inputs = image(11, 20, 20)
    with opened(plan) as engine:
        assert np.array_equal(engine.infer(inputs)[0]["labels"], inputs["color"][..., 0] % 5)
    assert [shape[0] for _, shape in plan.context.runs] == [4, 4, 3]  # type: ignore[union-attr]


def test_two_batches_are_in_flight_and_do_not_mix(opened: Callable[..., TensorRTEngine]) -> None:
    batches = [image(1 + i % 3, 10 + i, 20) for i in range(7)]
    with opened(FakePlan([SMALL])) as engine:
        found = [labels["labels"] for labels, _ in engine.infer_many(batches)]
        assert FakeStream.last.most_marks == 2
    assert all(np.array_equal(f, b["color"][..., 0] % 5) for f, b in zip(found, batches, strict=True))


def test_arrays_need_not_be_contiguous(opened: Callable[..., TensorRTEngine]) -> None:
    pixels = image(2, 30, 40)["color"][:, ::-1, ::2]
    with opened(FakePlan([SMALL])) as engine:
        assert np.array_equal(engine.infer({"color": pixels})[0]["labels"], pixels[..., 0] % 5)


def test_the_profile_with_the_least_room_is_taken(opened: Callable[..., TensorRTEngine]) -> None:
    plan = FakePlan([LARGE, SMALL])
    with opened(plan) as engine:
        for height, width in [(40, 50), (41, 50), (30, 30), (200, 300), (1, 1)]:
            engine.infer(image(1, height, width))
    assert [profile for profile, _ in plan.context.runs] == [1, 0, 1, 0, 1]  # type: ignore[union-attr]


def test_sizes_outside_the_profiles_are_refused_with_the_ranges(opened: Callable[..., TensorRTEngine]) -> None:
    with opened(FakePlan([SMALL, LARGE])) as engine:
        with pytest.raises(ImageError, match=r"60 x 20 pixels .*1 x 1 to 50 x 40, or 30 x 30 to 300 x 200") as caught:
            engine.infer(image(1, 20, 60))
        assert caught.value.stage == "predict"
        with pytest.raises(ImageError, match=r"batch of 5 is outside this engine's \(1 to 4 images\)"):
            list(engine.infer_many([image(5, 20, 20)]))
        with pytest.raises(ImageError, match="batch of 0"):
            engine.infer(image(0, 20, 20))
        inputs = image(1, 20, 20)  # and it still works
        assert np.array_equal(engine.infer(inputs)[0]["labels"], inputs["color"][..., 0] % 5)


def test_what_is_too_large_is_told_from_what_is_too_small(opened: Callable[..., TensorRTEngine]) -> None:
    with opened(FakePlan([SMALL, LARGE])) as engine:
        assert (engine.info.largest, engine.info.max_batch) == ((200, 300), 4)
        for inputs in (image(1, 201, 300), image(1, 30, 301)):
            with pytest.raises(TooLargeError):
                engine.infer(inputs)
        with pytest.raises(TooLargeError):
            list(engine.infer_many([image(5, 20, 20)]))
        with pytest.raises(ImageError) as caught:
            engine.infer(image(1, 20, 60))
        assert not isinstance(caught.value, TooLargeError)


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ("profile", "refused profile 1: setOptimizationProfileAsync: profile index is out of range"),
        ("shape", "refused color of shape"),
        ("inference", "refused to infer shapes"),
        ("missing", "refused to go without color"),
        ("output", "refused to say how large"),
        ("size", "refused to say how much memory it needs: updateDeviceMemorySizeForShapes"),
        ("address", "refused the memory of"),
        ("run", r"refused to run: \[executor\] out of tactics; build"),
    ],
)
def test_every_status_is_checked(opened: Callable[..., TensorRTEngine], refuses: str, said: str) -> None:
    plan = FakePlan([SMALL, LARGE])
    with opened(plan) as engine:
        plan.context.refuses = refuses  # type: ignore[union-attr]
        with pytest.raises(EngineError, match=f"TensorRT {said}"):
            engine.infer(image(1, 100, 100))
        plan.context.refuses = ""  # type: ignore[union-attr]
        batches = (image(1, 10, 10) for _ in range(3))
        assert len(list(engine.infer_many(batches))) == 3


def test_memory_that_ends_while_it_runs_is_the_matter_of_one_image(opened: Callable[..., TensorRTEngine]) -> None:
    plan = FakePlan([SMALL])
    with opened(plan) as engine:
        plan.context.refuses = "memory"  # type: ignore[union-attr]
        with pytest.raises(TooLargeError, match="50 x 40 pixels need more memory"):
            engine.infer(image(4, 40, 50))
        plan.context.refuses = ""  # type: ignore[union-attr]
        assert engine.infer(image(1, 40, 50))[0]["labels"].shape == (1, 40, 50)


def test_the_network_has_the_memory_that_its_images_need(opened: Callable[..., TensorRTEngine]) -> None:
    plan = FakePlan([SMALL, LARGE])
    with opened(plan) as engine:
        for rows, height, width, most in [(1, 10, 20, 200), (4, 40, 50, 8000), (1, 10, 20, 8000)]:
            engine.infer(image(rows, height, width))
            assert plan.context.scratch_bytes == most * SCRATCH_A_PIXEL  # type: ignore[union-attr]
    assert FakeStream.last.given_back == 1


def test_tensorrt_10_0_takes_its_memory_without_a_size(
    opened: Callable[..., TensorRTEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = FakePlan([SMALL])
    monkeypatch.delattr(FakeContext, "set_device_memory")
    given = property(None, lambda self, address: setattr(self, "scratch_bytes", 10**9 if address else 0))
    monkeypatch.setattr(FakeContext, "device_memory", given, raising=False)
    with opened(plan) as engine:
        assert engine.infer(image(1, 10, 20))[0]["labels"].shape == (1, 10, 20)


def test_a_lack_of_memory_halves_the_batch(
    opened: Callable[..., TensorRTEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = image(4, 40, 50)
    monkeypatch.setattr(FakeStream, "room_bytes", 2 * 40 * 50 * SCRATCH_A_PIXEL)
    with opened(FakePlan([SMALL])) as engine:
        with pytest.raises(TooLargeError, match="50 x 40 pixels need more memory"):
            engine.infer(inputs)
        predictor = Predictor(engine, engine.recipe)
        frames = [Frame(str(i), str(i), {"color": pixels}) for i, pixels in enumerate(inputs["color"])]
        found = [prediction.labels["labels"] for _, prediction in predictor.stream([frames])]
    assert np.array_equal(found, inputs["color"][..., 0] % 5)
    assert predictor.events["batches halved"] == 1


# ---------------------------------------------------------------------- the kernels of TensorRT-RTX


def test_the_kernels_of_a_shape_do_not_change(opened: Callable[..., TensorRTEngine]) -> None:
    for strategy in ("none", "eager"):
        plan = FakePlan([SMALL])
        with opened(plan, backend="tensorrt-rtx", kernels=strategy) as engine:
            assert plan.config.dynamic_shapes_kernel_specialization_strategy == strategy
            assert engine.infer(image(1, 10, 20))[0]["labels"].shape == (1, 10, 20)
    plan = FakePlan([SMALL])
    with opened(plan, backend="tensorrt-rtx"):
        assert plan.config.dynamic_shapes_kernel_specialization_strategy == "none"
    plan = FakePlan([SMALL])
    with opened(plan):
        assert plan.config.cache is None  # TensorRT's plans hold their kernels


def test_kernels_are_kept_beside_the_plan(opened: Callable[..., TensorRTEngine], tmp_path: Path) -> None:
    file = tmp_path / "plan.kernels"
    taken = []
    for content in (None, None, b"kernels of somebody", write_foreign):
        if callable(content):
            content(file)
        elif content:
            file.write_bytes(content)
        plan = FakePlan([SMALL])
        with opened(plan, backend="tensorrt-rtx") as engine:
            assert engine.infer(image(1, 10, 20))[0]["labels"].shape == (1, 10, 20)
        taken.append(plan.config.cache.taken)  # type: ignore[union-attr]
    assert taken == [b"", b"kernels of none", b"", b""]
    assert read_sealed(file) == b"kernels of none"


def write_foreign(file: Path) -> None:
    """Kernels of this machine, for another driver: the library does not take them."""
    write_sealed(file, b"for another driver")


def test_kernels_that_cannot_be_kept_are_compiled_again(
    opened: Callable[..., TensorRTEngine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tensorrt_runtime, "kernel_file", lambda file: tmp_path / "gone" / "kernels")
    with opened(FakePlan([SMALL]), backend="tensorrt-rtx") as engine:
        assert engine.infer(image(1, 10, 20))[0]["labels"].shape == (1, 10, 20)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((1, 9, 9, 3), np.float32), np.zeros((9, 9, 3), np.uint8), np.zeros((1, 9, 9, 1), np.uint8)],
    ids=["float", "3-d", "1-channel"],
)
def test_wrong_arrays_are_refused(opened: Callable[..., TensorRTEngine], pixels: np.ndarray) -> None:
    with opened(FakePlan([SMALL])) as engine, pytest.raises(ImageError, match="N x H x W x 3"):
        engine.infer({"color": pixels})


# ---------------------------------------------------------------------- opening


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (FakePlan([SMALL], loads=False), r"does not load the engine: Serialization assertion .*; build it again"),
        (FakePlan([SMALL], {"colour": "UINT8", "labels": "UINT8"}), "tensors are colour UINT8, labels UINT8, not"),
        (FakePlan([SMALL], {"color": "FLOAT", "labels": "UINT8"}), "tensors are color FLOAT"),
        (FakePlan([SMALL], {"color": "UINT8", "labels": "INT8"}), "tensors are color UINT8, labels INT8"),
        (FakePlan([SMALL], WITH_PROBABILITIES), "probabilities FLOAT, not those"),
        (FakePlan([SMALL], channels=4), "takes color of 4 channels"),
    ],
)
def test_plans_that_are_not_the_recipes(opened: Callable[..., TensorRTEngine], plan: FakePlan, said: str) -> None:
    with pytest.raises(EngineError, match=said), opened(plan):
        pass


def test_a_plan_that_finds_no_memory(opened: Callable[..., TensorRTEngine]) -> None:
    plan = FakePlan([SMALL])
    plan.context = None
    with pytest.raises(EngineError, match="cannot start the engine: it gave no reason; free GPU memory"), opened(plan):
        pass


def test_a_driver_that_is_too_old(opened: Callable[..., TensorRTEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(FakePlan([SMALL]))
    monkeypatch.setattr(tensorrt_runtime, "load_library", lambda name: FakePlan([SMALL]).library(null=OLD_DRIVER))
    with (
        pytest.raises(
            DeviceError, match=r"TensorRT 11.4.0.106 cannot start .*: CUDA initialization failure with error: 35"
        ),
        engine,
    ):
        pass


def test_what_is_open_at_the_end_is_closed_while_python_still_runs(opened: Callable[..., TensorRTEngine]) -> None:
    engine = opened(FakePlan([SMALL])).__enter__()
    tensorrt_runtime._close_open_engines()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(image(1, 9, 9))


def test_nothing_is_acquired_before_entry_and_nothing_kept_after(opened: Callable[..., TensorRTEngine]) -> None:
    engine = opened(FakePlan([SMALL]))
    with pytest.raises(EngineError, match="closed"):
        engine.infer(image(1, 9, 9))
    with engine:
        pass
    with pytest.raises(EngineError, match="closed"):
        engine.infer(image(1, 9, 9))


def test_probabilities_that_the_plan_does_not_give(opened: Callable[..., TensorRTEngine]) -> None:
    with opened(FakePlan([SMALL])) as engine, pytest.raises(EngineError, match="labels alone"):
        engine.infer(image(1, 9, 9), probabilities=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_machine_without_a_gpu(opened: Callable[..., TensorRTEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(FakePlan([SMALL]))
    monkeypatch.undo()
    monkeypatch.setattr(tensorrt_runtime, "load_library", lambda name: FakePlan([SMALL]).library())
    with pytest.raises(EngineError, match="0 CUDA devices"), engine:
        pass


# ---------------------------------------------------------------------- many, and tensors


def test_the_engine_is_busy_while_results_are_left(opened: Callable[..., TensorRTEngine]) -> None:
    with opened(FakePlan([SMALL])) as engine:
        results = engine.infer_many(image(1, 9, 9) for _ in range(5))
        next(results)
        with pytest.raises(EngineError, match="busy with infer_many"):
            engine.infer(image(1, 9, 9))
        results.close()  # type: ignore[attr-defined]
        assert not FakeStream.last.waiting
        assert engine.infer(image(1, 9, 9))[0]["labels"].shape == (1, 9, 9)


def test_an_error_among_the_batches_leaves_nothing_in_flight(opened: Callable[..., TensorRTEngine]) -> None:
    with opened(FakePlan([SMALL])) as engine:
        with pytest.raises(ImageError, match="outside"):
            list(engine.infer_many([image(1, 9, 9), image(1, 9, 9), image(1, 99, 99)]))
        assert not FakeStream.last.waiting
