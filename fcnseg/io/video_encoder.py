"""H.264 videos of pictures, at the times of the frames that these were made of."""

from __future__ import annotations

from fractions import Fraction
from types import TracebackType
from typing import IO, Any, Self

import av
import numpy as np

from fcnseg.errors import SettingsError
from fcnseg.types import Pixels

CODEC = "libx264"

BT601 = 6
"""The number of ITU-R BT.601's colour matrix in ITU-T H.273."""

LIMITED_RANGE = 1


class VideoEncoder:
    """An MP4 that is written to a file while pictures are added; whole when its `with` block has ended.

    All are of the size of the first. Sizes that are odd keep every pixel's own colour (4:4:4), for shared ones need
    even sizes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        if CODEC not in av.codecs_available:
            raise SettingsError("this PyAV encodes no H.264; `pip install --force-reinstall av` brings one that does")
        self._file = file
        self._stream: Any = None
        self._start = 0

    def __enter__(self) -> Self:
        self._container = av.open(self._file, "w", format="mp4")
        return self

    def add(self, pixels: Pixels, like: Any) -> bool:
        """Add a picture, uint8 H x W x 3 RGB, at the time of a frame of PyAV's; False for one of another size."""
        if self._stream is None:
            self._begin(pixels, like)
        if pixels.shape[:2] != (self._stream.height, self._stream.width):
            return False
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format=self._stream.pix_fmt, dst_colorspace="ITU601")
        frame.pts, frame.time_base = (like.pts or 0) - self._start, like.time_base
        self._container.mux(self._stream.encode(frame))
        return True

    def _begin(self, pixels: Pixels, like: Any) -> None:
        stream: Any = self._container.add_stream(CODEC, options={"crf": "18", "preset": "veryfast"})
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv444p" if stream.height % 2 or stream.width % 2 else "yuv420p"
        stream.codec_context.time_base = like.time_base or Fraction(1, 1000)
        stream.codec_context.colorspace, stream.codec_context.color_range = BT601, LIMITED_RANGE
        self._stream, self._start = stream, like.pts or 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._stream:
            self._container.mux(self._stream.encode(None))
        self._container.close()
