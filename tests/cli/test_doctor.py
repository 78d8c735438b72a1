import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fcnseg.engine.select import choose_backend
from tests.conftest import Outcome

Command = Callable[..., Outcome]


def test_the_document_says_what_is_here(fcnseg: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FCNSEG_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "x.safetensors").write_bytes(bytes(1000))
    done = fcnseg("doctor", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert set(found) == {"fcnseg", "machine", "backends", "auto", "failed", "folders", "plugins"}
    assert found["machine"]["libraries"]["torch"]["version"]
    assert [b["name"] for b in found["backends"]] == ["tensorrt", "tensorrt-rtx", "openvino", "torch"]
    assert (found["auto"]["backend"], found["auto"]["why"]) == choose_backend("auto", "auto", "auto")
    assert found["folders"]["weights"]["path"] == str(tmp_path / "weights")
    assert found["folders"]["weights"]["size_bytes"] == 1000
    assert found["folders"]["engines"]["size_bytes"] == 0
    assert found["folders"]["engines"]["free_bytes"] > 0


def test_names_that_are_no_text_are_escaped(fcnseg: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / os.fsdecode(b"\xff")
    monkeypatch.setenv("FCNSEG_HOME", str(home))
    assert json.loads(fcnseg("doctor", "--json").out)["folders"]["engines"]["path"] == str(home / "engines")
    assert r"\xff/engines" in fcnseg("doctor").out


def test_the_text_names_every_library_and_backend(fcnseg: Command) -> None:
    done = fcnseg("doctor")
    assert done.code == 0
    for name in ("processor", "memory", "torch", "openvino", "tensorrt-rtx", "auto picks", "weights"):
        assert any(line.strip().startswith(name) for line in done.out.splitlines()), name


def test_a_broken_library_is_told_and_nothing_crashes(
    fcnseg: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("raise ImportError('libnvinfer.so.99 is [missing]')")
    (tmp_path / "tensorrt-99.dist-info").mkdir()
    (tmp_path / "tensorrt-99.dist-info" / "METADATA").write_text("Name: tensorrt\nVersion: 99\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = fcnseg("doctor")
    assert done.code == 0
    assert "99, does not import: libnvinfer.so.99 is [missing]" in done.out
    assert "pip install torch tensorrt" in done.out
