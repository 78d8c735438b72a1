"""One candidate of a benchmark in its subprocess: an engine that is opened, run and asked for its labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fcnseg.engine.open import engine_from
from fcnseg.engine.options import EngineOptions
from fcnseg.models import network_spec
from fcnseg.models.arithmetic import computed_gflop, network_gflop
from fcnseg.models.margins import applies
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.types import Engine, Frame, Labels, Pixels


@dataclass(frozen=True)
class Candidate:
    """A backend and a precision."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend}:{self.precision}"


@dataclass(frozen=True)
class Workload:
    """The task of every candidate: a recipe's model over `frames`, on `device` where a backend has a choice.

    `opener` returns a candidate's engine, not entered yet, or raises FcnsegError. It is called in the candidate's own
    process and therefore picklable: a module's function, or a `functools.partial` of one.
    """

    recipe: Recipe
    frames: tuple[Frame, ...]
    opener: Callable[[Candidate], Engine]
    device: str = "auto"


def open_candidate(
    model: str,
    weights: Path | None,
    device: str,
    calibrate: Path | None,
    companions: Mapping[str, Path],
    candidate: Candidate,
    batch: int | None = None,
) -> Engine:
    """Return a candidate's engine for calls of `batch` images, built and cached if need be and whatever its agreement.

    The opener of `fcnseg bench`.
    """
    if candidate.backend == "onnxruntime":
        from fcnseg.engine.runtimes.onnx_runtime import reference_engine

        return reference_engine(find_recipe(model), weights)
    if candidate.backend == "openvino":
        device = "auto"  # it has the processor alone, also where torch is given a GPU
    options = EngineOptions(model, weights, candidate.backend, device, candidate.precision, calibrate=calibrate)
    return engine_from(options, companions=companions, require_verified=False, batch=batch)


class BenchSession:
    """A candidate's engine, as a function that runs in its subprocess and whose requests name a method."""

    def __init__(self, candidate: Candidate, workload: Workload, batch_size: int) -> None:
        self.candidate, self.workload, self.batch_size = candidate, workload, batch_size
        self.engine: Engine | None = None

    def __call__(self, request: tuple[str, dict[str, Any]]) -> Any:
        """Run the method of that name with those arguments."""
        command, settings = request
        return getattr(self, command)(**settings)

    def open(self) -> float:
        """Open the engine; return the seconds that took."""
        start = time.perf_counter()
        self.engine = self.workload.opener(self.candidate).__enter__()
        return time.perf_counter() - start

    def close(self) -> None:
        """Close the engine, if one is open."""
        if self.engine is not None:
            self.engine.close()
        self.engine = None

    def device(self) -> str:
        """Return the name of the engine's device."""
        return self._opened.info.device

    def labels(self) -> list[list[Labels]]:
        """Return the label maps of every image, head by head."""
        labels_by_image: dict[int, list[Labels]] = {}
        for numbers, inputs in self._batches:
            labels, _ = self._opened.infer(inputs)
            for row, number in enumerate(numbers):
                labels_by_image[number] = [labels[head.name][row] for head in self.workload.recipe.heads]
        return [labels_by_image[number] for number in sorted(labels_by_image)]

    def round(self) -> list[float]:
        """Run every image once; return the seconds of each call."""
        engine, seconds = self._opened, []
        for _, inputs in self._batches:
            start = time.perf_counter()
            engine.infer(inputs)
            seconds.append(time.perf_counter() - start)
        return seconds

    def peak(self) -> int:
        """Return the most bytes this process ever held."""
        return peak_memory_bytes()

    def gflop(self) -> float:
        """Return the 10^9 operations of an image, the mean over all."""
        spec, sizes = network_spec(self.workload.recipe), [frame.size for frame in self.workload.frames]
        return sum(network_gflop(spec, *size) for size in sizes) / len(sizes)

    def computed_gflop(self) -> float:
        """Return the 10^9 operations of an image that the open engine does, the mean over all."""
        spec, info = network_spec(self.workload.recipe), self._opened.info
        windowed = applies(spec) and (info.backend == "openvino" or "skip margins" in info.versions.get("graph", ""))
        coarse = bool(getattr(self._opened, "coarse", False))
        sizes = [frame.size for frame in self.workload.frames]
        return sum(computed_gflop(spec, *size, windowed=windowed, coarse=coarse) for size in sizes) / len(sizes)

    def ceiling(self, precision: str) -> float | None:
        """Measure the fastest arithmetic here in 10^9 operations a second; None where there is none that is fast."""
        # may import torch, which must not add to the memory of other engines' processes
        from fcnseg.engine.ceiling import ceiling_gflops

        return ceiling_gflops(precision, self.workload.device)

    @property
    def _opened(self) -> Engine:
        assert self.engine is not None, "open comes first"
        return self.engine

    @cached_property
    def _batches(self) -> list[tuple[list[int], dict[str, Pixels]]]:
        """The images in calls of one size: their numbers, and each modality N x H x W x C."""
        frames, size = self.workload.frames, self.batch_size
        by_size: dict[tuple[int, int], list[int]] = {}
        for number, frame in enumerate(frames):
            by_size.setdefault(frame.size, []).append(number)
        calls = [same[i : i + size] for same in by_size.values() for i in range(0, len(same), size)]
        return [(call, {m: np.stack([frames[n].inputs[m] for n in call]) for m in frames[0].inputs}) for call in calls]


def peak_memory_bytes() -> int:
    """Return the most memory this process ever held.

    From /proc/self/status where there is one: `ru_maxrss` begins with what the parent held before exec.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))  # Windows knows a peak, macOS what is held now
