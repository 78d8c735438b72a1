"""The PyTorch engine for GPUs: batches of one shape, several in flight, labels out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor

from fcnseg.engine.options import check_precision
from fcnseg.engine.runtimes.common import check_memory, labels_dtype, output_names, too_large
from fcnseg.engine.runtimes.overlapped import BatchMemory, OverlappedEngine, TensorShapes, translated
from fcnseg.engine.runtimes.pytorch import exact_arithmetic, find_device, open_network, torch_dtype, torch_info
from fcnseg.engine.runtimes.replays import Replays, Tensors
from fcnseg.engine.runtimes.streams import streams_of
from fcnseg.errors import EngineError, ImageError, SettingsError, TooLargeError
from fcnseg.models.backbones import Conv
from fcnseg.models.label_network import LabelNetwork, labels_of
from fcnseg.models.lean import LeanFCN
from fcnseg.recipes import Recipe

MOST_VALUES = 2**31 - 1
"""The values of a map that kernels count in 32 bits."""


class BatchedTorchEngine(OverlappedEngine):
    """A recipe's network on a GPU, in batches; see `TorchEngine` for one image at a time.

    Every image of a size is computed in a batch of one size, filled up with zeros: libraries choose other kernels for
    other batches, and the last bits of a score (so now and then a label) would depend on batch composition. It is
    `batch`, or else the recipe's largest for images up to its typical size, and for larger ones as many as have no more
    pixels. A batch that memory does not hold is halved from then on, which `events` counts.

    The blank margins of `caffe` geometry are left out, shapes that repeat become CUDA graphs unless `graphs` is False,
    and `on_note` is told if they cannot. `device` may be the processor, for tests: there nothing overlaps.
    """

    title, instead = "torch", "use --device cpu"
    slots = 3

    def __init__(
        self,
        recipe: Recipe,
        weights: Path | None = None,
        device: str = "auto",
        precision: str = "fp32",
        choice: str = "as asked",
        *,
        batch: int | None = None,
        graphs: bool = True,
        on_note: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__()
        check_precision(precision, "torch")
        self.recipe, self.weights, self.precision, self.choice = recipe, weights, precision, choice
        self.batch, self.graphs, self.on_note = batch, graphs, on_note
        self.device = find_device(device)
        check_precision(precision, "torch", on_processor=self.device.type == "cpu")
        if self.device.type not in ("cpu", "cuda"):
            raise SettingsError(f"batches in flight are for CUDA devices, not for {self.device}; use TorchEngine")
        self.events: Counter[str] = Counter()
        self._network: LabelNetwork | None = None
        self._most_px: int | None = None

    def __enter__(self) -> Self:
        network, sha256 = open_network(self.recipe, self.weights, self.device, self.precision, LeanFCN.of)
        with translated(self.title, self.instead):
            streams = self._streams = streams_of(self.device)
            self._network = LabelNetwork(network, self.recipe).to(self.device).eval()
        self._slots = [BatchMemory(streams) for _ in range(self.slots)]
        self._replays = Replays(streams, self.on_note, enabled=self.graphs)
        self.info = replace(
            torch_info(self.recipe, self.device, self.precision, sha256, self.choice),
            max_batch=self.batch or self.recipe.shapes.max_batch,
        )
        return self

    def close(self) -> None:
        """Wait for what is in flight and release everything."""
        with self._lock:
            if self._network is not None:
                self._settle()
                self._replays.forget()
                self._network = None
                self._slots = []
                self._streams.give_back()

    @property
    def graph_bytes(self) -> int:
        """The device memory that CUDA graphs took."""
        return self._replays.graph_bytes

    # ------------------------------------------------------------------ the shape of batches

    def _rows_computed(self, rows: int, height: int, width: int) -> int:  # noqa: ARG002 - of any number of images
        area_px = max(1, height * width)
        if self.batch:
            computed = self.batch
        else:
            typical_height, typical_width = self.recipe.shapes.typical
            computed = self.recipe.shapes.max_batch * min(area_px, typical_height * typical_width) // area_px
        computed = min(computed, MOST_VALUES // self._widest_map(height, width))
        if self._most_px is not None:
            computed = min(computed, self._most_px // area_px)
        return max(1, computed)

    def _rows_at_once(self, rows: int, height: int, width: int) -> int:
        return min(rows, self._rows_computed(rows, height, width))

    def _widest_map(self, height: int, width: int) -> int:
        """Return the values of one image's largest map."""
        network = self._opened.network
        first = network.layers[0]
        assert isinstance(first, Conv)  # in every backbone
        channels = max(first.channels, *(head.labels.classes for head in self.recipe.heads))
        return channels * (height + 2 * first.window.pad) * (width + 2 * first.window.pad)

    def _make_room(self, height: int, width: int) -> bool:
        """Give back CUDA graphs, or if there are none halve the batches."""
        self._settle()
        had_graphs = self._replays.forget()
        self._streams.give_back()
        if had_graphs:
            self.on_note("kernels are launched one by one from here on: CUDA graphs were given up for their memory")
            return True
        computed = self._rows_computed(1, height, width)
        if computed == 1:
            return False
        self._most_px = computed * height * width // 2
        self.events["batches halved"] += 1
        return True

    # ------------------------------------------------------------------ the network

    @property
    def _opened(self) -> LabelNetwork:
        if self._network is None:
            raise EngineError("the engine is closed; use it inside its `with` block")
        return self._network

    def _check_open(self, probabilities: bool) -> None:  # noqa: ARG002 - it gives both
        assert self._opened

    def _tensor_types(self) -> Mapping[str, torch.dtype]:
        inputs = {m: torch.float32 if m == "depth" else torch.uint8 for m in self.recipe.modalities}
        labels = {h.name: getattr(torch, np.dtype(labels_dtype(h)).name) for h in self.recipe.heads}
        names = output_names(self.recipe, True)
        return {**dict.fromkeys(names, torch.float32), **inputs, **labels}

    def _output_shapes(self, inputs: TensorShapes, probabilities: bool) -> TensorShapes:
        rows, height, width = next(iter(inputs.values()))[:3]
        if not height * width:
            raise ImageError(f"{width} x {height} pixels are no image", "predict")
        if self._widest_map(height, width) > MOST_VALUES:
            raise TooLargeError(too_large(height, width))
        if self.device.type == "cpu":
            check_memory(self.recipe, height, width, rows * torch_dtype(self.precision).itemsize)
        heads = self.recipe.heads
        shapes: dict[str, tuple[int, ...]] = {head.name: (rows, height, width) for head in heads}
        if probabilities:
            names = output_names(self.recipe, True)[len(heads) :]
            shapes |= {n: (rows, h.labels.classes, height, width) for h, n in zip(heads, names, strict=True)}
        return shapes

    def _enqueue(self, tensors: Mapping[str, Tensor], probabilities: bool) -> None:
        inputs = {m: tensors[m] for m in self.recipe.modalities}
        outputs = {name: tensors[name] for name in output_names(self.recipe, probabilities)}
        shape = next(iter(inputs.values())).shape[:3]
        with self._streams.computing(), exact_arithmetic(self.device), torch.inference_mode():
            around = cast(LeanFCN, self._opened.network).surroundings(*shape[1:])
            self._replays.run((probabilities, *shape), inputs, outputs, self._compute, around)

    def _compute(self, inputs: Tensors, outputs: Tensors) -> None:
        """Enqueue the kernels from images N x H x W x C to the outputs that there is room for."""
        scores = self._opened.scores(*inputs.values())
        names = output_names(self.recipe, True)[len(scores) :]
        for head, name, score in zip(self.recipe.heads, names, scores, strict=True):
            outputs[head.name].copy_(labels_of(score))
            if name in outputs:
                outputs[name].copy_(score.softmax(1))
