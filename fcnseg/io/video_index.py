"""The frames of a video by number: the order in which they are shown, from 0, whatever the order they are stored in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import median
from typing import Any

import av
from av.container import InputContainer

from fcnseg.errors import SourceError

TRIED = 16
"""The frames that are decoded to see whether times can number the others."""

SEEKABLE = frozenset(("mov", "mp4", "matroska", "webm", "avi"))
"""Containers in which a time leads to the key frame before it; others are decoded from their start."""


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video.

    `numbers` is their numbers by time, in the stream's units; None if the times in the file do not tell frames apart,
    which are then counted as they are decoded, `count` of them. `keys` are the numbers of those that decoding may begin
    at, and `times` those of these. `cut` says in words that the file ends before the video does, and is empty else.
    """

    numbers: Mapping[int, int] | None
    count: int
    keys: Sequence[int]
    times: Sequence[int]
    cut: str

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count) if self.numbers is None else self.numbers.values())

    @property
    def end(self) -> int:
        """A number above all others."""
        return 1 + max(self, default=-1)

    def key_before(self, number: int) -> tuple[int, int] | None:
        """Return the number and the time of the last key frame up to a frame; None if there is none to seek."""
        place = bisect_right(self.keys, number)
        return (self.keys[place - 1], self.times[place - 1]) if place else None


def opened(path: str) -> InputContainer:
    """Open a video. Raises SourceError if it is none, or its end is missing and nothing of it can be read without."""
    try:
        container = av.open(path)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{path} cannot be opened: {reason}; it is no video, or was cut short") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{path} holds no video, only sound; give a video")
    return container


def index_video(path: str) -> VideoIndex:
    """Number the frames of a video. The file is read through, but not decoded. Raises SourceError as `opened`."""
    with opened(path) as container:
        stream = container.streams.video[0]
        shown: dict[int, bool] = {}
        complete, packets, last_dts, end_seconds = True, 0, 0, 0.0
        for packet in _packets(container):
            end_seconds = max(end_seconds, _end_seconds(packet))
            if packet.stream is stream:
                packets += 1
                last_dts = max(last_dts, packet.dts or 0)
                if not packet.is_discard:
                    complete &= packet.pts is not None and packet.pts not in shown
                    shown[packet.pts or 0] = packet.is_keyframe
        cut = _cut(container, stream, packets, end_seconds)
        seekable = not SEEKABLE.isdisjoint(container.format.name.split(","))
    if not complete or not _tells_frames(path, shown):
        return VideoIndex(None, sum(1 for _ in _decoded(path)), (), (), cut)
    numbers = _numbered(sorted(shown), last_dts if cut else None)
    keys = [(number, time) for time, number in numbers.items() if shown[time] and seekable]
    return VideoIndex(numbers, len(numbers), tuple(key for key, _ in keys), tuple(time for _, time in keys), cut)


def _packets(container: InputContainer) -> Iterator[Any]:
    """Yield the packets of all streams, up to where the file cannot be read any more."""
    with suppress(av.FFmpegError, OSError):
        for packet in container.demux():
            if packet.size:
                yield packet


def _end_seconds(packet: Any) -> float:
    start = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if start is None else float((start + (packet.duration or 0)) * packet.time_base)


def _cut(container: InputContainer, stream: Any, packets: int, end_seconds: float) -> str:
    """Say that a file ends before its header says; empty if it does not."""
    is_mp4 = "mp4" in container.format.name
    header_seconds = (container.duration or 0) / av.time_base
    if stream.duration:
        header_seconds = max(header_seconds, float(stream.duration * stream.time_base))
    seconds = end_seconds - (container.start_time or 0) / av.time_base
    frame_seconds = 1 / float(stream.average_rate) if stream.average_rate else 0.04
    if header_seconds - seconds <= (frame_seconds / 2 if is_mp4 else 0.02 * header_seconds + 0.2):
        return ""
    if is_mp4 and stream.frames > packets:
        return f"the video is cut short: {stream.frames - packets} of its {stream.frames} frames are missing"
    return f"the video is cut short: it ends after {seconds:.1f} of {header_seconds:.1f} seconds"


def _numbered(times: list[int], certain: int | None) -> dict[int, int]:
    """Return the number of the frame at each time.

    At the end of a file that is cut, frames that are shown between others may be missing: after the time that is
    `certain`, gaps count as so many frames.
    """
    numbers: dict[int, int] = {}
    step = median(later - earlier for earlier, later in pairwise(times)) if len(times) > 1 else 1
    for place, time in enumerate(times):
        if place and certain is not None and time > certain:
            numbers[time] = numbers[times[place - 1]] + max(1, round((time - times[place - 1]) / step))
        else:
            numbers[time] = place
    return numbers


def _tells_frames(path: str, times: dict[int, bool]) -> bool:
    """Tell whether the first frames that are decoded have the first of the times."""
    first = [frame.pts for frame in islice(_decoded(path), TRIED)]
    expected = sorted(times)[: len(first)]
    return bool(first) and all(time in times for time in first) and first[0] == expected[0]


def _decoded(path: str) -> Iterator[Any]:
    with opened(path) as container:
        stream = container.streams.video[0]
        for packet in _packets(container):
            if packet.stream is stream and not packet.is_corrupt:
                with suppress(av.FFmpegError):
                    yield from stream.decode(packet)
        with suppress(av.FFmpegError):
            yield from stream.decode(None)
