"""Where predictions go: indexed-PNG label maps and `.npy` probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fcnseg.files import whole_file
from fcnseg.labels import LabelSpace
from fcnseg.types import EngineInfo, Labels, Prediction


def output_name(key: str, suffix: str, head: str | None = None) -> str:
    """The path of an image's output, relative to the output folder: the mirrored key with another suffix."""
    name = PurePosixPath(key).with_suffix(suffix)
    return str(PurePosixPath(head, name) if head else name)


class LabelPngSink:
    """Label maps as PNG: pixel value = class, with the recipe's palette (16-bit grey above 256 classes).

    Files mirror the source's tree; a model of several heads gets a folder a head. Text chunks name the model, the
    weights and the version.
    """

    def __init__(self, folder: Path, info: EngineInfo) -> None:
        self.folder, self.heads = folder, info.heads
        self.text = PngInfo()
        self.text.add_text("Software", f"fcnseg {info.versions.get('fcnseg', '')}".strip())
        self.text.add_text("fcnseg:model", info.model)
        self.text.add_text("fcnseg:weights", info.weights_sha256)

    def path(self, key: str, head: str) -> Path:
        """The file of one label map."""
        return self.folder / output_name(key, ".png", head if len(self.heads) > 1 else None)

    def write(self, prediction: Prediction) -> None:
        """Write the label map of every head."""
        for head, labels in prediction.labels.items():
            with whole_file(self.path(prediction.key, head)) as file:
                label_image(labels, self.heads[head]).save(file, format="PNG", compress_level=1, pnginfo=self.text)

    def close(self) -> None:
        """Nothing stays open between writes."""


def label_image(labels: Labels, space: LabelSpace) -> Image.Image:
    """A label map H x W as a PNG-ready image: indexed with the palette, or 16-bit grey for uint16."""
    if labels.dtype == np.uint16:
        return Image.fromarray(labels)
    image = Image.fromarray(labels)
    image.putpalette(space.palette)
    return image


class NpyProbabilitySink:
    """Probabilities as `.npy`, K x H x W, float16 or float32, in a mirrored tree (a folder a head if several)."""

    def __init__(self, folder: Path, info: EngineInfo, dtype: str = "float16") -> None:
        self.folder, self.heads, self.dtype = folder, info.heads, np.dtype(dtype)

    def write(self, prediction: Prediction) -> None:
        """Write the probabilities of every head."""
        for head, values in (prediction.probabilities or {}).items():
            name = output_name(prediction.key, ".npy", head if len(self.heads) > 1 else None)
            array = np.ascontiguousarray(values, self.dtype)
            with whole_file(self.folder / name) as file:  # np.save would hide the reason a write fails for
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
                file.write(array.data)

    def close(self) -> None:
        """Nothing stays open between writes."""


def colliding_keys(keys: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of inputs whose outputs cannot both exist: one name for two (`a.jpg` and `a.png`), or a file of one
    where the other needs a folder (`a.jpg` and `a.png/b.jpg`)."""
    by_output: dict[str, str] = {}
    pairs = []
    for key in keys:
        first = by_output.setdefault(output_name(key, ".png"), key)
        if first != key:
            pairs.append((first, key))
    for name, key in by_output.items():
        folders = (str(parent) for parent in PurePosixPath(name).parents)
        pairs.extend((by_output[folder], key) for folder in folders if folder in by_output)
    return pairs
