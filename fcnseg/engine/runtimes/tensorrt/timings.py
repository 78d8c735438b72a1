"""The times that TensorRT has measured of its kernels, kept on disk: precisions and graphs share most layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcnseg.engine.hardware import cuda_capability
from fcnseg.engine.record import read_sealed, write_sealed
from fcnseg.engine.runtimes.tensorrt.library import TensorRTLibrary
from fcnseg.io.user_folders import engine_folder


def timing_file(library: TensorRTLibrary) -> Path:
    """Return the file of a library's times on GPUs like the first; which GPU it is exactly, the library checks."""
    return engine_folder() / f"{library.name}-{library.version}-sm{cuda_capability()}.timings"


@contextmanager
def timing_cache(library: TensorRTLibrary, config: Any) -> Iterator[None]:
    """Build in the block with the times on disk, and add those that it measures. TensorRT-RTX measures none."""
    if library.name != "tensorrt":
        yield
        return
    file = timing_file(library)
    cache = config.create_timing_cache(read_sealed(file))
    if cache is None or not config.set_timing_cache(cache, False):  # of another GPU, driver or version
        library.forget()
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    yield
    if (others := read_sealed(file)) and (theirs := config.create_timing_cache(others)) is not None:
        cache.combine(theirs, False)  # of builds that ended meanwhile
    if (content := cache.serialize()) is not None:
        write_sealed(file, bytes(content))
