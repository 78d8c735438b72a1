"""The libraries of this machine, and the backends and precisions that they can run on it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import psutil

from fcnseg.engine.hardware import (
    NVIDIA_DRIVER,
    Gpu,
    cpu_features,
    cpu_name,
    has_bf16,
    may_have_gpu,
    torch_gpus,
)
from fcnseg.engine.options import precisions_of
from fcnseg.engine.runtimes.tensorrt.library import serves
from fcnseg.engine.runtimes.tensorrt.packages import package_for, packages_of
from fcnseg.workers.limits import free_memory_bytes, memory_limit_bytes, usable_cores

PACKAGES = {
    "torch": ("torch",),
    "openvino": ("openvino",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "nncf": ("nncf",),
    "tensorrt": packages_of("tensorrt"),
    "tensorrt_rtx": packages_of("tensorrt-rtx"),
}
"""The libraries that engines are made with, as they are imported, and the packages that bring them."""

IMPORTED = ("torch", "openvino", "tensorrt", "tensorrt_rtx")
"""Those that run a network: `inspect_machine` imports them, because being installed is not yet working; torch, which
is needed for GPUs alone, where there may be one."""


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
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cpu=cpu_name(),
        cores=usable_cores(),
        logical_cores=os.cpu_count() or 1,
        features=cpu_features(),
        memory_bytes=min(psutil.virtual_memory().total, memory_limit_bytes()),
        free_memory_bytes=free_memory_bytes(),
        gpus=torch_gpus() if libraries["torch"].works and may_have_gpu() else (),
        driver=NVIDIA_DRIVER.exists(),
        libraries=libraries,
    )


def library_version(name: str) -> str | None:
    """Return the installed version of a library by the name of its module or package, None if it is not installed.

    Nothing is imported.
    """
    for package in PACKAGES.get(name, (name,)):
        with suppress(PackageNotFoundError):
            return version(package)
    return None


def inspect_library(name: str) -> Library:
    """Return a library's version and, for one of IMPORTED, the reason why it does not import, if it does not."""
    installed, problem = library_version(name), None
    if name in IMPORTED and (name != "torch" or may_have_gpu()) and (installed or _is_a_module(name)):
        try:
            module = import_module(name)
            if len(PACKAGES[name]) > 1:  # the package may be an older one, whose files another has overwritten
                installed = getattr(module, "__version__", installed)
        except Exception as error:  # a broken library raises all sorts of errors
            lines = str(error).strip().splitlines() or [type(error).__name__]
            problem = " ".join(lines[0].split())
            installed = installed or "unknown version"
    return Library(name, installed, problem)


def _is_a_module(name: str) -> bool:
    """Tell whether a module is there, of whatever package: the system's own have no name of ours."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None  # else a folder that is left of it


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
    library, again = machine.libraries["torch"], "pip install --force-reinstall torch"
    if library.version is None:
        return Backend("torch", (), (), _lack(library), "pip install torch tensorboardx")
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
        return Backend("openvino", (), (), _lack(library), "pip install openvino onnx onnxruntime")
    if lacking := [name for name in ("onnx", "onnxruntime") if not machine.libraries[name].works]:
        return Backend("openvino", (), (), f"building needs {lacking[0]}", f"pip install {' '.join(lacking)}")
    calibrates = machine.libraries["nncf"].works
    runs = _precisions("openvino", bf16="bf16" in machine.features, int8=calibrates)
    if not calibrates:
        return Backend("openvino", runs, (), "int8 needs nncf", "pip install nncf")
    return Backend("openvino", runs)


def _tensorrt(machine: Machine, name: str, module: str, *, builds_without_gpu: bool) -> Backend:
    library = machine.libraries[module]
    if not library.works:
        return Backend(name, (), (), _lack(library), f"pip install torch {package_for(name)}")
    gpus = [gpu for gpu in machine.gpus if gpu.device.startswith("cuda")]
    precisions = _precisions(name, bf16=not gpus or gpus[0].bf16)
    if gpus and not serves(name, gpus[0].capability):
        return Backend(name, (), (), f"it does not serve GPUs of compute capability {gpus[0].capability}")
    if gpus:
        return Backend(name, precisions)
    return Backend(name, (), precisions if builds_without_gpu else (), "running needs an NVIDIA GPU")


def _lack(library: Library) -> str:
    return f"it does not import: {library.problem}" if library.problem else "not installed"
