"""Encoding by several processes: two threads of one take as long as one."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fcnseg.errors import ImageError, NoMoreThreadsError
from fcnseg.hha.camera import Camera
from fcnseg.hha.depth_maps import DepthPair
from fcnseg.hha.encoding import encode
from fcnseg.workers.process import WorkerDiedError
from fcnseg.workers.remote import RemoteFunction

ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Each process computes in one thread: there are as many of them as cores."""


class Encoders:
    """A process for each thread that encodes, started when first needed; without `processes` the threads do it.

    All processes end with the `with` block, also in the middle of their work.
    """

    def __init__(self, camera: Camera, processes: bool) -> None:
        self.camera, self.processes = camera, processes
        self._local, self._lock = threading.local(), threading.Lock()
        self._started: list[RemoteFunction[DepthPair, NDArray[np.uint8]]] = []

    def __call__(self, pair: DepthPair) -> NDArray[np.uint8]:
        """Encode a depth map as HHA, uint8 H x W x 3. Raises ImageError, also if the process dies of it."""
        function = EncodeFor(self.camera)
        if not self.processes:
            return function(pair)
        try:
            if not hasattr(self._local, "process"):
                self._local.process = RemoteFunction(function, ENVIRONMENT)
                with self._lock:
                    self._started.append(self._local.process)
            pixels: NDArray[np.uint8] = self._local.process(pair)
        except NoMoreThreadsError:
            return function(pair)
        except WorkerDiedError as died:
            self._local.__dict__.pop("process", None)
            raise ImageError(f"the process that encoded it died ({died}); fewer --workers need less memory") from died
        return pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for process in self._started:
                process.stop(grace_seconds=0)


class EncodeFor:
    """`encode` for one camera: what is sent to a process."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera

    def __call__(self, pair: DepthPair) -> NDArray[np.uint8]:
        """Encode a depth map."""
        return encode(pair.depth, self.camera, pair.raw)
