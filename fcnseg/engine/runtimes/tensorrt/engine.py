"""Run a TensorRT plan, on a stream of its own, with two batches in flight."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from fcnseg.engine.record import kernel_file, open_engine_file
from fcnseg.engine.runtimes.common import ClosesOnExit, check_inputs, labels_dtype, output_names, too_large
from fcnseg.engine.runtimes.pytorch import find_device
from fcnseg.engine.runtimes.tensorrt.cuda import CudaStream
from fcnseg.engine.runtimes.tensorrt.kernels import STRATEGY, KernelCache
from fcnseg.engine.runtimes.tensorrt.library import TensorRTLibrary, load_library
from fcnseg.engine.runtimes.tensorrt.session import Session
from fcnseg.errors import DeviceError, EngineError, ImageError, TooLargeError, is_out_of_memory
from fcnseg.recipes import Recipe
from fcnseg.types import EngineInfo, Labels, Pixels, Probabilities

SLOTS = 2
"""Batches in flight: one computes while the next is staged and the last is read."""

Results = tuple[dict[str, Labels], dict[str, Probabilities] | None]


class TensorRTEngine(ClosesOnExit):
    """A plan file on a CUDA device; see `types.Engine`.

    `info` is from the file's record (its `backend` names the library, "tensorrt" or "tensorrt-rtx"); the
    caller has checked the file, `probabilities` says whether it gives them. `device` is "cuda" or "cuda:N". Batches
    larger than the plan's run in parts. Several threads may call `infer`; they take turns.
    """

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
        self.recipe, self.file, self.info, self.sha256 = recipe, file, info, sha256
        self.probabilities, self.device = probabilities, device
        self._session: Session | None = None
        self._lock = threading.RLock()
        self._busy = False

    def __enter__(self) -> Self:
        self._library = load_library(self.info.backend)
        device = find_device(self.device)
        with open_engine_file(self.file, self.sha256) as file:
            plan = file.read()
        if device.type != "cuda":
            raise EngineError(f"{self._library.title} runs on CUDA devices, not on {device}; use --backend torch")
        with _translated(self._library):
            self._stream = CudaStream(device)
        kernels = KernelCache(self.info.versions.get("kernels", STRATEGY), kernel_file(self.file))
        with self._stream.current(), _translated(self._library):
            self._session = Session(self._library, plan, self.recipe, self.probabilities, self._stream, kernels)
        self._slots = [_Slot(self._stream) for _ in range(SLOTS)]
        profiles = [profile.largest for profile in self._session.profiles]
        _, height, width = max(profiles, key=lambda largest: largest[1] * largest[2])
        self.info = replace(self.info, largest=(height, width), max_batch=max(rows for rows, *_ in profiles))
        _open_engines.add(self)
        return self

    def close(self) -> None:
        """Wait for what is in flight and release everything."""
        with self._lock:
            if self._session is not None:
                with suppress(RuntimeError):  # a device that failed has nothing to wait for
                    self._stream.synchronize()
                self._session.close()
                self._session = None
                self._slots = []
                self._stream.give_back()

    def infer(self, inputs: Mapping[str, Pixels], probabilities: bool = False) -> Results:
        """Labels N x H x W of each head and, if asked, probabilities N x K x H x W (float32, or float16 if the plan
        gives those). See `types.Engine`; ImageError, with the ranges, for a size the plan was not built for."""
        session = self._open_session(probabilities)
        rows = check_inputs(self.recipe, inputs)
        largest = session.profile_for(*next(iter(inputs.values())).shape[1:3]).largest[0]
        parts = ({m: pixels[i : i + largest] for m, pixels in inputs.items()} for i in range(0, max(1, rows), largest))
        results = list(self.infer_many(parts, probabilities))
        labels = {head: np.concatenate([r[0][head] for r in results]) for head in results[0][0]}
        if not probabilities:
            return labels, None
        return labels, {head: np.concatenate([r[1][head] for r in results if r[1]]) for head in labels}

    def infer_many(self, batches: Iterable[Mapping[str, Pixels]], probabilities: bool = False) -> Iterator[Results]:
        """Infer each batch, in order, while the next is taken and computed.

        A batch may be no larger than the plan's. The engine is busy until the iterator ends or is closed: other
        threads wait for that, and this one may not call it in between (EngineError).
        """
        session = self._open_session(probabilities)
        with self._lock:
            if self._busy:
                raise EngineError("the engine is busy with infer_many; take all its results first")
            self._busy = True
            pending: deque[_Slot] = deque()
            free = deque(self._slots)
            try:
                for inputs in batches:
                    if not free:
                        free.append(pending[0])
                        yield self._collect(pending.popleft(), probabilities)
                    pending.append(free.popleft())
                    self._submit(session, pending[-1], inputs, probabilities)
                while pending:
                    yield self._collect(pending.popleft(), probabilities)
            except BaseException:
                with suppress(RuntimeError):  # the buffers must be idle before they are used again
                    self._stream.synchronize()
                raise
            finally:
                self._busy = False

    def _open_session(self, probabilities: bool) -> Session:
        if self._session is None:
            raise EngineError("the engine is closed; use it inside its `with` block")
        if probabilities and not self.probabilities:
            raise EngineError("this engine gives labels alone; open one with probabilities")
        return self._session

    def _submit(self, session: Session, slot: _Slot, inputs: Mapping[str, Pixels], probabilities: bool) -> None:
        """Enqueue a batch: to the device, through the network, back into the slot's pinned memory."""
        check_inputs(self.recipe, inputs)
        wanted = output_names(self.recipe, probabilities)
        shapes = {modality: inputs[modality].shape for modality in self.recipe.modalities}
        with self._stream.current(), _translated(self._library, shapes):
            outputs = self._shape(session, shapes)
            tensors = {}
            for name, shape in {**shapes, **outputs}.items():
                tensors[name] = slot.device(name, shape, session.types[name])
            for modality, shape in shapes.items():
                staged = slot.pinned(modality, shape, session.types[modality])
                np.copyto(staged.numpy(), inputs[modality])
                self._stream.copy(tensors[modality], staged)
            try:
                session.run({name: tensor.data_ptr() for name, tensor in tensors.items()})
            except DeviceError as error:  # some plans allocate while they run
                raise TooLargeError(too_large(*next(iter(shapes.values()))[1:3])) from error
            slot.results = {name: slot.pinned(name, outputs[name], session.types[name]) for name in wanted}
            for name, result in slot.results.items():
                self._stream.copy(result, tensors[name])
            slot.done = self._stream.mark()

    def _shape(self, session: Session, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the outputs' shapes for inputs of these shapes; raises ImageError if no profile takes them."""
        rows, height, width = next(iter(shapes.values()))[:3]
        profile = session.profile_for(height, width)
        low, high = profile.smallest[0], profile.largest[0]
        if not low <= rows <= high:
            message = f"a batch of {rows} is outside this engine's ({low} to {high} images)"
            raise TooLargeError(message) if rows > high else ImageError(message, "predict")
        return session.shape(profile, shapes)

    def _collect(self, slot: _Slot, probabilities: bool) -> Results:
        """Wait for a slot's results and copy them out: its memory is used again."""
        with _translated(self._library):
            slot.done.synchronize()
        arrays = {name: result.numpy().copy() for name, result in slot.results.items()}
        heads = self.recipe.heads
        labels = {h.name: arrays[h.name].astype(labels_dtype(h), copy=False) for h in heads}  # uint16 comes as int32
        if not probabilities:
            return labels, None
        names = output_names(self.recipe, True)[len(heads) :]
        return labels, {head.name: arrays[name] for head, name in zip(heads, names, strict=True)}


_open_engines: WeakSet[TensorRTEngine] = WeakSet()


@atexit.register
def _close_open_engines() -> None:
    """Close what is open when the interpreter ends: threads of the library log through it, which fails later."""
    for engine in list(_open_engines):
        engine.close()


class _Slot:
    """The memory of one batch in flight, grown to the largest seen; `done` is the event after its results."""

    def __init__(self, stream: CudaStream) -> None:
        self.results: dict[str, Tensor] = {}
        self.done: Any = None
        self._stream = stream
        self._device: dict[str, Tensor] = {}
        self._pinned: dict[str, Tensor] = {}

    def device(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return device memory for a tensor of the network."""
        return _view(self._device, self._stream.allocate, name, shape, dtype)

    def pinned(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return page-locked memory for a tensor of the network."""
        return _view(self._pinned, self._stream.pin, name, shape, dtype)


def _view(
    buffers: dict[str, Tensor], allocate: Callable[[int], Tensor], name: str, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    size_bytes = prod(shape) * dtype.itemsize
    if name not in buffers or buffers[name].numel() < size_bytes:
        buffers.pop(name, None)  # first give back the smaller one
        buffers[name] = allocate(size_bytes)
    return buffers[name][:size_bytes].view(dtype).view(*shape)


@contextmanager
def _translated(library: TensorRTLibrary, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Iterator[None]:
    """Turn CUDA errors from torch into ours; `shapes` are those of the images at the time."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error) and shapes is None:
            raise DeviceError(f"{library.title} needs more GPU memory than is free; use --backend torch") from error
        if is_out_of_memory(error) and shapes is not None:
            raise TooLargeError(too_large(*next(iter(shapes.values()))[1:3])) from error
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(f"{library.title} failed on the GPU: {reason}; try --backend torch") from error
