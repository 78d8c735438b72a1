"""Sinks: label maps as indexed PNGs, probabilities as NumPy files; `picture_sinks` has those for people to look at.

Files mirror the source's tree in a storage; a model of several heads gets a folder for each head.
"""

from __future__ import annotations

import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcnseg.io.own_outputs import NAME, SOFTWARE
from fcnseg.io.png import encode
from fcnseg.labels import LabelSpace
from fcnseg.types import EngineInfo, Frame, Labels, OutputName, Prediction, Probabilities, Storage

SORTED_ROWS = 64
"""The rows of probabilities that are sorted at once."""

Content = Iterator[bytes | memoryview]


def output_names(heads: Mapping[str, LabelSpace], suffix: str) -> dict[str, OutputName]:
    """Return the names of the outputs of every image, by head."""
    return {head: OutputName(f"{head}/" if len(heads) > 1 else "", suffix) for head in heads}


class FileSink(ABC):
    """A file for each head of each image."""

    suffix: str

    def __init__(self, storage: Storage, info: EngineInfo) -> None:
        self.storage, self.heads = storage, info.heads
        self.by_head = output_names(info.heads, self.suffix)
        self.names = tuple(self.by_head.values())

    def encode(self, frame: Frame, prediction: Prediction) -> Iterator[tuple[str, Content]]:
        """Yield the name and content of the file of each head."""
        for head, name in self.by_head.items():
            yield name.of(frame.stem), self.encode_head(frame, prediction, head)

    @abstractmethod
    def encode_head(self, frame: Frame, prediction: Prediction, head: str) -> Content:
        """Yield the content of the file of one head."""


class LabelPngSink(FileSink):
    """Label maps as PNG: pixel value = class, with the recipe's palette (16-bit grey above 256 classes).

    Text chunks name the model, the weights and the version.
    """

    suffix = ".png"

    def __init__(self, storage: Storage, info: EngineInfo) -> None:
        super().__init__(storage, info)
        self.text = {
            SOFTWARE: f"{NAME} {info.versions.get('fcnseg', '')}".strip(),
            "fcnseg:model": info.model,
            "fcnseg:weights": info.weights_sha256,
        }

    def encode_head(self, frame: Frame, prediction: Prediction, head: str) -> Content:  # noqa: ARG002
        """Return the PNG of one head's label map."""
        return encode(prediction.labels[head], self.heads[head].palette, self.text)


class NpyProbabilitySink(FileSink):
    """Probabilities, float16 or float32: K x H x W in a `.npy` file.

    With `top_k`, the most probable classes alone, in a `.npz` file: `probabilities` k x H x W, falling, and `classes`
    k x H x W, uint8 (uint16 above 256 classes). Of equal probabilities the lower class comes first.
    """

    def __init__(self, storage: Storage, info: EngineInfo, dtype: str = "float16", top_k: int | None = None) -> None:
        self.dtype, self.top_k = np.dtype(dtype), top_k
        self.suffix = self.suffix_of(top_k)
        super().__init__(storage, info)

    @staticmethod
    def suffix_of(top_k: int | None) -> str:
        """Return the suffix of the files' names."""
        return ".npz" if top_k else ".npy"

    def encode_head(self, frame: Frame, prediction: Prediction, head: str) -> Content:  # noqa: ARG002
        """Yield the NumPy file of one head's probabilities."""
        assert prediction.probabilities is not None  # the engine was asked for them
        values = prediction.probabilities[head]
        if not self.top_k:
            yield from _npy(np.ascontiguousarray(values, self.dtype))
            return
        best, classes = _most_probable(values, self.top_k, self.dtype)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in (("probabilities", best), ("classes", classes)):
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), b"".join(_npy(array)))  # of no date: same bytes always
        yield buffer.getvalue()


def _most_probable(values: Probabilities, k: int, dtype: np.dtype[Any]) -> tuple[Probabilities, Labels]:
    """Return the `k` highest of K x H x W values, falling, and their classes; in strips, for sorting takes memory."""
    shape = (min(k, len(values)), *values.shape[1:])
    best, classes = np.empty(shape, dtype), np.empty(shape, np.uint8 if len(values) <= 256 else np.uint16)
    for top in range(0, shape[1], SORTED_ROWS):
        rows = np.s_[:, top : top + SORTED_ROWS]
        order = np.argsort(-values[rows], axis=0, kind="stable")[:k]
        best[rows], classes[rows] = np.take_along_axis(values[rows], order, axis=0), order
    return best, classes


def _npy(array: NDArray[np.generic]) -> Iterator[bytes | memoryview]:
    """Yield the content of a `.npy` file. `np.save` would hide the reason of a failed write."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    yield header.getvalue()
    yield np.ascontiguousarray(array).data.cast("B")
