"""`--sink boundaries:WIDTH=DIR`: where classes meet, as a grey PNG with 255 on the lines between them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image, ImageFilter

from fcnseg import Frame, LabelSpace, OutputName, Prediction, Storage
from fcnseg.errors import SettingsError


class BoundarySink:
    """Boundaries of an odd number of pixels in width, one file for each head."""

    def __init__(self, storage: Storage, heads: Mapping[str, LabelSpace], argument: str) -> None:
        if argument and not (argument.isdecimal() and int(argument) % 2):
            raise SettingsError(f"boundaries are an odd number of pixels wide, not {argument}; give boundaries:3=DIR")
        self.storage, self.width = storage, int(argument or 1)
        self.by_head = {head: OutputName(f"{head}/" if len(heads) > 1 else "", ".png") for head in heads}

    @property
    def names(self) -> tuple[OutputName, ...]:
        """The names of the files of every image."""
        return tuple(self.by_head.values())

    def encode(self, frame: Frame, prediction: Prediction) -> Iterator[tuple[str, list[bytes]]]:
        """Yield the name and the content of each file of one image."""
        for head, name in self.by_head.items():
            labels = prediction.labels[head]
            meets = np.zeros(labels.shape, bool)
            meets[:, 1:] |= labels[:, 1:] != labels[:, :-1]
            meets[1:] |= labels[1:] != labels[:-1]
            drawn = Image.fromarray(meets.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(self.width))
            content = io.BytesIO()
            drawn.save(content, "PNG")
            yield name.of(frame.stem), [content.getvalue()]
