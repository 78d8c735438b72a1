"""Frames of a video by number, decoded on and on: backwards, and far ahead, from the key frame before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from fcnseg.errors import ImageError
from fcnseg.io.video_index import VideoIndex, opened
from fcnseg.types import Pixels

KEPT_FRAMES, KEPT_BYTES = 64, 256 << 20
"""The decoded frames that are kept for threads that ask for them a little later, and the bytes of their pixels."""

WORTH_SEEKING = 16
"""The frames that are decoded rather than left out by seeking."""


def upright(frame: Any) -> Pixels:
    """Return the pixels of a frame of PyAV's as they are to be shown, uint8 H x W x 3, RGB."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns(frame)))


def quarter_turns(frame: Any) -> int:
    """Return how often a frame has to be turned by 90 degrees, counterclockwise."""
    return int(round(frame.rotation / 90) % 4)


class VideoFrames:
    """The frames of one video. Safe to use from several threads, of which one decodes at a time.

    `every`: only frames whose number is a multiple of it are asked for.
    """

    def __init__(self, path: str, index: VideoIndex, every: int = 1) -> None:
        self.path, self.index, self.every = path, index, every
        self._lock = threading.Lock()
        self._container: Any = None
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._next, self._end = 0, index.end
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lost: set[int] = set()
        self._damaged = False

    def frame(self, number: int) -> Any:
        """Return a frame as PyAV decodes it. Raises ImageError for one that cannot be decoded."""
        with self._lock:
            if number in self._kept:
                return self._kept.pop(number)
            if number not in self._lost:
                self._approach(number)
                while self._next <= number:
                    found, frame = next(self._frames, (self._end, None))
                    self._lost.update(range(self._next, found))  # all between are behind now
                    self._next = found + 1
                    if found == number:
                        return frame
                    if frame:
                        self._keep(found, frame)
        raise ImageError("it cannot be decoded: the video is damaged there, or shortly before")

    def _keep(self, number: int, frame: Any) -> None:
        """Keep a frame that may be asked for, in the place of the oldest."""
        if number % self.every == 0:
            self._kept[number] = frame
            most = min(KEPT_FRAMES, max(4, KEPT_BYTES // (3 * frame.width * frame.height)))
            while len(self._kept) > most:
                self._kept.popitem(last=False)

    def _approach(self, number: int) -> None:
        """Begin anew, from the last key frame before a frame, unless decoding on leads there as soon."""
        key = self.index.key_before(number)
        if self._container and self._next <= number and not (key and key[0] > self._next + WORTH_SEEKING):
            return
        if key and self._begin(key[1]) <= number:
            return
        self._begin(None)

    def _begin(self, time: int | None) -> int:
        """Begin at a time, or with the first frame; returns the number of the frame that comes next."""
        if self._container and time is None:
            self._container.close()
            self._container = None
        self._container = self._container or opened(self.path)
        stream = self._container.streams.video[0]
        if time is None:
            stream.thread_type = "SLICE"  # threads for frames side by side tell of damage too late
            self._next, self._frames = 0, self._numbered(stream, damaged=False)
            return 0
        self._container.seek(time, stream=stream)
        frames = self._numbered(stream, damaged=True)
        first = next(frames, (self._end, None))
        self._next, self._frames = first[0], chain([first], frames)
        return self._next

    def _numbered(self, stream: Any, damaged: bool) -> Iterator[tuple[int, Any]]:
        """Yield the sound frames with their numbers. After damage they go on with a key frame: what is shown before
        that may need what was not decoded."""
        self._damaged = damaged
        numbers = self.index.numbers
        for count, frame in enumerate(self._decoded(stream)):
            if frame.is_corrupt:
                self._damaged = True
            elif frame.key_frame and frame.pict_type in (PictureType.I, PictureType.NONE):
                self._damaged = False
            number = count if numbers is None else numbers.get(frame.pts)
            if number is not None and not self._damaged:
                yield number, frame

    def _decoded(self, stream: Any) -> Iterator[Any]:
        """Yield what can be decoded, in the order it is shown; note damage."""
        with suppress(av.FFmpegError, OSError):
            for packet in self._container.demux(stream):
                if packet.is_corrupt:
                    self._damaged = True
                    continue
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    self._damaged = True
                    continue
                yield from frames

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._kept.clear()
            self._frames = iter(())
            if self._container:
                self._container.close()
                self._container = None
