"""Processor and GPUs of this machine (`workers.limits`: the cores and memory that may be used)."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

CPU_FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16", "FEAT_BF16"),
    "int8 dot products": ("avx512_vnni", "avx_vnni", "asimddp", "FEAT_DotProd"),
    "amx": ("amx_tile",),
}
"""Arithmetic that matters to engines, and the flags of /proc/cpuinfo (x86, Arm) or macOS that announce it."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use; `capability` is CUDA's compute capability, "" for others."""

    device: str
    name: str
    memory_bytes: int
    capability: str
    bf16: bool


@cache
def cpu_name() -> str:
    """Return the processor's own name, e.g. "AMD EPYC 9R14"; the architecture where the system tells no more."""
    name = _cpuinfo().get("model name") or _sysctl("machdep.cpu.brand_string")
    return " ".join((name or platform.processor() or platform.machine() or "unknown processor").split())


@cache
def cpu_features() -> tuple[str, ...]:
    """List the keys of CPU_FEATURES that this processor has; empty where the system does not tell."""
    known = _cpuinfo()
    flags = set((known.get("flags") or known.get("features") or "").split())
    flags |= {flag for flag in ("FEAT_BF16", "FEAT_DotProd") if _sysctl(f"hw.optional.arm.{flag}") == "1"}
    return tuple(name for name, tells in CPU_FEATURES.items() if flags & set(tells))


def has_bf16(device: str = "cpu") -> bool:
    """Tell whether a device ("cpu", "cuda", "cuda:N", "mps") computes bfloat16 natively; torch emulates it elsewhere,
    slower than float32."""
    if device.startswith("cpu"):
        return "bf16" in cpu_features()
    return any(gpu.bf16 for gpu in torch_gpus() if gpu.device in (device, f"{device}:0"))


def _cpuinfo() -> dict[str, str]:
    """Read the first processor's lines in /proc/cpuinfo, keys in lower case; empty off Linux."""
    try:
        first = CPUINFO.read_text(errors="replace").strip().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


@cache
def _sysctl(name: str) -> str:
    """Return a value of macOS's sysctl; "" elsewhere."""
    if platform.system() != "Darwin":
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5).stdout.strip()
    return ""


def torch_gpus() -> tuple[Gpu, ...]:
    """List the GPUs that torch can use; loads torch if it is installed."""
    if not find_spec("torch"):
        return ()
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        known = torch.cuda.get_device_properties(index)
        capability, bf16 = f"{known.major}.{known.minor}", known.major >= 8
        gpus.append(Gpu(f"cuda:{index}", known.name, known.total_memory, capability, bf16))
    if torch.backends.mps.is_available():
        gpus.append(Gpu("mps", f"{cpu_name()} GPU", torch.mps.recommended_max_memory(), "", True))
    return tuple(gpus)


def may_have_gpu() -> bool:
    """Tell whether this machine may have a GPU that torch can use, without loading it."""
    return NVIDIA_DRIVER.exists() or platform.system() == "Darwin" or bool(nvidia_gpus())


def nvidia_gpus() -> int:
    """Count the NVIDIA GPUs that the driver offers this process, without loading torch, which takes seconds."""
    driver, count = _cuda_driver(), ctypes.c_int(0)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def cuda_of_driver() -> tuple[int, int] | None:
    """Return the newest CUDA that the NVIDIA driver serves, (major, minor); None without a driver."""
    driver, version = _cuda_driver(), ctypes.c_int(0)
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000, version.value % 1000 // 10


def cuda_capability() -> str:
    """Return the compute capability of the first GPU, like "8.9"; "" where torch can use none, which is loaded only
    where there is one."""
    if not nvidia_gpus() or not find_spec("torch"):
        return ""
    import torch

    return "{}.{}".format(*torch.cuda.get_device_capability()) if torch.cuda.is_available() else ""


def _cuda_driver() -> Any:
    """Load the library of the NVIDIA driver; None where there is none."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
