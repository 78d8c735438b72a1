"""Sinks of pictures: overlays, label maps in colours, masks, and cut-outs of the photographs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.errors import ImageError, SettingsError
from fcnseg.io.overlays import color_table, overlay
from fcnseg.io.own_outputs import NAME, SOFTWARE
from fcnseg.io.png import GREY, RGB, RGBA, encode_strips, strips
from fcnseg.labels import LabelSpace
from fcnseg.running.class_choice import Heads, labels_by_head
from fcnseg.running.sinks import Content, FileSink, output_names
from fcnseg.types import EngineInfo, Frame, Labels, OutputName, Pixels, Prediction, Storage

LONGEST_JPEG = 65_500
"""The longest side that libjpeg writes, px."""

STRIP_ROWS = 1024
"""The rows of an overlay that are drawn at once."""

NOT_IN_NAMES = frozenset('/\\:*?"<>|')
"""Characters that a system has no folders with."""


class OverlaySink(FileSink):
    """The images with their labels drawn over them, as JPEG; `opacity` from 0 (the image) to 1 (the colours).

    See `shown_modality` for the image that is shown.
    """

    suffix = ".jpg"

    def __init__(self, storage: Storage, info: EngineInfo, opacity: float = 0.5) -> None:
        super().__init__(storage, info)
        self.modality, self.opacity = shown_modality(info.model, info.modalities, "--overlay"), opacity

    def encode_head(self, frame: Frame, prediction: Prediction, head: str) -> Content:
        """Return the JPEG of one head's overlay. Raises ImageError if it is too large for a JPEG."""
        if max(frame.size) > LONGEST_JPEG:
            raise ImageError(f"an overlay is a JPEG of at most {LONGEST_JPEG} px a side; leave out --overlay", "write")
        return iter([self._drawn(frame.inputs[self.modality], prediction.labels[head], self.heads[head])])

    def _drawn(self, pixels: Pixels, labels: Labels, space: LabelSpace) -> bytes:
        height, width = labels.shape
        image = Image.new("RGB", (width, height))
        for top in range(0, height, STRIP_ROWS):
            strip = np.asarray(pixels[top : top + STRIP_ROWS])
            drawn = overlay(strip, labels[top : top + STRIP_ROWS], space, self.opacity)
            image.paste(Image.fromarray(drawn), (0, top))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90, comment=f"{NAME} overlay")
        return buffer.getvalue()


class ColorPngSink(FileSink):
    """Label maps as RGB PNGs, in the colours that the indexed ones are shown in."""

    suffix = ".png"

    def encode_head(self, frame: Frame, prediction: Prediction, head: str) -> Content:  # noqa: ARG002
        """Return the PNG of one head's colours."""
        labels = prediction.labels[head]
        table = color_table(self.heads[head], np.iinfo(labels.dtype).max + 1)
        colors = (table[strip] for strip in strips(labels, 3))
        return encode_strips(labels.shape, RGB, colors, {SOFTWARE: f"{NAME} colours"})


class MaskSink:
    """Masks as grey PNGs of 8 bits: 255 where a pixel is of the class, else 0. Several classes have a folder each."""

    def __init__(self, storage: Storage, info: EngineInfo, classes: str | Sequence[str]) -> None:
        self.storage, self.by_class = storage, mask_names(info.heads, classes)
        self.names = tuple(self.by_class.values())

    def encode(self, frame: Frame, prediction: Prediction) -> Iterator[tuple[str, Content]]:
        """Yield the name and content of the file of each class."""
        for (head, label), name in self.by_class.items():
            yield name.of(frame.stem), _mask(prediction.labels[head], label)


def _mask(labels: Labels, label: int) -> Content:
    masks = ((strip == label).view(np.uint8) * np.uint8(255) for strip in strips(labels))
    return encode_strips(labels.shape, GREY, masks, {SOFTWARE: f"{NAME} mask"})


def mask_names(heads: Heads, classes: str | Sequence[str]) -> dict[tuple[str, int], OutputName]:
    """Return the names of an image's masks, by head and label. Raises SettingsError for classes that are none."""
    chosen = [(head, label) for head, labels in labels_by_head(classes, heads, "--mask").items() for label in labels]
    several = len({heads[head].names[label] for head, label in chosen}) > 1
    return {
        (head, label): OutputName(
            (f"{head}/" if len(heads) > 1 else "") + (f"{class_folder(heads[head], label)}/" if several else ""), ".png"
        )
        for head, label in chosen
    }


def class_folder(space: LabelSpace, label: int) -> str:
    """Return the folder of one class: its name, or its number where file systems cannot tell that, or have it."""
    name = space.names[label]
    alike = [other for other in space.names if other.lower() == name.lower()]
    usable = name.isprintable() and not NOT_IN_NAMES & set(name) and name == name.strip(". ") and len(alike) == 1
    return name if usable and len(name.encode()) < 200 else f"class-{label}"


class CutoutSink(FileSink):
    """Cut-outs as RGBA PNGs: the photograph's own pixels where they are of one of the classes, opaque.

    All others are transparent, and black beneath: nothing of what was cut away is in the file, and it is small.
    """

    suffix = ".png"

    def __init__(self, storage: Storage, info: EngineInfo, classes: str | Sequence[str]) -> None:
        super().__init__(storage, info)
        self.labels = labels_by_head(classes, info.heads, "--cutout")
        self.by_head = cutout_names(info.heads, classes)
        self.names = tuple(self.by_head.values())
        self.modality = shown_modality(info.model, info.modalities, "--cutout")

    def encode_head(self, frame: Frame, prediction: Prediction, head: str) -> Content:
        """Return the PNG of one head's cut-out."""
        labels = prediction.labels[head]
        chosen = np.zeros(np.iinfo(labels.dtype).max + 1, bool)
        chosen[list(self.labels[head])] = True
        cut = _cut_strips(frame.inputs[self.modality], labels, chosen)
        return encode_strips(labels.shape, RGBA, cut, {SOFTWARE: f"{NAME} cutout"})


def cutout_names(heads: Heads, classes: str | Sequence[str]) -> dict[str, OutputName]:
    """Return the names of an image's cut-outs, by head. Raises SettingsError for classes that are none."""
    having = labels_by_head(classes, heads, "--cutout")
    return {head: name for head, name in output_names(heads, CutoutSink.suffix).items() if head in having}


def _cut_strips(pixels: Pixels, labels: Labels, chosen: NDArray[np.bool_]) -> Iterator[Pixels]:
    """Yield RGBA strips h x W x 4; `chosen` tells of each label whether its pixels are kept."""
    top = 0
    for strip in strips(labels, 4):
        inside = chosen[strip]
        rgba = np.zeros((*strip.shape, 4), np.uint8)
        rgba[inside, :3] = np.asarray(pixels[top : top + len(strip)])[inside]
        rgba[..., 3] = inside.view(np.uint8) * np.uint8(255)
        top += len(strip)
        yield rgba


def shown_modality(model: str, modalities: Iterable[str], option: str) -> str:
    """Return the modality that is shown to people: color, or HHA's channels where the model takes no color.

    Raises SettingsError if it takes neither.
    """
    for name in ("color", "hha"):
        if name in modalities:
            return name
    raise SettingsError(f"{model} takes no images that could be shown; leave out {option}")
