"""A TensorRT library and a CUDA stream for machines without: they do what the protocol promises, and no sooner."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fcnseg.engine.runtimes.tensorrt.library import TensorRTLibrary

SCRATCH_A_PIXEL = 10
"""The bytes that the fake network needs for each pixel of a batch while it runs."""

KINDS = {"UINT8": np.uint8, "FLOAT": np.float32, "INT32": np.int32}


class FakeStream:
    """Does nothing until it must: copies and networks wait here until someone waits for them."""

    handle = 7
    last: FakeStream

    room_bytes = 2**40
    """What is left of the device's memory for one allocation."""

    def __init__(self, _device: torch.device) -> None:
        self.device = torch.device("cpu")
        self.given_back = 0
        self.waiting: deque[Callable[[], object]] = deque()
        self.most_marks = 0
        self.marks = 0
        FakeStream.last = self

    def current(self) -> Any:
        return nullcontext()

    def allocate(self, size_bytes: int) -> torch.Tensor:
        if size_bytes > self.room_bytes:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size_bytes} bytes.")
        return aligned(size_bytes)

    def pin(self, size_bytes: int) -> torch.Tensor:
        return aligned(size_bytes)

    def give_back(self) -> None:
        self.given_back += 1

    def upload(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.waiting.append(lambda: target.copy_(source))

    download = upload

    def mark(self) -> Any:
        self.marks += 1
        self.most_marks = max(self.most_marks, self.marks)
        reached = SimpleNamespace(done=False)
        self.waiting.append(lambda: setattr(reached, "done", True))

        def synchronize() -> None:
            self.marks -= 1
            while not reached.done:
                self.waiting.popleft()()

        return SimpleNamespace(synchronize=synchronize)

    def synchronize(self) -> None:
        while self.waiting:
            self.waiting.popleft()()


def aligned(size_bytes: int, offset: int = 0) -> torch.Tensor:
    room = torch.empty(size_bytes + 512, dtype=torch.uint8)
    start = -room.data_ptr() % 256 + offset
    return room[start : start + size_bytes]


@dataclass
class FakeContext:
    """Labels are the red channel modulo 5; probabilities one where that is the class."""

    engine: FakePlan
    refuses: str = ""
    active_optimization_profile: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    runs: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    scratch_bytes: int = 0
    profiler: Any = None

    def update_device_memory_size_for_shapes(self) -> int:
        if self.refuses == "size":
            self.engine.logger.log(FakeLogger.ERROR, "updateDeviceMemorySizeForShapes: shapes are not all specified")
            return 0
        return SCRATCH_A_PIXEL * prod(self.shapes["color"][:3])

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 64 == 0
        self.scratch_bytes = size

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        if self.refuses == "profile" or stream != FakeStream.handle:
            self.engine.logger.log(FakeLogger.ERROR, "setOptimizationProfileAsync: profile index is out of range")
            raise RuntimeError("Error in set optimization profile async.")
        self.active_optimization_profile = index
        self.shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        self.shapes[name] = tuple(shape)
        fits = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        return self.refuses != "shape" and fits

    def infer_shapes(self) -> list[str]:
        if self.refuses == "inference":
            raise RuntimeError("infer_shapes error code: -1")
        return ["color"] if self.refuses == "missing" else []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        n, h, w = self.shapes["color"][:3]
        if self.refuses == "output":
            n = -1
        return (n, 5, h, w) if name == "probabilities" else (n, h, w)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.refuses != "address" and address % 64 == 0  # as torch allocates without CUDA

    def execute_async_v3(self, stream: int) -> bool:
        if self.refuses in ("run", "memory"):
            out = "Error Code 2: OutOfMemory (Requested size was 123 bytes.)"
            self.engine.logger.log(FakeLogger.ERROR, out if self.refuses == "memory" else "[executor] out of tactics")
            return False
        if self.scratch_bytes < self.update_device_memory_size_for_shapes():
            self.engine.logger.log(FakeLogger.ERROR, "IExecutionContext::enqueueV3: the context has too little memory")
            return False
        shapes = {name: self.shapes.get(name) or self.get_tensor_shape(name) for name in self.engine.types}
        memory = {name: self.view(name, shapes[name]) for name in shapes}
        self.runs.append((self.active_optimization_profile, shapes["color"]))

        def work() -> None:
            classes = memory["color"][..., 0] % 5
            memory["labels"][:] = classes
            if "probabilities" in memory:
                memory["probabilities"][:] = classes[:, None] == np.arange(5)[:, None, None]

        FakeStream.last.waiting.append(work)
        if self.profiler:
            self.profiler.report_layer_time("upscore8_myl0_31", 2.0)
            self.profiler.report_layer_time("conv1_1_myl0_3", 6.0)
        return stream == FakeStream.handle

    def view(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(KINDS[self.engine.types[name]])
        room = (ctypes.c_uint8 * (prod(shape) * kind.itemsize)).from_address(self.addresses[name])
        return np.frombuffer(room, kind).reshape(shape)


OLD_DRIVER = "CUDA initialization failure with error: 35. Please check your CUDA installation"


class FakeLogger:
    """The base of loggers, as the bindings have it."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class FakeModule:
    """The module of a library. With `null`, a message, its factories give null, as the real ones do where CUDA does not
    start: the bindings raise TypeError, and the message is a mere warning."""

    __version__ = "11.4.0.106"
    ILogger = FakeLogger
    ComputeCapability = SimpleNamespace(__members__={"NONE": 0, "CURRENT": 1, "SM75": 75, "SM89": 89})
    ExecutionContextAllocationStrategy = SimpleNamespace(STATIC="static", USER_MANAGED="user-managed")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY="lazy", EAGER="eager", NONE="none")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    IProgressMonitor = IProfiler = object
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)

    def __init__(self, plan: FakePlan | None = None, builder: object = None, null: str = "") -> None:
        self.plan, self.builder, self.null = plan, builder, null

    def Builder(self, logger: FakeLogger) -> object:  # noqa: N802
        return self._made(logger, self.builder)

    def Runtime(self, logger: FakeLogger) -> object:  # noqa: N802
        if self.plan:
            self.plan.logger = logger
        return self._made(logger, self.plan and self.plan.runtime)

    def _made(self, logger: FakeLogger, thing: object) -> object:
        if self.null:
            logger.log(FakeLogger.WARNING, self.null)
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return thing


class FakeTimingCache:
    """Times by layer, as text; those of another machine are refused when they are set."""

    def __init__(self, content: bytes) -> None:
        self.times = set(content.split())

    def combine(self, other: FakeTimingCache, ignore_mismatch: bool) -> bool:
        if b"foreign" in other.times and not ignore_mismatch:
            return False
        self.times |= other.times
        return True

    def serialize(self) -> bytes:
        return b" ".join(sorted(self.times))


class FakeBuilderConfig:
    """A configuration of a build: its timing cache and the limit of its workspace."""

    def __init__(self, total_bytes: int = 8 << 30) -> None:
        self.limit_bytes, self.cache = total_bytes, FakeTimingCache(b"")

    def create_timing_cache(self, content: bytes) -> FakeTimingCache | None:
        return None if content == b"junk" else FakeTimingCache(content)

    def set_timing_cache(self, cache: FakeTimingCache, ignore_mismatch: bool) -> bool:
        if b"foreign" in cache.times and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_memory_pool_limit(self, _pool: str) -> int:
        return self.limit_bytes

    def set_memory_pool_limit(self, _pool: str, size: int) -> None:
        self.limit_bytes = size


class FakeRuntimeCache:
    """Kernels; it takes back what it gave, and leaves all else alone, as of another driver."""

    taken: bytes = b""

    def __init__(self) -> None:
        self.content = b""

    def serialize(self) -> bytes:
        return self.content

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"kernels"):
            return False
        self.taken = blob
        return True


@dataclass
class FakeRuntimeConfig:
    """A configuration of a context. Lazy specialisation is the default."""

    allocation: str = "static"
    dynamic_shapes_kernel_specialization_strategy: str = "lazy"
    cache: FakeRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.allocation = strategy

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache()

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self.cache = cache
        return True


@dataclass
class FakePlan:
    """An engine as the library loads it."""

    profiles: list[tuple[tuple[int, int, int], tuple[int, int, int]]]
    types: dict[str, str] = field(default_factory=lambda: {"color": "UINT8", "labels": "UINT8"})
    channels: int = 3
    loads: bool = True
    context: FakeContext | None = None

    def __post_init__(self) -> None:
        self.num_optimization_profiles, self.num_io_tensors = len(self.profiles), len(self.types)
        self.context = FakeContext(self)
        self.logger = FakeLogger()
        self.runtime = SimpleNamespace(deserialize_cuda_engine=self.deserialize, engine_host_code_allowed=False)

    def library(self, null: str = "", name: str = "tensorrt") -> TensorRTLibrary:
        return TensorRTLibrary(name, FakeModule(self, null=null))

    def deserialize(self, plan: bytes) -> FakePlan | None:
        if not self.loads or plan != b"plan":
            self.logger.log(FakeLogger.ERROR, "Serialization assertion stdVersionRead failed")
            return None
        return self

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig()

    def create_execution_context(self, how: Any) -> FakeContext | None:
        """Overloaded, as the real one: by a strategy of allocation, or a configuration with one."""
        self.config = how if isinstance(how, FakeRuntimeConfig) else FakeRuntimeConfig(how)
        assert self.config.allocation == "user-managed"
        if self.config.cache:
            self.config.cache.content = (
                b"kernels of " + self.config.dynamic_shapes_kernel_specialization_strategy.encode()
            )
        return self.context

    def get_tensor_name(self, index: int) -> str:
        return list(self.types)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name in ("color", "colour") else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.types[name])

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return (-1, -1, -1, self.channels)

    def get_tensor_profile_shape(self, _name: str, index: int) -> list[tuple[int, ...]]:
        low, high = self.profiles[index]
        return [(*low, 3), (*high, 3), (*high, 3)]


SMALL = (1, 1, 1), (4, 40, 50)
LARGE = (1, 30, 30), (2, 200, 300)
WITH_PROBABILITIES = {"color": "UINT8", "labels": "UINT8", "probabilities": "FLOAT"}
