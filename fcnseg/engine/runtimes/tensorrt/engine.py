"""Run a TensorRT plan, on streams of its own, with two batches in flight."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self
from weakref import WeakSet

import torch
from torch import Tensor

from fcnseg.engine.record import kernel_file, open_engine_file
from fcnseg.engine.runtimes.common import check_inputs, too_large
from fcnseg.engine.runtimes.overlapped import (
    BatchMemory,
    Inputs,
    OverlappedEngine,
    Results,
    TensorShapes,
    joined,
    translated,
)
from fcnseg.engine.runtimes.pytorch import find_device
from fcnseg.engine.runtimes.streams import CudaStreams
from fcnseg.engine.runtimes.tensorrt.kernels import STRATEGY, KernelCache
from fcnseg.engine.runtimes.tensorrt.library import load_library
from fcnseg.engine.runtimes.tensorrt.session import Session
from fcnseg.errors import DeviceError, EngineError, ImageError, TooLargeError
from fcnseg.recipes import Recipe
from fcnseg.types import EngineInfo


class TensorRTEngine(OverlappedEngine):
    """A plan file on a CUDA device; see `types.Engine`.

    `info` is from the file's record (its `backend` names the library, "tensorrt" or "tensorrt-rtx"); the
    caller has checked the file, `probabilities` says whether it gives them. `device` is "cuda" or "cuda:N". Batches
    larger than the plan's run in parts by `infer`; `infer_many` takes none.
    """

    instead = "try --backend torch"

    def __init__(
        self,
        recipe: Recipe,
        file: Path,
        info: EngineInfo,
        *,
        sha256: str,
        probabilities: bool = False,
        device: str = "cuda",
    ) -> None:
        super().__init__()
        self.recipe, self.file, self.info, self.sha256 = recipe, file, info, sha256
        self.probabilities, self.device = probabilities, device
        self._session: Session | None = None

    def __enter__(self) -> Self:
        self._library = load_library(self.info.backend)
        self.title = self._library.title
        device = find_device(self.device)
        with open_engine_file(self.file, self.sha256) as file:
            plan = file.read()
        if device.type != "cuda":
            raise EngineError(f"{self._library.title} runs on CUDA devices, not on {device}; use --backend torch")
        with translated(self.title, self.instead):
            streams = self._streams = CudaStreams(device)
        kernels = KernelCache(self.info.versions.get("kernels", STRATEGY), kernel_file(self.file))
        with streams.current(), translated(self.title, self.instead):
            self._session = Session(self._library, plan, self.recipe, self.probabilities, streams, kernels)
        self._slots = [BatchMemory(streams) for _ in range(self.slots)]
        profiles = [profile.largest for profile in self._session.profiles]
        _, height, width = max(profiles, key=lambda largest: largest[1] * largest[2])
        self.info = replace(self.info, largest=(height, width), max_batch=max(rows for rows, *_ in profiles))
        _open_engines.add(self)
        return self

    def close(self) -> None:
        """Wait for what is in flight and release everything."""
        with self._lock:
            if self._session is not None:
                self._settle()
                self._session.close()
                self._session = None
                self._slots = []
                self._streams.give_back()

    def infer(self, inputs: Inputs, probabilities: bool = False) -> Results:
        """Labels N x H x W of each head and, if asked, probabilities N x K x H x W (float32, or float16 if the plan
        gives those). See `types.Engine`; ImageError, with the ranges, for a size the plan was not built for."""
        self._check_open(probabilities)
        rows = check_inputs(self.recipe, inputs)
        largest = self._opened.profile_for(*next(iter(inputs.values())).shape[1:3]).largest[0]
        parts = ({m: pixels[i : i + largest] for m, pixels in inputs.items()} for i in range(0, max(1, rows), largest))
        return joined(list(self.infer_many(parts, probabilities)))

    @property
    def _opened(self) -> Session:
        if self._session is None:
            raise EngineError("the engine is closed; use it inside its `with` block")
        return self._session

    def _check_open(self, probabilities: bool) -> None:
        if self._opened and probabilities and not self.probabilities:
            raise EngineError("this engine gives labels alone; open one with probabilities")

    def _tensor_types(self) -> Mapping[str, torch.dtype]:
        return self._opened.types

    def _output_shapes(self, inputs: TensorShapes, probabilities: bool) -> TensorShapes:  # noqa: ARG002 - all it has
        """Return the outputs' shapes for inputs of these shapes; raises ImageError if no profile takes them."""
        session = self._opened
        rows, height, width = next(iter(inputs.values()))[:3]
        profile = session.profile_for(height, width)
        low, high = profile.smallest[0], profile.largest[0]
        if not low <= rows <= high:
            message = f"a batch of {rows} is outside this engine's ({low} to {high} images)"
            raise TooLargeError(message) if rows > high else ImageError(message, "predict")
        return session.shape(profile, inputs)

    def _enqueue(self, tensors: Mapping[str, Tensor], probabilities: bool) -> None:  # noqa: ARG002 - it gives all
        try:
            self._opened.run({name: tensor.data_ptr() for name, tensor in tensors.items()})
        except DeviceError as error:  # some plans allocate while they run
            raise TooLargeError(too_large(*tensors[self.recipe.modalities[0]].shape[1:3])) from error


_open_engines: WeakSet[TensorRTEngine] = WeakSet()


@atexit.register
def _close_open_engines() -> None:
    """Close what is open when the interpreter ends: threads of the library log through it, which fails later."""
    for engine in list(_open_engines):
        engine.close()
