"""Fixtures of engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcnseg.engine.record import read_record, write_record
from fcnseg.engine.runtimes import openvino
from tests.conftest import TinyModel, make_tiny
from tests.engine.tiny_engines import build_here


@pytest.fixture(scope="session")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The smallest network there is."""
    return make_tiny(tmp_path_factory.mktemp("coarse"), stride=32)


@pytest.fixture(scope="session")
def built(coarse: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 engine of the small network."""
    return build_here(coarse, "fp32", tmp_path_factory.mktemp("built") / "fp32.engine", min_agreement=0.9999)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def copied(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the engine with its record; the library must not see it."""
    file = tmp_path / "copy.engine"
    file.write_bytes(built.read_bytes())
    write_record(file, read_record(built))
    monkeypatch.setattr(openvino, "_core", lambda: pytest.fail("the library was handed the file"))
    return file
