"""HDF5 files of tests."""

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from fcnseg.io.image_source import ImageSource
from fcnseg.types import Reference

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
DEPTH = RNG.random((4, 5, 7), dtype=np.float32)
GREY = np.repeat(COLOR[..., :1], 3, axis=3)


def encoded(pixels: np.ndarray, name: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name)
    return buffer.getvalue()


FILES = [encoded(pixels) for pixels in COLOR]


def write(path: Path, fill: Callable[[h5py.File], object], *, matlab: bool = False) -> Path:
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        fill(file)
    if matlab:
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    return path


def references(source: ImageSource) -> list[Reference]:
    listed = list(source)
    assert list(source) == listed
    assert all(isinstance(found, Reference) for found in listed), listed
    return listed  # type: ignore[return-value]


def loaded(source: ImageSource, modality: str = "color") -> np.ndarray:
    return np.stack([source.load(reference).inputs[modality] for reference in references(source)])


def vlen(file: h5py.File) -> None:
    data = file.create_dataset("x", (4,), h5py.vlen_dtype(np.uint8))
    for i, content in enumerate(FILES):
        data[i] = np.frombuffer(content, np.uint8)
