"""The hardware and libraries of this machine, and the backends and precisions that they can run."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from fcnseg.engine.options import precisions_of

CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

CPU_FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16", "FEAT_BF16"),
    "int8 dot products": ("avx512_vnni", "avx_vnni", "asimddp", "FEAT_DotProd"),
    "amx": ("amx_tile",),
}
"""Arithmetic that matters to engines, and the flags of /proc/cpuinfo (x86, Arm) or macOS that announce it."""

PACKAGES = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "openvino": ("openvino",),
    "onnx": ("onnx",),
    "onnxscript": ("onnxscript",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "nncf": ("nncf",),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt-rtx",),
}
"""The libraries that engines are made with, as they are imported, and the packages that bring them."""

RUNTIMES = ("torch", "openvino", "tensorrt", "tensorrt_rtx")
"""Those that run a network: `inspect_machine` imports them, because being installed is not yet working."""


@dataclass(frozen=True)
class Library:
    """A library by its import name. `version` None: not installed; `problem`: why it cannot be imported, one line."""

    name: str
    version: str | None
    problem: str | None = None

    @property
    def works(self) -> bool:
        """True if it is installed and, if that was tried, imports."""
        return self.version is not None and self.problem is None


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use; `capability` is CUDA's compute capability, "" for others."""

    device: str
    name: str
    memory_bytes: int
    capability: str
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """A computer. `cores` are those this process may use, `features` keys of CPU_FEATURES; memory is in bytes, within
    the limits of a container. `driver` tells whether an NVIDIA driver is loaded, whatever torch can do with it."""

    system: str
    python: str
    cpu: str
    cores: int
    logical_cores: int
    features: tuple[str, ...]
    memory_bytes: int
    free_memory_bytes: int
    gpus: tuple[Gpu, ...]
    driver: bool
    libraries: dict[str, Library]


def inspect_machine() -> Machine:
    """Look at this machine; imports the installed runtimes, which takes a second or two. Raises nothing."""
    libraries = {name: inspect_library(name) for name in PACKAGES}
    memory = psutil.virtual_memory()
    limit = _memory_limit_bytes()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cpu=cpu_name(),
        cores=usable_cores(),
        logical_cores=os.cpu_count() or 1,
        features=cpu_features(),
        memory_bytes=min(memory.total, limit),
        free_memory_bytes=min(memory.available, limit),
        gpus=_gpus() if libraries["torch"].works else (),
        driver=NVIDIA_DRIVER.exists(),
        libraries=libraries,
    )


# ---------------------------------------------------------------------- processor and memory


@cache
def cpu_name() -> str:
    """Return the processor's own name, e.g. "AMD EPYC 9R14"; the architecture where the system tells no more."""
    name = _cpuinfo().get("model name") or _sysctl("machdep.cpu.brand_string")
    return " ".join((name or platform.processor() or platform.machine() or "unknown processor").split())


def usable_cores() -> int:
    """Count the cores this process may use: its affinity, and a container's share rounded up."""
    known = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    share = _cpu_share()
    return max(1, min(cores, math.ceil(share))) if share else cores


