"""Where predictions go: label maps as indexed PNGs, probabilities as NumPy files, overlays as JPEGs.

Files mirror the source's tree under a folder; a model of several heads gets a folder a head. Sinks hold nothing open
and may be written to from several threads.
"""

from __future__ import annotations

import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import ImageError, SettingsError
from fcnseg.io.atomic import write_whole
from fcnseg.io.overlays import legend, overlay
from fcnseg.io.png import encode
from fcnseg.types import EngineInfo, Frame, Labels, Output, Pixels, Prediction, Probabilities

LONGEST_JPEG = 65_500
"""The longest side that libjpeg writes, px."""

BEST_DEFLATE, BEST_JPEG = 1032, 64
"""How many pixels of one colour take a byte in a PNG and, about, in a JPEG."""

SMALLEST_PNG_BYTES = 67
"""An image of one pixel, without a palette."""

STRIP_ROWS = 1024
"""How many rows of an overlay are drawn at once."""

SORTED_ROWS = 64
"""How many rows of probabilities are sorted at once."""


class FileSink(ABC):
    """A file for each head of each image."""

    suffix: str

    def __init__(self, folder: Path, info: EngineInfo) -> None:
        self.folder, self.heads = folder, info.heads

    def path(self, stem: str, head: str) -> Path:
        """The file of one head of the image of that stem."""
        return self.folder / (f"{head}/{stem}{self.suffix}" if len(self.heads) > 1 else f"{stem}{self.suffix}")

    def names(self, stem: str) -> tuple[Path, ...]:
        """The files that the image of that stem will get."""
        return tuple(self.path(stem, head) for head in self.heads)

    @abstractmethod
    def least_bytes(self, height: int, width: int) -> int:
        """The fewest bytes that the files of an image of that size can have."""

    @abstractmethod
    def write(self, frame: Frame, prediction: Prediction) -> tuple[Output, ...]:
        """Write what it is a sink of, of every head."""

    def close(self) -> None:  # noqa: B027 - sinks of files have nothing to do
        """Nothing stays open between writes."""


