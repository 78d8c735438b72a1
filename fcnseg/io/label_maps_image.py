"""Label maps in image files: their stored values, as Pillow alone does not always give them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from PIL import Image

from fcnseg.errors import LabelsError
from fcnseg.io.decoder_work import MOST_FRAMES, SMALL_FILE_BYTES, check_decoder, check_parts, frame_count
from fcnseg.io.file_kinds import START_BYTES, further_formats
from fcnseg.io.image_opening import FORMATS
from fcnseg.io.png import SIGNATURE
from fcnseg.io.png_chunks import is_whole, without_damaged_chunks
from fcnseg.io.raw_map import RawMap, check_memory, palette_colors

GREY_STEP = {2: 85, 4: 17}
"""By bit depth (byte 24 of a PNG): Pillow spreads few levels over 0..255; divided by this they are the file's again."""


def read_from_image(data: bytes) -> RawMap:
    """Read the bytes of a lossless image of one picture. Raises LabelsError, or whatever Pillow does, without naming
    the file."""
    image: Image.Image
    if len(data) > SMALL_FILE_BYTES:
        check_parts(io.BytesIO(data))
    file: IO[bytes] = io.BytesIO(data)
    is_png = data.startswith(SIGNATURE)
    if is_png:
        file = without_damaged_chunks(file)
        if not is_whole(file):
            raise LabelsError("is damaged: the checksum of its pixels is wrong")
    with _any_size(), Image.open(file, formats=(*FORMATS, *further_formats(data[:START_BYTES]))) as image:
        if image.format in ("JPEG", "WEBP", "MPO", "JPEG2000", "AVIF", "HEIF"):
            raise LabelsError(f"is {image.format}, which changes labels; keep label maps as PNG")
        if (frames := frame_count(image, len(data))) > 1:
            many = f"{frames} pictures" if frames < MOST_FRAMES else "very many pictures"
            raise LabelsError(f"holds {many}; keep one label map in a file")
        check_decoder(image)
        check_memory(image.width * image.height * len(image.getbands()))
        if image.mode.startswith("RGB") and is_png and data[24] == 16:
            raise LabelsError("has colours of 16 bits a channel; save them with 8")
        if image.mode == "P":
            return RawMap(np.asarray(image), palette_colors(bytes(image.getpalette() or ())))
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise LabelsError(f"has {image.mode} colours; save it as RGB, or with labels as its grey levels")
        if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema() != (255, 255):
            raise LabelsError("is partly transparent, so that its labels are uncertain; save it without alpha")
        values = np.asarray(image)
        if image.mode in ("RGBA", "LA", "PA"):
            values = values[..., :3] if image.mode == "RGBA" else values[..., 0]
        if image.mode == "L" and is_png:
            values = values // GREY_STEP.get(data[24], 1)
        return RawMap(values)


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's limit on the pixels of an image: label maps of orbits and slides have more."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # of the whole process
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
