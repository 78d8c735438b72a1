"""PyTorch's engine for GPUs on the processor: the same code but for the streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnseg.engine import open as opening
from fcnseg.engine.options import BuildHooks, EngineOptions
from fcnseg.engine.runtimes import batched, pytorch
from fcnseg.engine.runtimes.batched import BatchedTorchEngine
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.errors import EngineError, ImageError, SettingsError, TooLargeError
from fcnseg.recipes import find_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.types import Frame
from tests.conftest import TinyModel, make_tiny
from tests.engine.runtimes.late_streams import LateEngine

RNG = np.random.default_rng(0)


def images(rows: int, height: int, width: int) -> dict[str, np.ndarray]:
    return {"color": RNG.integers(0, 256, (rows, height, width, 3), dtype=np.uint8)}


def frames_of(inputs: dict[str, np.ndarray]) -> list[Frame]:
    return [Frame(str(i), str(i), {"color": pixels}) for i, pixels in enumerate(inputs["color"])]


@pytest.fixture(scope="module")
def caffe(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_tiny(tmp_path_factory.mktemp("caffe"), geometry="caffe")


@pytest.fixture(scope="module", params=["same", "caffe"])
def engine(request: pytest.FixtureRequest, tiny: TinyModel, caffe: TinyModel) -> Iterator[BatchedTorchEngine]:
    model = tiny if request.param == "same" else caffe
    with BatchedTorchEngine(find_recipe(model.recipe), model.weights, "cpu", batch=4) as opened:
        yield opened


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.data())
def test_labels_are_the_same_alone_in_any_batch_and_at_any_place(
    engine: BatchedTorchEngine, height: int, width: int, rows: int, data: st.DataObject
) -> None:
    inputs = images(rows, height, width)
    together, values = engine.infer(inputs, probabilities=True)
    order = data.draw(st.permutations(range(rows)))[: data.draw(st.integers(1, rows))]
    for chosen in (order, order[:1]):
        labels, own = engine.infer({"color": inputs["color"][chosen]}, probabilities=True)
        assert labels["labels"].tobytes() == together["labels"][chosen].tobytes()
        assert values is not None
        assert own is not None
        assert own["labels"].tobytes() == values["labels"][chosen].tobytes()
        assert engine.infer({"color": inputs["color"][chosen]})[0]["labels"].tobytes() == labels["labels"].tobytes()


def test_labels_are_those_of_the_network(engine: BatchedTorchEngine) -> None:
    with TorchEngine(engine.recipe, engine.weights, "cpu") as network:
        for shape in ((3, 60, 80), (1, 1, 1), (5, 33, 17)):
            inputs = images(*shape)
            (labels, found), (expected, wanted) = (e.infer(inputs, probabilities=True) for e in (engine, network))
            assert found is not None
            assert wanted is not None
            assert np.abs(found["labels"] - wanted["labels"]).max() < 1e-4
            assert (labels["labels"] == expected["labels"]).mean() > 0.999
            assert labels["labels"].dtype == np.uint8


@pytest.mark.parametrize(
    "options",
    [
        {"streams": "depth", "stride": 32, "geometry": "caffe"},
        {"streams": "hha", "stride": 32, "geometry": "caffe"},
        {"heads": 2, "stride": 16},
        {"classes": 300, "stride": 32},
        {"backbone": "alexnet", "stride": 32},
        {"backbone": "googlenet", "stride": 32},
    ],
    ids=["early fusion", "late fusion", "two heads", "300 classes", "alexnet", "googlenet"],
)
def test_every_kind_of_network(tmp_path: Path, options: dict[str, Any]) -> None:
    model = make_tiny(tmp_path, **options)
    recipe = find_recipe(model.recipe)
    inputs = {"color": images(3, 40, 50)["color"]}
    if "hha" in recipe.modalities:
        inputs["hha"] = images(3, 40, 50)["color"]
    if "depth" in recipe.modalities:
        inputs["depth"] = RNG.uniform(0, 9000, (3, 40, 50, 1)).astype(np.float32)
    with (
        BatchedTorchEngine(recipe, model.weights, "cpu", batch=2) as engine,
        TorchEngine(recipe, model.weights, "cpu") as network,
    ):
        (labels, found), (expected, wanted) = (e.infer(inputs, probabilities=True) for e in (engine, network))
    assert found is not None
    assert wanted is not None
    for head in expected:
        assert labels[head].dtype == expected[head].dtype
        assert np.abs(found[head] - wanted[head]).max() < 1e-3
        assert (labels[head] == expected[head]).mean() > 0.99


def test_bfloat16_nearly_agrees_and_keeps_to_itself(caffe: TinyModel) -> None:
    recipe, inputs = find_recipe(caffe.recipe), images(3, 60, 80)
    with (
        BatchedTorchEngine(recipe, caffe.weights, "cpu", "bf16", batch=3) as engine,
        TorchEngine(recipe, caffe.weights, "cpu", "bf16") as network,
    ):
        labels = engine.infer(inputs)[0]["labels"]
        assert (labels == network.infer(inputs)[0]["labels"]).mean() > 0.95
        assert np.array_equal(engine.infer({"color": inputs["color"][2:]})[0]["labels"], labels[2:])


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("batch", "size", "computed"),
    [(None, (360, 480), 8), (None, (10, 10), 8), (None, (720, 480), 4), (None, (2000, 3000), 1), (3, (2000, 3000), 3)],
)
def test_batches_have_one_size_for_each_size_of_images(batch: int | None, size: tuple[int, int], computed: int) -> None:
    with BatchedTorchEngine(find_recipe("street-fcn8s"), None, "cpu", batch=batch) as engine:
        assert {engine._rows_computed(rows, *size) for rows in (1, 2, 9)} == {computed}
        assert engine.info.max_batch == (batch or 8)


def test_maps_that_kernels_cannot_count_are_too_large(tiny: TinyModel) -> None:
    with BatchedTorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu", batch=64) as engine:
        assert engine._rows_computed(1, 2000, 2000) < 64
        wide = np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (1, 60_000, 60_000, 3))
        with pytest.raises(TooLargeError):
            engine.infer({"color": wide})


def lacking(engine: BatchedTorchEngine, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the network run out of memory in batches of more than `most`; returns the sizes of those that run."""
    real, ran = engine._compute, list[int]()

    def compute(inputs: Any, outputs: Any) -> None:
        rows = len(inputs["color"])
        if rows > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        ran.append(rows)
        real(inputs, outputs)

    monkeypatch.setattr(engine, "_compute", compute)
    return ran


