"""CUDA graphs of the shapes that repeat: the network's kernels are then launched at once instead of one by one."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fcnseg.engine.runtimes.streams import Streams, Work

GRAPHS = 8
"""The most that are kept: of the shapes that were last used."""

REPEATS = 2
"""The use of a shape after which it is captured; until then it may have been the only one."""

Tensors = Mapping[str, Tensor]
Network = Callable[[Tensors, Tensors], None]
"""Enqueues the kernels that compute outputs from inputs, without a word to the host."""


@dataclass(frozen=True)
class Captured:
    """A graph with tensors of its own; `kept` is what it reads besides and would otherwise be freed."""

    inputs: Tensors
    outputs: Tensors
    replay: Work
    kept: object


class Replays:
    """Runs a network on tensors of recurring shapes.

    A shape is launched plainly at first, and that again and again if it cannot be captured, which is told once by
    `on_note`. `graph_bytes` is the device memory that graphs took. Both ways run the same kernels.
    """

    def __init__(self, streams: Streams, on_note: Callable[[str], None], *, enabled: bool = True) -> None:
        self.enabled, self.graph_bytes = enabled, 0
        self._streams, self._on_note = streams, on_note
        self._captured: OrderedDict[Hashable, Captured] = OrderedDict()
        self._uses: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._captured)

    def run(self, key: Hashable, inputs: Tensors, outputs: Tensors, network: Network, kept: object = None) -> None:
        """Compute outputs from inputs; `key` tells their shapes, and `kept` is held as long as the network may read it.

        To be called with the streams' middle one current. Raises what the network raises.
        """
        captured = self._captured.get(key)
        if captured is None:
            network(inputs, outputs)
            self._uses[key] += 1
            if self.enabled and self._uses[key] >= REPEATS:
                self._capture(key, inputs, outputs, network, kept)
            return
        self._captured.move_to_end(key)
        for name, tensor in captured.inputs.items():
            tensor.copy_(inputs[name])
        captured.replay()
        for name, tensor in captured.outputs.items():
            outputs[name].copy_(tensor)

    def forget(self) -> bool:
        """Drop all graphs and capture no more; False if there were none."""
        there_were = bool(self._captured)
        self._captured.clear()
        self.graph_bytes, self.enabled = 0, False
        return there_were

    def _capture(self, key: Hashable, inputs: Tensors, outputs: Tensors, network: Network, kept: object) -> None:
        if len(self._captured) == GRAPHS:
            self._captured.popitem(last=False)
        before = self._streams.reserved_bytes()
        try:
            own_inputs, own_outputs = _like(inputs), _like(outputs)
            replay = self._streams.capture(lambda: network(own_inputs, own_outputs))
        except RuntimeError as error:
            self.enabled = False
            reason = " ".join(str(error).partition("\n")[0].split())
            self._on_note(f"kernels are launched one by one, for they cannot be captured as a CUDA graph: {reason}")
            return
        self._captured[key] = Captured(own_inputs, own_outputs, replay, kept)
        self.graph_bytes += max(0, self._streams.reserved_bytes() - before)


def _like(tensors: Tensors) -> dict[str, Tensor]:
    return {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