class LabelPngSink(FileSink):
    """Label maps as PNG: pixel value = class, with the recipe's palette (16-bit grey above 256 classes).

    Text chunks name the model, the weights and the version.
    """

    suffix = ".png"

    def __init__(self, folder: Path, info: EngineInfo) -> None:
        super().__init__(folder, info)
        self.text = {
            "Software": f"fcnseg {info.versions.get('fcnseg', '')}".strip(),
            "fcnseg:model": info.model,
            "fcnseg:weights": info.weights_sha256,
        }

    def least_bytes(self, height: int, width: int) -> int:
        """Of maps of a single class."""
        return len(self.heads) * (SMALLEST_PNG_BYTES + height * width // BEST_DEFLATE)

    def write(self, frame: Frame, prediction: Prediction) -> tuple[Output, ...]:
        """Write the label map of every head."""
        return tuple(
            write_whole(self.path(frame.stem, head), encode(labels, self.heads[head].palette, self.text))
            for head, labels in prediction.labels.items()
        )


class NpyProbabilitySink(FileSink):
    """Probabilities, float16 or float32: K x H x W in a `.npy` file.

    With `top_k`, the most probable classes alone, in a `.npz` file: `probabilities` k x H x W, falling, and `classes`
    k x H x W, uint8 (uint16 above 256 classes). Of equal probabilities the lower class comes first.
    """

    def __init__(self, folder: Path, info: EngineInfo, dtype: str = "float16", top_k: int | None = None) -> None:
        super().__init__(folder, info)
        self.dtype, self.top_k = np.dtype(dtype), top_k
        self.suffix = ".npz" if top_k else ".npy"

    def least_bytes(self, height: int, width: int) -> int:
        """All of them: they are not compressed."""
        index = 1 if max(space.classes for space in self.heads.values()) <= 256 else 2
        each = self.dtype.itemsize + (index if self.top_k else 0)
        classes = sum(min(space.classes, self.top_k or space.classes) for space in self.heads.values())
        return classes * height * width * each

    def write(self, frame: Frame, prediction: Prediction) -> tuple[Output, ...]:
        """Write the probabilities of every head."""
        return tuple(
            write_whole(self.path(frame.stem, head), self._chunks(values))
            for head, values in (prediction.probabilities or {}).items()
        )

    def _chunks(self, values: Probabilities) -> Iterator[bytes | memoryview]:
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
    """The `k` highest of K x H x W values, falling, and their classes; in strips, for the order of all takes room."""
    shape = (min(k, len(values)), *values.shape[1:])
    best, classes = np.empty(shape, dtype), np.empty(shape, np.uint8 if len(values) <= 256 else np.uint16)
    for top in range(0, shape[1], SORTED_ROWS):
        rows = np.s_[:, top : top + SORTED_ROWS]
        order = np.argsort(-values[rows], axis=0, kind="stable")[:k]
        best[rows], classes[rows] = np.take_along_axis(values[rows], order, axis=0), order
    return best, classes


def _npy(array: NDArray[np.generic]) -> Iterator[bytes | memoryview]:
    """The bytes of a `.npy` file: `np.save` would hide the reason a write fails for."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    yield header.getvalue()
    yield np.ascontiguousarray(array).data.cast("B")


class OverlaySink(FileSink):
    """The images with their labels drawn over them, as JPEG; `opacity` from 0 (the image) to 1 (the colours).

    The image is the colour one, or HHA's channels where the model takes no other. Raises SettingsError if it takes
    neither.
    """

    suffix = ".jpg"

    def __init__(self, folder: Path, info: EngineInfo, opacity: float = 0.5) -> None:
        super().__init__(folder, info)
        shown = [name for name in ("color", "hha") if name in info.modalities]
        if not shown:
            raise SettingsError(f"{info.model} takes no images to draw labels over; leave out --overlay")
        self.modality, self.opacity = shown[0], opacity

    def least_bytes(self, height: int, width: int) -> int:
        """Of images of a single colour."""
        return len(self.heads) * height * width // BEST_JPEG

    def write(self, frame: Frame, prediction: Prediction) -> tuple[Output, ...]:
        """Write the overlay of every head. Raises ImageError if it is too large for a JPEG."""
        if max(frame.size) > LONGEST_JPEG:
            raise ImageError(f"an overlay is a JPEG of at most {LONGEST_JPEG} px a side; leave out --overlay", "write")
        pixels = frame.inputs[self.modality]
        return tuple(
            write_whole(self.path(frame.stem, head), [self._drawn(pixels, prediction, head)])
            for head in prediction.labels
        )

    def _drawn(self, pixels: Pixels, prediction: Prediction, head: str) -> bytes:
        labels = prediction.labels[head]
        height, width = labels.shape
        image = Image.new("RGB", (width, height))
        for top in range(0, height, STRIP_ROWS):
            strip = np.asarray(pixels[top : top + STRIP_ROWS])
            drawn = overlay(strip, labels[top : top + STRIP_ROWS], self.heads[head], self.opacity)
            image.paste(Image.fromarray(drawn), (0, top))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()


def write_legend(folder: Path, info: EngineInfo) -> None:
    """`classes.json` (index, name and colour of every class, and the value of void, by head) and `legend.png` (or
    `legend-<head>.png`), for people and programs that meet the label maps."""
    import json

    described = {
        head: {
            "ignore": space.ignore,
            "classes": [
                {"index": i, "name": name, "color": color}
                for i, (name, color) in enumerate(zip(space.names, space.colors, strict=True))
            ],
        }
        for head, space in info.heads.items()
    }
    write_whole(folder / "classes.json", [json.dumps(described, indent=1).encode()])
    for head, space in info.heads.items():
        buffer = io.BytesIO()
        legend(space).save(buffer, "PNG")
        write_whole(folder / (f"legend-{head}.png" if len(info.heads) > 1 else "legend.png"), [buffer.getvalue()])
