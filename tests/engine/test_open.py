"""Engines chosen and opened, with torch as the fallback."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcnseg.engine import open as open_module
from fcnseg.engine.load import model_of
from fcnseg.engine.open import engine_from
from fcnseg.engine.options import BuildHooks, EngineOptions
from fcnseg.engine.record import read_record, write_record
from fcnseg.errors import EngineError, SettingsError
from fcnseg.io.hashing import file_sha256
from fcnseg.io.user_folders import ENGINES
from tests.conftest import TinyModel


def test_an_engine_file_settles_what_else_could_be_stated(coarse: TinyModel, built: Path, tmp_path: Path) -> None:
    model = str(coarse.recipe)
    with pytest.raises(SettingsError, match="leave out --weights and --precision"):
        engine_from(EngineOptions(model, coarse.weights, precision="fp32", engine=built))
    for file in (tmp_path, tmp_path / "absent", Path()):
        with pytest.raises(SettingsError, match="build-engine --out FILE"):
            engine_from(EngineOptions(model, engine=file))
        with pytest.raises(SettingsError, match="build-engine --out FILE"):
            model_of(file)
    assert engine_from(EngineOptions(model, engine=built)).info.file == built


def test_torch_runs_what_cannot_be_built_or_entered(
    coarse: TinyModel, built: Path, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EngineOptions(str(coarse.recipe), coarse.weights)
    pixels = {"color": np.zeros((1, 5, 7, 3), np.uint8)}
    notes: list[str] = []
    own_home.write_text("a file")  # where the cache's folder would be
    monkeypatch.setattr(tempfile, "tempdir", str(own_home))  # and no other place either
    with engine_from(options, BuildHooks(notes.append)) as engine:
        assert (engine.info.backend, engine.info.choice) == ("torch", "openvino cannot be used")
    assert "openvino cannot be used: cannot keep engines in" in notes[0]
    monkeypatch.undo()
    broken = tmp_path / "broken.engine"
    broken.write_bytes(bytes(100))
    write_record(broken, replace(read_record(built), file_sha256=file_sha256(broken), file_bytes=100))
    monkeypatch.setattr(open_module, "fastest_engine", lambda *_: broken)
    notes.clear()
    with engine_from(options, BuildHooks(notes.append)) as engine:
        assert engine.info.backend == "torch"
        assert engine.infer(pixels)[0]["labels"].shape == (1, 5, 7)
    assert "cannot load" in notes[0]
    with pytest.raises(EngineError, match="cannot load"):
        engine_from(replace(options, backend="openvino")).__enter__()


def test_engines_are_kept_in_the_temporary_folder_where_home_cannot_be_written(
    coarse: TinyModel, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENGINES, "")  # undone after the test, whatever it sets
    own_home.write_text("a file")  # where the cache's folder would be
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options = EngineOptions(str(coarse.recipe), coarse.weights, precision="fp32")
    notes: list[str] = []
    with engine_from(options, BuildHooks(notes.append)) as engine:
        assert engine.info.backend == "openvino"
        assert engine.info.file
        assert engine.info.file.is_relative_to(tmp_path / f"fcnseg-{os.getuid()}" / "engines")
    assert re.fullmatch(rf"cannot keep engines in .*; the engine is kept in {tmp_path}/.* instead", notes[0])
    notes.clear()
    with engine_from(options, BuildHooks(notes.append)) as engine:
        assert engine.info.backend == "openvino"
    assert notes == []