def test_a_lack_of_memory_halves_the_batch_for_good(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = images(7, 20, 30)
    with BatchedTorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu", batch=8) as engine:
        expected = engine.infer(inputs)[0]["labels"]
        ran = lacking(engine, 2, monkeypatch)
        predictor = Predictor(engine, engine.recipe)
        results = list(predictor.stream([frames_of(inputs), frames_of(inputs)]))
        assert np.array_equal([r.labels["labels"] for _, r in results], [*expected, *expected])  # type: ignore[union-attr]
        assert set(ran) == {2}
        assert predictor.events == {"batches halved": 2}
        assert engine._rows_computed(1, 10, 10) == 8  # smaller ones fit
        assert engine._rows_computed(1, 40, 30) == 1


def test_what_does_not_fit_alone_is_cut_into_tiles(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    (frame,) = frames_of(images(1, 32, 1600))
    with BatchedTorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu", batch=2) as engine:
        expected = engine.infer({"color": frame.inputs["color"][None]})[0]["labels"][0]
        real = engine._compute

        def compute(inputs: Any, outputs: Any) -> None:
            if inputs["color"].numel() > 3 * 32 * 1500:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            real(inputs, outputs)

        monkeypatch.setattr(engine, "_compute", compute)
        predictor = Predictor(engine, engine.recipe)
        (found,) = (result for _, result in predictor.stream([[frame]]))
    assert predictor.events["images cut into tiles"] == 1
    assert (found.labels["labels"] == expected).mean() > 0.999  # type: ignore[union-attr]


def test_graphs_are_given_up_before_batches_are_halved(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    small, large = images(4, 20, 30), images(4, 40, 30)
    with BatchedTorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu", batch=4, on_note=notes.append) as engine:
        for _ in range(3):
            expected = engine.infer(small)[0]["labels"]
        assert len(engine._replays) == 1
        real = engine._compute

        def compute(inputs: Any, outputs: Any) -> None:
            if len(engine._replays):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            real(inputs, outputs)

        monkeypatch.setattr(engine, "_compute", compute)
        assert engine.infer(large)[0]["labels"].shape == (4, 40, 30)
        assert engine.events == {}
        assert [note for note in notes if "given up for their memory" in note] == notes
        assert np.array_equal(engine.infer(small)[0]["labels"], expected)


def test_what_fails_otherwise_ends_the_run(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be")

    with BatchedTorchEngine(find_recipe(tiny.recipe), tiny.weights, "cpu") as engine:
        monkeypatch.setattr(engine, "_compute", fail)
        with pytest.raises(
            EngineError, match=r"^torch failed: CUDA error: an illegal memory access was encountered; use"
        ):
            engine.infer(images(1, 9, 9))


# ---------------------------------------------------------------------- in flight


@pytest.fixture
def late(caffe: TinyModel) -> Iterator[LateEngine]:
    with LateEngine(find_recipe(caffe.recipe), caffe.weights, "cpu", batch=3) as opened:
        yield opened


def test_batches_in_flight_do_not_mix(late: LateEngine) -> None:
    batches = [images(1 + i % 5, 20 + i % 3, 30) for i in range(12)]
    found = [labels["labels"] for labels, _ in late.infer_many(batches)]
    assert late.late.most_in_flight == 3
    with BatchedTorchEngine(late.recipe, late.weights, "cpu", batch=3) as engine:
        for labels, batch in zip(found, batches, strict=True):
            assert np.array_equal(labels, engine.infer(batch)[0]["labels"])


def test_an_image_that_fails_leaves_the_others_theirs(late: LateEngine) -> None:
    """Whatever is in flight when a batch is refused is computed again, and each image keeps its own result."""
    good = [frames_of(images(3, 20, 30)) for _ in range(4)]
    bad = [Frame("bad", "bad", {"color": np.zeros((20, 30, 3), np.float32)})]
    results = {id(frame): result for frame, result in Predictor(late, late.recipe).stream([*good[:2], bad, *good[2:]])}
    assert isinstance(results[id(bad[0])], ImageError)
    for frame in (f for batch in good for f in batch):
        alone = late.infer({"color": frame.inputs["color"][None]})[0]["labels"][0]
        assert np.array_equal(results[id(frame)].labels["labels"], alone)  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["closed", "interrupted"])
def test_nothing_is_in_flight_when_it_was_left(late: LateEngine, how: str) -> None:
    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield from (images(3, 20, 30) for _ in range(5))
        raise KeyboardInterrupt

    results = late.infer_many(batches())
    next(results)
    assert not late.late.idle
    with pytest.raises(EngineError, match="busy"):
        late.infer(images(1, 9, 9))
    if how == "closed":
        results.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(KeyboardInterrupt):
            list(results)
    assert late.late.idle
    assert late.infer(images(1, 9, 9))[0]["labels"].shape == (1, 9, 9)


def test_closing_ends_what_is_in_flight(late: LateEngine) -> None:
    results = late.infer_many(images(3, 20, 30) for _ in range(5))
    next(results)
    late.close()
    assert late.late.idle
    with pytest.raises(EngineError, match="closed"):
        late.infer(images(1, 9, 9))


# ---------------------------------------------------------------------- opening


def test_a_gpu_gets_batches_and_the_run_its_size(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    options = EngineOptions(str(tiny.recipe), tiny.weights, "torch")
    assert type(opening.engine_from(options, batch=5)) is TorchEngine
    monkeypatch.setattr(pytorch, "find_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(batched, "find_device", lambda name: torch.device("cuda"))
    notes: list[str] = []
    engine = opening.engine_from(options, BuildHooks(notes.append), batch=5)
    assert isinstance(engine, BatchedTorchEngine)
    assert (engine.batch, engine.precision) == (5, "fp32")
    engine.on_note("told")
    assert notes == ["told"]


def test_what_has_no_such_streams_is_refused(tiny: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "find_device", lambda name: torch.device("mps"))
    with pytest.raises(SettingsError, match="not for mps"):
        BatchedTorchEngine(find_recipe(tiny.recipe), tiny.weights)


def test_exact_arithmetic_is_put_back() -> None:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul

    def state() -> list[object]:
        precisions = [cudnn.conv.fp32_precision, products.fp32_precision] if hasattr(cudnn, "conv") else []
        return [cudnn.benchmark, cudnn.deterministic, *precisions]

    before = state()
    within: list[object] = []

    def interrupted() -> None:
        with pytorch.exact_arithmetic(torch.device("cuda")):
            within.extend(state())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert within[:2] == [False, True]
    assert set(within[2:]) <= {"ieee"}
    assert state() == before
    with pytorch.exact_arithmetic(torch.device("cpu")):
        assert state() == before
