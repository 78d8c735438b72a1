"""Engines that are built, verified and published, or rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcnseg.engine import builder, cache, lookup
from fcnseg.engine.load import load_engine
from fcnseg.engine.lookup import find_recorded
from fcnseg.engine.record import read_record, record_path
from fcnseg.engine.runtimes.onnx_runtime import reference_engine
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.errors import EngineError
from fcnseg.recipes import load_recipe
from tests.conftest import TinyModel, make_tiny, photograph
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
