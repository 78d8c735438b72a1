"""Engines that compute a batch while the next is staged and the last is read, whatever library computes it."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import prod

import numpy as np
import torch
from torch import Tensor

from fcnseg.engine.runtimes.common import ClosesOnExit, check_inputs, labels_dtype, output_names, too_large
from fcnseg.engine.runtimes.streams import Mark, Streams
from fcnseg.errors import DeviceError, EngineError, TooLargeError, is_out_of_memory
from fcnseg.recipes import Recipe
from fcnseg.types import Labels, Pixels, Probabilities

Inputs = Mapping[str, Pixels]
Results = tuple[dict[str, Labels], dict[str, Probabilities] | None]
TensorShapes = Mapping[str, tuple[int, ...]]


class OverlappedEngine(ClosesOnExit):
    """Batches in flight on three streams: to the device, through the network, and back.

    A subclass opens `_streams`, tells the types of the network's tensors by name, and enqueues a network.
    Several threads may call `infer`; they take turns.
    """

    title: str
    """The library's name in messages."""

    instead: str
    """Advice where it fails."""

    slots = 2
    """Batches in flight."""

    recipe: Recipe
    _streams: Streams

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._slots: list[BatchMemory] = []

    # ------------------------------------------------------------------ what a subclass tells and does

    @abstractmethod
    def _check_open(self, probabilities: bool) -> None:
        """Raise EngineError if the engine is closed, or does not give what is asked for."""

    @abstractmethod
    def _tensor_types(self) -> Mapping[str, torch.dtype]:
        """Return the type of every input and output of the network."""

    @abstractmethod
    def _output_shapes(self, inputs: TensorShapes, probabilities: bool) -> TensorShapes:
        """Return the shapes of the outputs that are computed of inputs of these shapes; raises ImageError for what
        cannot be computed."""

    @abstractmethod
    def _enqueue(self, tensors: Mapping[str, Tensor], probabilities: bool) -> None:
        """Put the network on the middle stream, from the inputs among these device tensors to the outputs."""

    def _rows_at_once(self, rows: int, height: int, width: int) -> int:  # noqa: ARG002 - for subclasses
        """Return how many of these images of one size are computed at once."""
        return rows

    def _rows_computed(self, rows: int, height: int, width: int) -> int:  # noqa: ARG002
        """Return the size of the batch that so many images are filled up to with zeros."""
        return rows

    def _make_room(self, height: int, width: int) -> bool:  # noqa: ARG002
        """Free memory, or take fewer images of a size at once, after a lack of memory; False if neither can be done."""
        return False

    # ------------------------------------------------------------------ running

    def infer(self, inputs: Inputs, probabilities: bool = False) -> Results:
        """Labels N x H x W of each head and, if asked, probabilities N x K x H x W. See `types.Engine`."""
        (results,) = self.infer_many([inputs], probabilities)
        return results

    def infer_many(self, batches: Iterable[Inputs], probabilities: bool = False) -> Iterator[Results]:
        """Infer each batch, in order, while the next is taken and computed.

        The engine is busy until the iterator ends or is closed: other threads wait for that, and this one may not call
        it in between (EngineError).
        """
        self._check_open(probabilities)
        with self._lock:
            if self._busy:
                raise EngineError("the engine is busy with infer_many; take all its results first")
            self._busy = True
            pending: deque[tuple[BatchMemory, bool]] = deque()
            parts: list[Results] = []

            def collected() -> Iterator[Results]:
                """Take the oldest results, and yield those of its batch if they are the last of it."""
                slot, ends_batch = pending.popleft()
                parts.append(self._collect(slot, probabilities))
                if ends_batch:
                    whole = joined(parts)
                    parts.clear()
                    yield whole

            try:
                for inputs in batches:
                    begin, rows = 0, check_inputs(self.recipe, inputs)
                    while True:  # also for a batch of none, which is refused when it is submitted
                        if len(pending) == len(self._slots):
                            yield from collected()
                        slot = next(s for s in self._slots if all(s is not busy for busy, _ in pending))
                        begin += self._submit_some(slot, inputs, begin, probabilities)
                        pending.append((slot, begin == rows))
                        if begin == rows:
                            break
                while pending:
                    yield from collected()
            except BaseException:
                self._settle()
                raise
            finally:
                self._busy = False

    def _settle(self) -> None:
        """Wait for what is in flight: buffers must be idle before they are used again or given back."""
        with suppress(RuntimeError):  # a device that failed has nothing to wait for
            self._streams.synchronize()

    def _submit_some(self, slot: BatchMemory, inputs: Inputs, begin: int, probabilities: bool) -> int:
        """Enqueue the images of a batch from `begin` on that are computed at once; return their number."""
        rows, height, width = next(iter(inputs.values())).shape[:3]
        while True:
            count = self._rows_at_once(rows - begin, height, width)
            try:
                self._submit(slot, {m: p[begin : begin + count] for m, p in inputs.items()}, probabilities)
            except TooLargeError as error:
                lack = TooLargeError(str(error))  # without the frames that hold the memory
            else:
                return count
            if not self._make_room(height, width):
                raise lack

    def _submit(self, slot: BatchMemory, inputs: Inputs, probabilities: bool) -> None:
        """Enqueue images: to the device, through the network, back into the slot's host memory."""
        rows, height, width = next(iter(inputs.values())).shape[:3]
        computed, types = self._rows_computed(rows, height, width), self._tensor_types()
        shapes = {m: (computed, *inputs[m].shape[1:]) for m in self.recipe.modalities}
        with self._streams.current(), translated(self.title, self.instead, (height, width)):
            outputs = self._output_shapes(shapes, probabilities)
            tensors = {n: slot.device(n, shape, types[n]) for n, shape in {**shapes, **outputs}.items()}
            for modality, shape in shapes.items():
                host = slot.host(modality, shape, types[modality])
                staged = host.numpy()
                np.copyto(staged[:rows], inputs[modality])
                staged[rows:] = 0
                self._streams.upload(tensors[modality], host)
            self._enqueue(tensors, probabilities)
            slot.results = {}
            for name in output_names(self.recipe, probabilities):
                slot.results[name] = slot.host(name, (rows, *outputs[name][1:]), types[name])
                self._streams.download(slot.results[name], tensors[name][:rows])
            slot.done = self._streams.mark()

    def _collect(self, slot: BatchMemory, probabilities: bool) -> Results:
        """Wait for a slot's results and copy them out: its memory is used again."""
        with translated(self.title, self.instead):
            slot.done.synchronize()
        arrays = {name: result.numpy().copy() for name, result in slot.results.items()}
        heads = self.recipe.heads
        labels = {h.name: arrays[h.name].astype(labels_dtype(h), copy=False) for h in heads}  # may come as int32
        if not probabilities:
            return labels, None
        names = output_names(self.recipe, True)[len(heads) :]
        return labels, {head.name: arrays[name] for head, name in zip(heads, names, strict=True)}


