"""The packages that bring TensorRT and TensorRT-RTX: one name for each major version of CUDA, and one for the newest.

NVIDIA publishes `tensorrt-cu12`, `tensorrt-cu13`, and `tensorrt`, which is the newest of these; likewise
`tensorrt-rtx`. All bring the same module. Their libraries need a driver of that CUDA or a newer one.
"""

from __future__ import annotations

from importlib.util import find_spec

from fcnseg.engine.hardware import cuda_of_driver

MODULES = {"tensorrt": ("tensorrt", "TensorRT"), "tensorrt-rtx": ("tensorrt_rtx", "TensorRT-RTX")}
"""Each library's module and its name in messages, by the name of the backend."""

CUDA_MAJORS = (13, 12)
"""The versions of CUDA that current packages are built for."""


def packages_of(backend: str) -> tuple[str, ...]:
    """List the packages that bring a library."""
    return (backend, *(f"{backend}-cu{major}" for major in CUDA_MAJORS))


def package_for(backend: str) -> str:
    """Return the package that suits this machine: for the CUDA of its driver and of its torch, the older of the two."""
    driver = cuda_of_driver()
    if driver is None:
        return backend
    major = min(driver[0], _cuda_of_torch() or driver[0])
    return f"{backend}-cu{max(min(major, max(CUDA_MAJORS)), min(CUDA_MAJORS))}"


def _cuda_of_torch() -> int | None:
    """Return the major version of the CUDA that torch brings; None where there is no torch, or one without CUDA."""
    if not find_spec("torch"):
        return None
    import torch

    major = (torch.version.cuda or "").partition(".")[0]
    return int(major) if major else None
