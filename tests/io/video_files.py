"""Videos for tests, encoded by PyAV: every frame shows its own number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 25
Picture = np.ndarray[Any, np.dtype[np.uint8]]


BITS = 8


def picture(number: int, size: tuple[int, int]) -> Picture:
    """Eight columns, white for the ones of the number's bits, above a black ground."""
    pixels = np.zeros((*size, 3), np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            pixels[: size[0] * 3 // 4, size[1] * bit // BITS : size[1] * (bit + 1) // BITS] = 255
    return pixels


def number_of(pixels: Picture) -> int:
    """The number of a frame of `picture`, upright, by its pixels."""
    row = pixels[pixels.shape[0] // 3].mean(-1)
    assert pixels[-4:].mean() < 60
    return sum(int(row[len(row) * (2 * bit + 1) // (2 * BITS)] > 128) << bit for bit in range(BITS))


def write_video(
    path: Path,
    frames: int = 30,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    gop: int = 8,
    ticks: int = 100,
    container: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode a video with B-frames; a frame takes `ticks`, and `times` are in these."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, RATE * ticks)
        if codec == "libx264":
            stream.codec_context.max_b_frames = 2
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts = times[number] if times else number * ticks
            frame.time_base = Fraction(1, RATE * ticks)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def turn(path: Path) -> None:
    """Say in an MP4 that its frames are to be shown turned by 90 degrees, clockwise."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # of version 0, ISO/IEC 14496-12
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