class BatchMemory:
    """The memory of one batch in flight, grown to the largest seen; `done` marks the end of its results."""

    def __init__(self, streams: Streams) -> None:
        self.results: dict[str, Tensor] = {}
        self.done: Mark
        self._streams = streams
        self._device: dict[str, Tensor] = {}
        self._host: dict[str, Tensor] = {}

    def device(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return device memory for a tensor of the network."""
        return _view(self._device, self._streams.allocate, name, shape, dtype)

    def host(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return host memory for a tensor of the network."""
        return _view(self._host, self._streams.pin, name, shape, dtype)


def _view(
    buffers: dict[str, Tensor], allocate: Callable[[int], Tensor], name: str, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    size_bytes = prod(shape) * dtype.itemsize
    if name not in buffers or buffers[name].numel() < size_bytes:
        buffers.pop(name, None)  # first give back the smaller one
        buffers[name] = allocate(size_bytes)
    return buffers[name][:size_bytes].view(dtype).view(*shape)


def joined(parts: Sequence[Results]) -> Results:
    """Return the results of parts of a batch as those of the whole."""
    if len(parts) == 1:
        return parts[0]
    labels = {head: np.concatenate([part[0][head] for part in parts]) for head in parts[0][0]}
    if parts[0][1] is None:
        return labels, None
    return labels, {head: np.concatenate([part[1][head] for part in parts if part[1]]) for head in labels}


@contextmanager
def translated(title: str, instead: str, size: tuple[int, int] | None = None) -> Iterator[None]:
    """Turn errors of CUDA from torch into ours; `size` is that of the images at the time, height and width."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error) and size is None:
            raise DeviceError(f"{title} needs more memory than is free; {instead}") from error
        if is_out_of_memory(error) and size is not None:
            raise TooLargeError(too_large(*size)) from error
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(f"{title} failed: {reason}; {instead}") from error