def _cpu_share() -> float | None:
    """Return a container's limit in cores (cgroup v2, then v1); None without one."""
    with suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota_us = int((CGROUP / "cpu/cpu.cfs_quota_us").read_text())
        return quota_us / int((CGROUP / "cpu/cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    return None


def _memory_limit_bytes() -> int:
    """Return a container's memory limit, or more than any machine has."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is no number
            return int((CGROUP / file).read_text())
    return 2**63


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
    return any(gpu.bf16 for gpu in _gpus() if gpu.device in (device, f"{device}:0"))


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


def _gpus() -> tuple[Gpu, ...]:
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        known = torch.cuda.get_device_properties(index)
        capability, bf16 = f"{known.major}.{known.minor}", known.major >= 8
        gpus.append(Gpu(f"cuda:{index}", known.name, known.total_memory, capability, bf16))
    if torch.backends.mps.is_available():
        gpus.append(Gpu("mps", f"{cpu_name()} GPU", torch.mps.recommended_max_memory(), "", True))
    return tuple(gpus)


# ---------------------------------------------------------------------- libraries


def library_version(name: str) -> str | None:
    """Return the installed version of a library by the name of its module or package, None if it is not installed.

    Nothing is imported.
    """
    for package in PACKAGES.get(name, (name,)):
        with suppress(PackageNotFoundError):
            return version(package)
    return None


def inspect_library(name: str) -> Library:
    """Return a library's version and, for one of RUNTIMES, the reason why it does not import, if it does not."""
    installed, problem = library_version(name), None
    if installed is not None and name in RUNTIMES:
        try:
            import_module(name)
        except Exception as error:  # a broken library raises all sorts of errors
            lines = str(error).strip().splitlines() or [type(error).__name__]
            problem = " ".join(lines[0].split())
    return Library(name, installed, problem)


# ---------------------------------------------------------------------- what can run


@dataclass(frozen=True)
class Backend:
    """A backend on this machine: the precisions it `runs`, those it `builds` only (engines for another machine),
    `missing` in words, and the one command that `install`s it; both "" where nothing is missing."""

    name: str
    runs: tuple[str, ...]
    builds: tuple[str, ...] = ()
    missing: str = ""
    install: str = ""


def backends(machine: Machine) -> tuple[Backend, ...]:
    """List every backend on that machine, the fastest kind first."""
    return (
        _tensorrt(machine, "tensorrt", "tensorrt", builds_without_gpu=False),
        _tensorrt(machine, "tensorrt-rtx", "tensorrt_rtx", builds_without_gpu=True),
        _openvino(machine),
        _torch(machine),
    )


def runnable(device: str = "auto") -> dict[str, tuple[str, ...]]:
    """Return the precisions of each backend that run on a device of this machine ("auto": on any)."""
    precisions = {backend.name: backend.runs for backend in backends(inspect_machine())}
    if device == "cpu":
        slow = () if has_bf16() else ("bf16",)
        precisions["torch"] = tuple(p for p in precisions["torch"] if p not in ("fp16", *slow))
        precisions["tensorrt"] = precisions["tensorrt-rtx"] = ()
    return {name: runs for name, runs in precisions.items() if runs}


def _precisions(backend: str, *, bf16: bool, fp16: bool = True, int8: bool = True) -> tuple[str, ...]:
    lacking = {name for name, there in (("bf16", bf16), ("fp16", fp16), ("int8", int8)) if not there}
    return tuple(precision for precision in precisions_of(backend) if precision not in lacking)


def _torch(machine: Machine) -> Backend:
    library, again = machine.libraries["torch"], "pip install --force-reinstall torch torchvision"
    if not library.works:
        return Backend("torch", (), (), _lack(library), again)
    bf16 = any(gpu.bf16 for gpu in machine.gpus) or "bf16" in machine.features
    runs = _precisions("torch", bf16=bf16, fp16=bool(machine.gpus))
    if machine.driver and not machine.gpus:
        return Backend("torch", runs, (), "an NVIDIA driver is loaded, but this torch cannot use it", again)
    return Backend("torch", runs, (), "" if bf16 else "the processor has no bf16 arithmetic")


def _openvino(machine: Machine) -> Backend:
    library = machine.libraries["openvino"]
    if not library.works:
        return Backend("openvino", (), (), _lack(library), "pip install openvino onnx onnxscript")
    if lacking := [name for name in ("onnx", "onnxscript") if not machine.libraries[name].works]:
        return Backend("openvino", (), (), f"building needs {lacking[0]}", f"pip install {' '.join(lacking)}")
    calibrates = machine.libraries["nncf"].works
    runs = _precisions("openvino", bf16="bf16" in machine.features, int8=calibrates)
    if not calibrates:
        return Backend("openvino", runs, (), "int8 needs nncf", "pip install 'fcnseg[int8]'")
    return Backend("openvino", runs)


def _tensorrt(machine: Machine, name: str, module: str, *, builds_without_gpu: bool) -> Backend:
    library = machine.libraries[module]
    if not library.works:
        return Backend(name, (), (), _lack(library), f"pip install 'fcnseg[{name}]'")
    gpus = [gpu for gpu in machine.gpus if gpu.device.startswith("cuda")]
    precisions = _precisions(name, bf16=not gpus or gpus[0].bf16)
    if gpus:
        return Backend(name, precisions)
    return Backend(name, (), precisions if builds_without_gpu else (), "running needs an NVIDIA GPU")


def _lack(library: Library) -> str:
    return f"it does not import: {library.problem}" if library.problem else "not installed"
