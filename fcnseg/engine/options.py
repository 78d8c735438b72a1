"""Options of an engine, and the one table of precisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fcnseg.engine.runtimes import RUNTIMES
from fcnseg.errors import SettingsError
from fcnseg.recipes import DEFAULT_MODEL

BACKENDS = ("torch", *RUNTIMES)
"""The libraries that can run a network."""


@dataclass(frozen=True)
class Precision:
    """An arithmetic for the trunk of a network; scores, deconvolutions and sums are float32 in all of them.

    `min_agreement` is the share of pixels (0..1) on which a compiled engine must give the fp32 network's labels,
    `torch_dtype` the name of torch's type, None where the graph carries explicit quantisation instead.
    """

    min_agreement: float
    torch_dtype: str | None = None


PRECISIONS = {
    "fp32": Precision(0.9999, "float32"),
    "bf16": Precision(0.99, "bfloat16"),
    "fp16": Precision(0.99, "float16"),
    "int8": Precision(0.97),
}


def precisions_of(backend: str) -> tuple[str, ...]:
    """Return the precisions that a backend offers on any device."""
    if backend == "torch":
        return tuple(name for name, precision in PRECISIONS.items() if precision.torch_dtype)
    return RUNTIMES[backend].precisions


def check_precision(precision: str, backend: str = "auto", *, on_processor: bool = False) -> None:
    """Raise SettingsError for a precision that no backend has, or not this backend, or not on a processor."""
    if precision == "auto":
        return
    if backend == "auto" and precision not in PRECISIONS:
        raise SettingsError(f"precision {precision!r} is unknown; use auto, {', '.join(PRECISIONS)}")
    if backend != "auto" and precision not in precisions_of(backend):
        raise SettingsError(f"precision {precision!r} is unknown to {backend}; use {', '.join(precisions_of(backend))}")
    if precision == "fp16" and on_processor:
        raise SettingsError("fp16 is for GPUs; use --precision bf16 or fp32 on a processor")


@dataclass(frozen=True)
class EngineOptions:
    """The model to run, and the library, device and arithmetic to run it with.

    `weights` None: the bundled or stored ones. `engine` is a file that `build_engine` wrote, in place of a choice by
    `backend` (auto or one of BACKENDS), `device` (auto, cpu, cuda, cuda:N, mps) and `precision` (auto or one of
    PRECISIONS). `calibrate` is a folder of typical images, for int8.
    """

    model: str = DEFAULT_MODEL
    weights: Path | None = None
    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    engine: Path | None = None
    calibrate: Path | None = None


@dataclass(frozen=True)
class BuildHooks:
    """Callbacks of a build: one line before it starts, and its progress (phase, fraction 0..1)."""

    on_note: Callable[[str], None] = lambda line: None
    on_progress: Callable[[str, float], None] = lambda phase, fraction: None
