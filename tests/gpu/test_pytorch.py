"""PyTorch's engines on a CUDA device, held against the processor and against themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fcnseg.engine.runtimes.batched import BatchedTorchEngine
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.engine.runtimes.streams import CudaStreams
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.types import Frame
from tests.conftest import TinyModel, make_tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

FLOORS = {"fp32": 0.9999, "bf16": 0.95, "fp16": 0.98}
PRECISIONS = sorted(FLOORS)


@pytest.fixture(scope="module", params=["same", "caffe"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_tiny(tmp_path_factory.mktemp(request.param), geometry=request.param)


@pytest.fixture
def recipe(model: TinyModel) -> Recipe:
    return find_recipe(model.recipe)


def images(rows: int, height: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"color": np.random.default_rng(seed).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", [TorchEngine, BatchedTorchEngine])
def test_a_gpu_agrees_with_the_processor(
    model: TinyModel, recipe: Recipe, precision: str, kind: type[TorchEngine | BatchedTorchEngine]
) -> None:
    with (
        TorchEngine(recipe, model.weights, "cpu") as cpu,
        kind(recipe, model.weights, "cuda", precision) as gpu,
    ):
        for shape in ((2, 120, 160), (1, 1, 1), (9, 33, 47)):
            inputs = images(*shape)
            expected, (found, probabilities) = cpu.infer(inputs)[0]["labels"], gpu.infer(inputs, probabilities=True)
            assert found["labels"].shape == expected.shape
            assert (expected == found["labels"]).mean() > FLOORS[precision] or expected.size < 10
            assert probabilities is not None
            assert np.allclose(probabilities["labels"].sum(1), 1, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("graphs", [True, False])
def test_labels_do_not_depend_on_company_place_repetition_or_graphs(
    model: TinyModel, recipe: Recipe, precision: str, graphs: bool
) -> None:
    inputs, notes = images(8, 90, 121), list[str]()
    with BatchedTorchEngine(
        recipe, model.weights, "cuda", precision, batch=8, graphs=graphs, on_note=notes.append
    ) as engine:
        first = engine.infer(inputs)[0]["labels"]
        for _ in range(4):
            assert np.array_equal(engine.infer(inputs)[0]["labels"], first)
        for chosen in ([5], [0], [7, 2], [3, 2, 1, 0, 6], list(range(7, -1, -1))):
            assert np.array_equal(engine.infer({"color": inputs["color"][chosen]})[0]["labels"], first[chosen])
        assert len(engine._replays) == graphs
    assert notes == []
    with BatchedTorchEngine(recipe, model.weights, "cuda", precision, batch=8, graphs=not graphs) as engine:
        for _ in range(3):
            assert np.array_equal(engine.infer(inputs)[0]["labels"], first)


def test_many_batches_of_many_sizes_in_flight_do_not_mix(model: TinyModel, recipe: Recipe) -> None:
    batches = [images(1 + i % 5, 60 + 17 * (i % 4), 80 + 31 * (i % 3), seed=i) for i in range(60)]
    with BatchedTorchEngine(recipe, model.weights, "cuda", "fp16", batch=4) as engine:
        runs = [[labels["labels"] for labels, _ in engine.infer_many(batches)] for _ in range(2)]
        assert len(engine._replays) > 1
        assert engine.graph_bytes > 0
        for batch, *found in zip(batches, *runs, strict=True):
            expected = engine.infer(batch)[0]["labels"]
            assert all(np.array_equal(labels, expected) for labels in found)


def test_what_is_left_in_flight_is_ended(model: TinyModel, recipe: Recipe) -> None:
    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield from (images(4, 200, 300, seed) for seed in range(6))
        raise KeyboardInterrupt

    with BatchedTorchEngine(recipe, model.weights, "cuda", batch=4) as engine:
        expected = engine.infer(images(4, 200, 300))[0]["labels"]
        with pytest.raises(KeyboardInterrupt):
            list(engine.infer_many(batches()))
        results = engine.infer_many(batches())
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert np.array_equal(engine.infer(images(4, 200, 300))[0]["labels"], expected)
    before = torch.cuda.memory_allocated()
    with BatchedTorchEngine(recipe, model.weights, "cuda", batch=4) as engine:
        for _ in range(3):
            engine.infer(images(4, 200, 300))
    assert torch.cuda.memory_allocated() <= before + (1 << 20)


def test_a_lack_of_memory_halves_batches_then_cuts_tiles(tmp_path: Path) -> None:
    model = make_tiny(tmp_path)
    recipe = find_recipe(model.recipe)
    sizes = {"batches halved": (8, 700, 900), "images cut into tiles": (1, 3001, 2999)}
    for event, shape in sizes.items():
        inputs = images(*shape)
        frames = [Frame(str(i), str(i), {"color": pixels}) for i, pixels in enumerate(inputs["color"])]
        with BatchedTorchEngine(recipe, model.weights, "cuda", batch=8) as engine:
            with TorchEngine(recipe, model.weights, "cuda") as network:
                expected = network.infer(inputs)[0]["labels"]
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 250e6) / total)
            try:
                predictor = Predictor(engine, recipe)
                results = [result for _, result in predictor.stream([frames])]
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
        assert predictor.events[event] >= 1
        found = np.stack([result.labels["labels"] for result in results])  # type: ignore[union-attr]
        assert (found == expected).mean() >= FLOORS["fp32"]


def test_a_capture_that_fails_leaves_the_engine_at_work(
    model: TinyModel, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    inputs = images(2, 50, 60)
    with BatchedTorchEngine(recipe, model.weights, "cuda", batch=2, on_note=notes.append) as engine:
        real = CudaStreams.capture

        def broken(streams: CudaStreams, work: object) -> object:
            def waits() -> None:
                work()  # type: ignore[operator]
                torch.cuda.synchronize()  # which no capture allows

            return real(streams, waits)

        monkeypatch.setattr(CudaStreams, "capture", broken)
        found = [engine.infer(inputs)[0]["labels"] for _ in range(6)]
        assert all(np.array_equal(labels, found[0]) for labels in found)
        assert len(engine._replays) == 0
        assert len(notes) == 1
        assert "launched one by one" in notes[0]
        assert engine.infer(images(2, 70, 60))[0]["labels"].shape == (2, 70, 60)
