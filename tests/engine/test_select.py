"""Which runtime is chosen, and what cannot be."""

import pytest
import torch

from fcnseg.engine import select
from fcnseg.engine.select import candidate_precisions, choose_backend
from fcnseg.errors import EngineError, SettingsError


@pytest.mark.parametrize(
    ("gpus", "installed", "device", "precision", "backend"),
    [
        (1, {"tensorrt", "tensorrt_rtx", "openvino"}, "auto", "auto", "tensorrt"),
        (1, {"tensorrt_rtx", "openvino"}, "cuda:0", "auto", "tensorrt-rtx"),
        (1, {"openvino"}, "auto", "auto", "torch"),
        (2, {"tensorrt", "openvino"}, "cuda:1", "auto", "torch"),
        (1, {"tensorrt", "openvino"}, "cpu", "auto", "openvino"),
        (0, {"tensorrt", "openvino"}, "auto", "auto", "openvino"),
        (0, set(), "auto", "auto", "torch"),
        (0, {"openvino"}, "mps", "auto", "torch"),
        (1, {"openvino"}, "auto", "fp16", "torch"),
    ],
)
def test_auto_follows_what_is_here(
    monkeypatch: pytest.MonkeyPatch, gpus: int, installed: set[str], device: str, precision: str, backend: str
) -> None:
    monkeypatch.setattr(select, "nvidia_gpus", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(select, "find_spec", lambda name: name if name in {"torch", *installed} else None)
    found, why = choose_backend("auto", device, precision)
    assert found == backend
    assert why
    if device == "cuda:1":
        assert why == "TensorRT engines run on the first GPU, not on cuda:1"


def test_a_gpu_that_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "nvidia_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = "an NVIDIA GPU is here, but this torch cannot use it"
    assert choose_backend("auto", "auto", "auto") == ("openvino", said)
    assert choose_backend("auto", "cpu", "auto") == ("openvino", "on the processor")
    with pytest.raises(EngineError, match=said):
        choose_backend("auto", "cuda", "auto")


def test_rtx_is_not_chosen_for_a_gpu_that_it_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(select, "lacking_cuda", lambda: "")
    monkeypatch.setattr(select, "find_spec", lambda name: name if name != "tensorrt" else None)
    monkeypatch.setattr(select, "cuda_capability", lambda: "9.0")
    refused = "torch", "tensorrt-rtx does not serve GPUs of compute capability 9.0"
    assert choose_backend("auto", "auto", "auto") == refused
    monkeypatch.setattr(select, "cuda_capability", lambda: "8.9")
    assert choose_backend("auto", "auto", "auto")[0] == "tensorrt-rtx"
    monkeypatch.setattr(select, "find_spec", lambda name: name)  # TensorRT is here too
    monkeypatch.setattr(select, "cuda_capability", lambda: "9.0")
    assert choose_backend("auto", "auto", "auto")[0] == "tensorrt"


@pytest.mark.parametrize(
    ("backend", "device", "says"),
    [
        ("caffe", "cpu", "use auto, torch, openvino"),
        ("auto", "gpu", "use auto, cpu, cuda"),
        ("openvino", "cuda", "use --device cpu"),
        ("tensorrt", "cpu", "runs on NVIDIA GPUs"),
        ("tensorrt", "cuda:1", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_cannot_be_is_refused(backend: str, device: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        choose_backend(backend, device, "auto")


def test_half_floats_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "nvidia_gpus", lambda: 0)
    with pytest.raises(SettingsError, match="fp16 is for GPUs"):
        choose_backend("auto", "auto", "fp16")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "nvidia_gpus", lambda: 0)
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        choose_backend("auto", "cuda", "auto")


@pytest.mark.parametrize(("bf16", "found"), [(True, ["fp16", "bf16", "fp32"]), (False, ["fp16", "fp32"])])
def test_bf16_is_tried_on_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch, bf16: bool, found: list[str]) -> None:
    monkeypatch.setattr(select, "has_bf16", lambda device: bf16)
    assert candidate_precisions("tensorrt", calibrate=False) == found
    assert candidate_precisions("tensorrt", calibrate=True) == ["int8", *found]


def test_int8_is_tried_only_when_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "int8" not in candidate_precisions("openvino", calibrate=False)
    assert candidate_precisions("openvino", calibrate=True)[0] == "int8"
    assert "fp32" in candidate_precisions("openvino", calibrate=False)
    monkeypatch.setattr(select, "find_spec", lambda name: None if name == "nncf" else name)
    assert "int8" not in candidate_precisions("openvino", calibrate=True)


def test_a_gpu_without_torch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "nvidia_gpus", lambda: 1)
    monkeypatch.setattr(select, "find_spec", lambda name: name if name == "openvino" else None)
    assert choose_backend("auto", "auto", "auto") == (
        "openvino",
        "an NVIDIA GPU is here, but torch is not: `pip install torch` installs it",
    )
    with pytest.raises(EngineError, match="pip install torch"):
        choose_backend("auto", "cuda", "auto")
