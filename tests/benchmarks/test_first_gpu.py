"""The first ten minutes on a GPU, without one: the steps run on a library that behaves as the real one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import numpy as np
import pytest
import torch

from benchmarks import first_gpu
from fcnseg.engine.hardware import Gpu
from fcnseg.engine.runtimes.tensorrt import engine as tensorrt_runtime
from fcnseg.engine.runtimes.tensorrt.plan import Plan
from fcnseg.recipes import Recipe
from tests.engine.runtimes.fake_tensorrt import FakePlan, FakeStream

RANGE = (1, 1, 1), (8, 1024, 1024)


class FakeNetwork:
    """torch's engine, with the labels of the fake plan."""

    def __init__(self, recipe: Recipe, weights: None, device: str) -> None:
        assert (device, weights) == ("cuda", None)
        self.recipe = recipe

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infer(self, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], None]:
        return {"labels": inputs["color"][..., 0] % 5}, None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with a GPU, of which the steps see nothing else; lists the libraries that plans were loaded by."""
    used: list[str] = []

    def load(name: str) -> object:
        used.append(name)
        return FakePlan([RANGE]).library(name=name)

    for name, value in {
        "has_gpu": lambda: True,
        "find_spec": lambda module: module,
        "serves": lambda name, capability: True,
        "torch_gpus": lambda: (Gpu("cuda:0", "a GPU", 8 << 30, "8.9", True),),
        "load_library": load,
        "plan_of": lambda *_, **__: Plan(memoryview(b"plan"), is_static=True),
        "image_seconds": lambda *_: 0.01,
        "TorchEngine": FakeNetwork,
        "photograph": lambda rows=1: {"color": np.zeros((rows, 30, 40, 3), np.uint8)},
    }.items():
        monkeypatch.setattr(first_gpu, name, value)
    for name, value in {"load_library": load, "find_device": torch.device, "CudaStreams": FakeStream}.items():
        monkeypatch.setattr(tensorrt_runtime, name, value)
    return used


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("street fp16", r"1 x 1 gives class 0, 100\.0000% of a photograph"),
        (
            "voc fp16 without margins",
            r"skip margins: built in .* memory planned, 0\.00 / 0\.01 / 0\.08 GiB .* 100 images/s",
        ),
        ("layers", r"8\.0 ms a batch of 8; deconvolutions 25%.*slowest: conv1_1_myl0_3 75%"),
        ("in flight", r"12 batches are equal, 100\.0000% alike alone and in a batch, 100\.0000% of a tiled"),
        ("rtx kernels", r"none: start .* labels stay; eager: .*; lazy: .* labels stay"),
    ],
)
def test_each_step_says_what_it_found(gpu: list[str], tmp_path: Path, step: str, said: str) -> None:
    line = " ".join(first_gpu.STEPS[step][0](tmp_path).split())
    assert re.search(said, line), line
    assert set(gpu) == {"tensorrt-rtx" if step == "rtx kernels" else "tensorrt"}


def test_what_cannot_be_done_is_skipped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(first_gpu, "find_spec", lambda module: module)
    monkeypatch.setattr(first_gpu, "has_gpu", lambda: False)
    first_gpu.do("street fp16")
    monkeypatch.setattr(first_gpu, "find_spec", lambda module: None)
    first_gpu.do("layers")
    first_gpu.do("start")
    assert capsys.readouterr().out.splitlines() == [
        "skipped: torch finds no CUDA device",
        f"skipped: neither TensorRT nor TensorRT-RTX is installed; pip install {first_gpu.package_for('tensorrt')}",
        "nothing to start",
    ]


def test_made_up_weights_are_those_of_a_whole_network() -> None:
    weights = first_gpu.weights_of(first_gpu.find_recipe(first_gpu.VOC))
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    assert sum(array.size for array in weights.values()) > 134_000_000


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_real_plans_are_built(tmp_path: Path, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert first_gpu.plan_of(tmp_path, first_gpu.STREET, precision, name="tensorrt-rtx").is_static


def test_a_step_that_fails_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(0, 10_000, 100))
    monkeypatch.setattr(first_gpu, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setattr(first_gpu.sys, "argv", ["first_gpu"])

    def run(name: str, _seconds: float) -> tuple[str, bool]:
        return ("FAILED: it died", False) if name == "start" else ("well", True)

    monkeypatch.setattr(first_gpu, "run_apart", run)
    assert first_gpu.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["versions: well", "start: FAILED: it died", "street fp16: well"]
    assert lines[-1] == "rtx kernels: left out: the time is over"
    assert len(lines) == len(first_gpu.STEPS)


def test_a_step_that_dies_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$3" = hangs ] && exec sleep 60\necho "its last words" >&2\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setattr(first_gpu.sys, "executable", str(python))
    line, well = first_gpu.run_apart("dies", 30)
    assert (line.partition(" [")[0], well) == ("FAILED: its last words", False)
    assert first_gpu.run_apart("hangs", 0.2) == ("FAILED: not done in 0 s", False)
