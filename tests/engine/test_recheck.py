"""Engines that are verified again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcnseg.engine import cache, recheck
from fcnseg.engine.load import load_engine
from fcnseg.engine.recheck import verify_engine
from fcnseg.engine.record import read_record, write_record
from fcnseg.engine.runtimes.onnx_runtime import reference_engine
from fcnseg.errors import EngineError
from fcnseg.recipes import load_recipe
from tests.conftest import TinyModel, make_tiny
from tests.engine.tiny_engines import refused


def test_a_new_comparison_is_recorded_and_counts(
    coarse: TinyModel, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "copy.engine"
    cache.copy_engine(built, copied)
    record = read_record(copied)
    assert record.verification
    write_record(copied, replace(record, verification=replace(record.verification, images="none")))
    found = verify_engine(copied).verification
    assert found
    assert found.images.endswith("of the example photographs")
    assert read_record(copied).verification == found
    other = make_tiny(tmp_path, stride=32, seed=2)
    monkeypatch.setattr(recheck, "reference_engine", lambda recipe, weights: reference_engine(recipe, other.weights))
    with pytest.raises(EngineError, match="it does not give the network's labels"):
        verify_engine(copied)
    refused(coarse, copied, "does not give the network's labels, worst at")
    assert load_engine(load_recipe(coarse.recipe), copied, require_verified=False)


def test_what_no_device_here_runs_is_not_called_wrong(copied: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    record = read_record(copied)
    write_record(copied, replace(record, identity=replace(record.identity, backend="tensorrt")))
    found = verify_engine(copied)
    assert (found.verification, found.note) == (None, "not verifiable here: tensorrt needs an NVIDIA GPU")
    assert read_record(copied).verification == record.verification
