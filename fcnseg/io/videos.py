"""Videos as sources: every frame, or every Nth, is an image called after the video and its number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from fcnseg.errors import ImageError, SettingsError, require
from fcnseg.io.folders import file_fingerprint
from fcnseg.io.images import OnSize
from fcnseg.types import Failure, Pixels, Reference


class FrameLocation(NamedTuple):
    """A frame of a video: the file, and its number in the order in which frames are shown, from 0."""

    file: str
    number: int


class VideoImages:
    """The frames of a video, `clip/000000`, `clip/000001`, ... of `clip.mp4`, upright; with `every` N those whose
    number is a multiple of N.

    A video that is cut short ends with a failure that says so. Raises SettingsError without PyAV.
    """

    location_type = FrameLocation

    def __init__(self, path: str, every: int = 1) -> None:
        require("av")
        if every < 1:
            raise SettingsError(f"--every {every} leaves no frames; give 1 or more")
        self.path, self.every = path, every
        self._lock = threading.Lock()

    @cached_property
    def _index(self) -> Any:
        from fcnseg.io.video_index import index_video  # PyAV takes a tenth of a second

        return index_video(self.path)

    @cached_property
    def _frames(self) -> Any:
        from fcnseg.io.video_frames import VideoFrames  # as above

        return VideoFrames(self.path, self._index, self.every)

    def __iter__(self) -> Iterator[Reference | Failure]:
        name = Path(self.path).stem
        with self._lock:
            index = self._index
        for number in index:
            if number % self.every == 0:
                key = f"{name}/{number:06}"
                yield Reference(key, key, "", FrameLocation(self.path, number))
        if index.cut:
            yield Failure(f"{name}/{index.end:06}-", "list", index.cut)

    def read(self, location: Any, modality: str, max_pixels: int, on_size: OnSize) -> Pixels:
        """Decode one frame, uint8 H x W x 3. Raises ImageError."""
        if modality != "color":
            raise ImageError(f"videos are of color, not {modality}")
        from fcnseg.io.video_frames import quarter_turns, upright  # PyAV takes a tenth of a second

        with self._lock:
            frames = self._frames
        frame = frames.frame(FrameLocation(*location).number)
        size = frame.height, frame.width
        height, width = size[::-1] if quarter_turns(frame) % 2 else size
        if height * width > max_pixels:
            raise ImageError(f"{width} x {height} are more than the {max_pixels:,} pixels that --max-pixels allows")
        on_size(height, width, 3 * height * width)
        return upright(frame)

    def fingerprint(self, location: Any) -> str:
        """Return the size and time of the video."""
        return file_fingerprint(FrameLocation(*location).file)

    def close(self) -> None:
        """Close the video."""
        if "_frames" in self.__dict__:
            self._frames.close()
