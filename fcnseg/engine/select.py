"""Select the backend and the precisions to use on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec

from fcnseg.engine.hardware import cuda_capability, has_bf16, nvidia_gpus
from fcnseg.engine.options import BACKENDS, check_precision
from fcnseg.engine.runtimes.tensorrt.library import serves
from fcnseg.errors import EngineError, SettingsError, installs


def choose_backend(backend: str, device: str, precision: str) -> tuple[str, str]:
    """Return the backend that "auto" means here, and the reason in a few words; any other is returned as it is.

    TensorRT on NVIDIA GPUs, else torch there; on processors OpenVINO, else torch. Raises SettingsError for unknown
    names and for a backend that cannot use the device, EngineError for a GPU that is not there.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise SettingsError(f"device {device!r} is unknown; use auto, cpu, cuda, cuda:N or mps")
    if backend.startswith("tensorrt") and device.startswith("cuda:") and device != "cuda:0":
        raise SettingsError(f"TensorRT engines run on the first GPU; choose {device} with CUDA_VISIBLE_DEVICES")
    on_gpu = device.startswith(("cuda", "mps"))
    if backend != "auto":
        if backend not in BACKENDS:
            raise SettingsError(f"backend {backend!r} is unknown; use auto, {', '.join(BACKENDS)}")
        if backend == "openvino" and on_gpu:
            raise SettingsError(f"OpenVINO runs on the processor here, not on {device}; use --device cpu")
        if backend.startswith("tensorrt") and device in ("cpu", "mps"):
            raise SettingsError(f"TensorRT runs on NVIDIA GPUs, not on {device}; use --backend openvino or torch")
        return backend, "as asked"
    lack = "" if device in ("cpu", "mps") else lacking_cuda()
    if device.startswith("cuda") and lack:
        raise EngineError(f"device {device} cannot be used ({lack}); use --device cpu")
    if device not in ("cpu", "mps") and not lack:
        return _on_nvidia(device)
    if device == "mps":
        return "torch", "it alone runs on mps"
    check_precision(precision, on_processor=True)
    if find_spec("openvino"):
        return "openvino", lack or "on the processor"
    return "torch", "OpenVINO is not installed"


def _on_nvidia(device: str) -> tuple[str, str]:
    libraries = [name for name in ("tensorrt", "tensorrt-rtx") if find_spec(name.replace("-", "_"))]
    if not libraries:
        return "torch", "an NVIDIA GPU is here, TensorRT is not"
    if device not in ("auto", "cuda", "cuda:0"):
        return "torch", f"TensorRT engines run on the first GPU, not on {device}"
    if not serves(libraries[0], capability := cuda_capability()):
        return "torch", f"{libraries[0]} does not serve GPUs of compute capability {capability}"
    return libraries[0], "an NVIDIA GPU and TensorRT are here"


def candidate_precisions(
    backend: str, *, calibrate: bool, on_note: Callable[[str], None] = lambda line: None
) -> list[str]:
    """List what precision "auto" tries on a compiled backend: every one that the device computes in.

    int8 is tried only of an engine that can be calibrated, and on OpenVINO where NNCF is installed (else a note says
    so).
    """
    if backend == "openvino":
        from fcnseg.engine.runtimes.openvino import processor_has

        precisions = [p for p in ("bf16", "fp32") if processor_has(p)]
        if calibrate and find_spec("nncf") is None:
            on_note(f"int8 is left out: it needs nncf; {installs('nncf')}")
            calibrate = False
    else:
        precisions = ["fp16", *(["bf16"] if has_bf16("cuda") else []), "fp32"]
    return (["int8"] if calibrate else []) + precisions


def lacking_cuda() -> str:
    """Say what is missing to run on an NVIDIA GPU here; "" if nothing is. Loads torch only where there is a GPU."""
    if not nvidia_gpus():
        return "no NVIDIA GPU"
    if not find_spec("torch"):
        return f"an NVIDIA GPU is here, but torch is not: {installs('torch')}"
    import torch

    return "" if torch.cuda.is_available() else "an NVIDIA GPU is here, but this torch cannot use it"
