"""Engines that are built, verified and published, or rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcnseg.engine import builder, cache, lookup
from fcnseg.engine.load import load_engine
from fcnseg.engine.lookup import find_recorded
from fcnseg.engine.record import read_record, record_path
from fcnseg.engine.runtimes.onnx_runtime import reference_engine
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.engine.runtimes.tensorrt import library
from fcnseg.engine.runtimes.tensorrt.library import TensorRTLibrary
from fcnseg.errors import DeviceError, EngineError
from fcnseg.recipes import load_recipe
from tests.conftest import TinyModel, make_tiny, photograph
from tests.engine.runtimes.fake_tensorrt import OLD_DRIVER, FakeModule
from tests.engine.tiny_engines import build_here, request_for


def test_labels_do_not_depend_on_batch_composition(coarse: TinyModel, built: Path) -> None:
    recipe = load_recipe(coarse.recipe)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    with load_engine(recipe, built) as engine, TorchEngine(recipe, coarse.weights, "cpu") as network:
        together = engine.infer({"color": pixels})[0]["labels"]
        assert (together == network.infer({"color": pixels})[0]["labels"]).mean() > 0.999
        for row in range(3):
            assert (together[row] == engine.infer({"color": pixels[row : row + 1]})[0]["labels"][0]).all()
        with pytest.raises(EngineError, match="labels alone"):
            engine.infer({"color": pixels}, probabilities=True)
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"color": pixels})


@pytest.mark.parametrize("geometry", ["same", "caffe"])
def test_int8_is_calibrated_on_the_users_images(geometry: str, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    coarse = make_tiny(tmp_path, stride=32, geometry=geometry)
    for i in range(3):
        photograph(tmp_path / "photos" / f"{i}.png", 90, 70, seed=i)
    file = build_here(coarse, "int8", tmp_path / "int8.engine", images=tmp_path / "photos")
    record = read_record(file)
    assert record.identity.calibration
    assert record.verification
    assert record.verification.images == "3 of the user's images"
    with load_engine(load_recipe(coarse.recipe), file) as engine:  # reads the compiled precision back
        assert engine.info.precision == "int8"


@pytest.mark.usefixtures("own_home")
def test_an_engine_below_the_floor_is_not_published_and_remembered(
    coarse: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_tiny(tmp_path, stride=32, seed=2)
    monkeypatch.setattr(builder, "ReferenceEngine", lambda recipe, graph: reference_engine(recipe, other.weights))
    identity = request_for(coarse).identity
    target = cache.engine_path(identity)
    with pytest.raises(EngineError, match=r"worst at \d+ x \d+, batch .* instead of"):
        build_here(coarse, "fp32", target, min_agreement=0.9999)
    assert not target.exists()
    assert not record_path(target).exists()
    found = lookup.rejected(identity)
    assert found
    assert found.agreement < 0.9999
    build_here(coarse, "fp32", target, min_agreement=0.0)
    assert target.is_file()
    assert lookup.rejected(identity) is None
    assert find_recorded(request_for(coarse)) is None


@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (None, False),
        (EngineError("no such layer"), True),
        (EngineError("TensorRT cannot build: OutOfMemory"), False),
        (DeviceError("the driver is too old"), False),
    ],
)
def test_what_would_fail_again_is_told_from_what_might_not(
    coarse: TinyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: EngineError | None, lasting: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        if error:
            raise error

    monkeypatch.setattr(builder.Builder, "build", fail)
    told: list[Mapping[str, object]] = []
    job = {"requests": [request_for(coarse).as_json()], "out": None, "work": tmp_path, "keep_rejected": False}
    builder._build_all(job, told.append)
    assert told == [{"precision": "fp32", "outcome": str(error or ""), "lasting": lasting}]


def test_a_machine_that_cannot_build_is_told_before_anything_is_made(
    coarse: TinyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error concerns all precisions, and is none of the outcomes that are remembered."""
    request = replace(request_for(coarse), backend="tensorrt")
    old = TensorRTLibrary("tensorrt", FakeModule(null=OLD_DRIVER))
    monkeypatch.setattr(library, "load_library", lambda name: old)
    monkeypatch.setattr(builder, "sample_images", lambda *_: pytest.fail("images were read"))
    told: list[Mapping[str, object]] = []
    job = {"requests": [request.as_json()], "out": None, "work": tmp_path, "keep_rejected": False}
    monkeypatch.setattr(builder, "begin_job", lambda: (job, told.append))
    builder.main()
    assert [message["error"] for message in told] == ["DeviceError"]
