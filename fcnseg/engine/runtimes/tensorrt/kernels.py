"""The kernels of a TensorRT-RTX plan, which are compiled where it runs: which ones, and the cache of them on disk.

By default TensorRT-RTX serves the first calls of a new shape by fallback kernels and swaps these for specialised ones
when they are compiled: labels could change between two calls, a verification would be of other kernels than the run,
and every process would compile anew. Here the kernels of a shape are the same from the first call on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcnseg.engine.record import read_sealed, write_sealed
from fcnseg.engine.runtimes.tensorrt.library import TensorRTLibrary

STRATEGY = "none"
"""Never specialise: no waiting at a new size of images, and a tile is computed as the whole is. "eager" compiles
specialised kernels before the first call of a shape; which is better has not been measured."""


@dataclass
class KernelCache:
    """The kernels of a context of TensorRT-RTX, and the file that keeps them (None: they last as long as the process).

    TensorRT's plans hold their kernels; for them a context is merely started, with the memory that it is given.
    """

    strategy: str = STRATEGY
    file: Path | None = None
    _kept: bytes = b""
    _cache: Any = field(default=None, repr=False)

    def start(self, library: TensorRTLibrary, engine: Any) -> Any:
        """Return a new context that allocates no memory of its own; None if the library refuses, and logs why."""
        managed = library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        if library.name != "tensorrt-rtx":
            return engine.create_execution_context(managed)
        strategies = library.module.DynamicShapesKernelSpecializationStrategy
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(managed)
        config.dynamic_shapes_kernel_specialization_strategy = getattr(strategies, self.strategy.upper())
        self._cache = config.create_runtime_cache()
        self._kept = read_sealed(self.file) if self.file else b""
        if self._kept and not self._cache.deserialize(self._kept):
            library.forget()  # of another driver or version: it is filled anew
        if not config.set_runtime_cache(self._cache):
            raise library.refusal("does not take a cache of kernels", "try --backend torch")
        return engine.create_execution_context(config)

    def save(self) -> None:
        """Keep what was compiled for the next process."""
        if self._cache is None or self.file is None:
            return
        content = self._cache.serialize()
        if content is not None and bytes(content) != self._kept:
            write_sealed(self.file, bytes(content))
        self._cache = None
