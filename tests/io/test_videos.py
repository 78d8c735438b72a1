"""Frames of videos: numbered as they are shown, whatever the container, the codec and the way there."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io import video_frames, video_index
from fcnseg.io.image_source import ImageSource
from fcnseg.io.sources import open_source
from fcnseg.io.video_frames import VideoFrames
from fcnseg.io.video_index import index_video
from fcnseg.testing import check_source
from fcnseg.types import Failure, Reference
from tests.io.video_files import number_of, turn, write_video

FRAMES = 30
VARIABLE = [0, 100, 130, 300, 700, *range(800, 800 + 170 * (FRAMES - 5), 170)]

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "B-frames": ("clip.mp4", {}),
    "a variable rate": ("clip.mp4", {"times": VARIABLE}),
    "Matroska": ("clip.mkv", {}),
    "a transport stream": ("clip.ts", {}),
    "AVI": ("clip.avi", {"codec": "mpeg4"}),
    "MPEG": ("clip.mpg", {"codec": "mpeg2video", "ticks": 1}),
    "WebM": ("clip.webm", {"codec": "libvpx"}),
    "odd sizes": ("clip.mp4", {"size": (47, 63), "pixels": "yuv444p"}),
    "odd sizes of subsampled colours": ("clip.mkv", {"size": (47, 63), "codec": "ffv1"}),
    "all key frames": ("clip.mp4", {"gop": 1}),
    "one key frame": ("clip.mp4", {"gop": 500}),
    "open groups": ("clip.mp4", {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0"}}),
    "no key frames but waves": ("clip.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=8"}}),
}


def read(source: ImageSource, reference: Reference) -> int:
    return number_of(source.load(reference).inputs["color"])


def listed(source: ImageSource) -> tuple[list[Reference], list[Failure]]:
    entries = list(source)
    return [e for e in entries if isinstance(e, Reference)], [e for e in entries if isinstance(e, Failure)]


@pytest.fixture(params=KINDS)
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, how = KINDS[request.param]
    return write_video(tmp_path / name, FRAMES, **how)


def test_every_frame_has_its_number_in_any_order(clip: Path) -> None:
    with closing(open_source(clip)) as source:
        references, failures = listed(source)
        assert failures == []
        assert [reference.key for reference in references] == [f"clip/{i:06}" for i in range(FRAMES)]
        forwards = [source.load(reference).inputs["color"] for reference in references]
        assert [number_of(pixels) for pixels in forwards] == list(range(FRAMES))
        order = np.random.default_rng(0).permutation(FRAMES)
        for i in order:
            assert np.array_equal(source.load(references[i]).inputs["color"], forwards[i])
        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(lambda r: source.load(r).inputs["color"], references))
        assert all(map(np.array_equal, together, forwards))


def test_a_resumed_run_gets_the_same_pixels(clip: Path) -> None:
    with closing(open_source(clip)) as source:
        references, _ = listed(source)
        before = [source.load(reference).inputs["color"] for reference in references]
    for first in (1, 7, 8, 25):
        with closing(open_source(clip)) as fresh:
            stored = json.loads(json.dumps(references[first].location))
            location = Reference(references[first].key, references[first].stem, "", stored)
            assert np.array_equal(fresh.load(location).inputs["color"], before[first])


def test_it_keeps_to_the_contract(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 12)
    check_source(lambda: open_source(clip))


@pytest.mark.parametrize("every", [1, 3, 7, 100])
def test_every_nth_frame_keeps_its_number(every: int, tmp_path: Path) -> None:
    with closing(open_source(write_video(tmp_path / "clip.mp4", FRAMES), every=every)) as source:
        references, _ = listed(source)
        assert [reference.key for reference in references] == [f"clip/{i:06}" for i in range(0, FRAMES, every)]
        assert [read(source, reference) for reference in references] == list(range(0, FRAMES, every))


def test_frames_are_upright(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 3, size=(48, 64))
    turn(clip)
    with closing(open_source(clip)) as source:
        (_, reference, _), _ = listed(source)
        pixels = source.load(reference).inputs["color"]
        assert pixels.shape == (64, 48, 3)
        assert number_of(np.rot90(pixels)) == 1  # they were turned clockwise
        assert source.size(reference) == (64, 48)


def test_numbers_are_counted_where_times_do_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_video(tmp_path / "clip.mp4", FRAMES)
    monkeypatch.setattr(video_index, "_tells_frames", lambda path, times: False)
    with closing(open_source(clip)) as source:
        references, _ = listed(source)
        assert [read(source, references[i]) for i in (0, 5, 29, 3, 28)] == [0, 5, 29, 3, 28]


def test_memory_for_frames_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = str(write_video(tmp_path / "clip.mp4", FRAMES, gop=500))
    monkeypatch.setattr(video_frames, "KEPT_FRAMES", 5)
    with closing(VideoFrames(clip, index_video(clip))) as frames:
        assert frames.frame(29)
        assert len(frames._kept) == 5
        assert number_of(frames.frame(0).to_ndarray(format="rgb24")) == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Videos whose headers stand first, as files that were cut short have them."""
    folder = tmp_path_factory.mktemp("whole")
    first = {"movflags": "faststart"}
    return {
        name: write_video(folder / name, 200, container=first if name.endswith("mp4") else None).read_bytes()
        for name in ("clip.mp4", "clip.mkv")
    }


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("share", [0.5, 0.77, 0.9])
def test_of_a_video_that_is_cut_short_all_is_done_that_decodes(
    name: str, share: float, whole: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(whole[name][: int(len(whole[name]) * share)])
    with closing(open_source(tmp_path / name)) as source:
        references, (failure,) = listed(source)
        assert "cut short" in failure.reason
        assert failure.key == f"clip/{int(references[-1].key[-6:]) + 1:06}-"
        numbers, failed = [], 0
        for reference in references:
            try:
                pixels = source.load(reference).inputs["color"]
            except ImageError:
                failed += 1
                continue
            numbers.append(int(reference.key[-6:]))
            assert number_of(pixels) == numbers[-1]
        assert failed <= 4
        assert len(numbers) > 200 * share * 0.3
        assert numbers[:-3] == list(range(len(numbers) - 3))


@pytest.mark.parametrize("seed", range(6))
def test_what_follows_damage_fails_up_to_the_next_key_frame(seed: int, whole: dict[str, bytes], tmp_path: Path) -> None:
    content, rng = bytearray(whole["clip.mp4"]), np.random.default_rng(seed)
    place = int(rng.integers(content.index(b"mdat") + 800, len(content) - 400))
    content[place : place + 40] = rng.bytes(40) if seed % 2 else bytes(40)
    (tmp_path / "clip.mp4").write_bytes(content)
    with closing(open_source(tmp_path / "clip.mp4")) as source:
        references, failures = listed(source)
        assert (len(references), failures) == (200, [])
        done, failed = [], []
        for reference in references:
            try:
                done.append((int(reference.key[-6:]), source.load(reference).inputs["color"]))
            except ImageError:
                failed.append(reference)
        assert 0 < len(failed) <= 24
        assert [number_of(pixels) for _, pixels in done] == [number for number, _ in done]
        with pytest.raises(ImageError, match="damaged"):
            source.load(failed[0])


@given(st.binary(max_size=300))
def test_what_is_no_video_is_one_line(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.mp4")
        path.write_bytes(content)
        with pytest.raises(SourceError) as caught, closing(open_source(path)) as source:
            list(source)
        assert "\n" not in str(caught.value)


def test_settings_that_do_not_fit_are_told(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 2)
    with pytest.raises(SettingsError, match="--every 0 leaves no frames"):
        open_source(clip, every=0)
    with pytest.raises(SettingsError, match="--every is for the frames of a video"):
        open_source(tmp_path, every=2)
    with pytest.raises(SettingsError, match="a video has color alone"):
        open_source(clip, ("color", "depth"), {"depth": tmp_path})
    with closing(open_source(clip, max_pixels=1000)) as source:
        (reference, *_), _ = listed(source)
        with pytest.raises(ImageError, match="--max-pixels"):
            source.load(reference)
