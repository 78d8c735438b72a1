"""The measurements run on a machine that has torch, onnx and little else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bare
from benchmarks.stand_ins import psutil as memory
from benchmarks.stand_ins.safetensors import SafetensorError, safe_open
from tests.conftest import TinyModel, photograph
from tests.imports import ROOT

ABSENT = "httpx hypothesis openvino platformdirs psutil safetensors simplejpeg textual_image tomli_w zlib_ng"

HIDDEN = f"""
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        installed = spec is not None and "site-packages" in str(spec.origin)
        return None if installed and name.partition(".")[0] in {set(ABSENT.split())} else spec

sys.meta_path[:] = [f for f in sys.meta_path if f not in (BuiltinImporter, FrozenImporter, PathFinder)]
sys.meta_path += [BuiltinImporter, FrozenImporter, Bare]
"""
"""A module that Python imports at its start, in every subprocess too."""


def on_a_bare_machine(tmp_path: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    own = {"PYTHONPATH": str(tmp_path), "FCNSEG_HOME": str(tmp_path / "home"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "benchmarks.bare", *words]
    return subprocess.run(
        command, env={**os.environ, **own}, cwd=ROOT.parent, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_images_are_segmented_there(tiny: TinyModel, tmp_path: Path) -> None:
    photograph(tmp_path / "photos" / "a.jpg", 60, 40)
    done = on_a_bare_machine(
        tmp_path, "fcnseg", "run", tmp_path / "photos", "--out", tmp_path / "masks", *tiny.arguments
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / "a.png").exists()
    assert "stand-ins for packages that are not installed: psutil, safetensors, simplejpeg, zlib_ng" in done.stdout


@pytest.mark.slow
def test_the_tests_for_gpus_are_collected_there(tmp_path: Path) -> None:
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-q", "--collect-only"]
    done = on_a_bare_machine(tmp_path, "pytest", *options, "tests/gpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::test_labels_agree_with_the_network[tensorrt-fp16]" in done.stdout


# ---------------------------------------------------------------------- the stand-ins, beside what they stand in for


def test_nothing_stands_in_for_what_is_installed() -> None:
    assert bare.missing() == []


def test_memory() -> None:
    psutil = pytest.importorskip("psutil")
    if not sys.platform.startswith("linux"):
        pytest.skip("the stand-in reads /proc")
    ours, real = memory.virtual_memory(), psutil.virtual_memory()
    assert ours.total == real.total
    assert abs(ours.available - real.available) < 0.2 * real.total
    assert memory.Process().memory_info().rss == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_headers_of_weights(tiny: TinyModel, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    with safe_open(tiny.weights, "numpy") as ours, safetensors.safe_open(tiny.weights, "numpy") as real:
        assert ours.keys() == list(real.keys())
        assert ours.metadata() == real.metadata()
    (tmp_path / "bad").write_bytes(np.uint64(4).tobytes() + b"junk")
    with pytest.raises(SafetensorError, match="damaged"), safe_open(tmp_path / "bad", "numpy"):
        pass
