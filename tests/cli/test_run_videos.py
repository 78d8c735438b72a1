"""`fcnseg run` over videos: label maps a frame, resumed, cut short, and the overlay video."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fcnseg.drawing import overlay
from fcnseg.io.video_frames import upright
from fcnseg.recipes import load_recipe
from fcnseg.running import overlay_video
from tests.conftest import Outcome, TinyModel, make_tiny, photograph
from tests.io.video_files import turn, write_video

Command = Callable[..., Outcome]


def frames_of(path: Path) -> list[tuple[float, np.ndarray[Any, np.dtype[np.uint8]]]]:
    """The times, in seconds, and the pixels of the frames of a video."""
    with av.open(str(path)) as video:
        return [(float(frame.pts * frame.time_base), upright(frame)) for frame in video.decode(video=0)]


def label_map(folder: Path, number: int) -> np.ndarray[Any, Any]:
    with Image.open(folder / "clip" / f"{number:06}.png") as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("size", "pixels", "times", "every"),
    [
        ((48, 64), "yuv420p", None, 1),
        ((47, 63), "yuv444p", None, 1),
        ((48, 64), "yuv420p", [0, 100, 130, 500, *range(600, 1400, 100)], 1),
        ((48, 64), "yuv420p", None, 5),
    ],
)
def test_the_overlay_video_has_the_size_and_the_times_of_the_frames(
    size: tuple[int, int],
    pixels: str,
    times: list[int] | None,
    every: int,
    fcnseg: Command,
    tmp_path: Path,
    tiny: TinyModel,
) -> None:
    clip, drawn = write_video(tmp_path / "clip.mp4", 12, size, pixels=pixels, times=times), tmp_path / "new" / "o.mp4"
    words = ["run", clip, "--out", tmp_path / "m", "--overlay", drawn, *tiny.arguments]
    done = fcnseg(*words, *(["--every", every] if every > 1 else []))
    assert done.code == 0, done.err
    numbers = range(0, 12, every)
    assert len(list((tmp_path / "m" / "clip").iterdir())) == len(numbers)
    before, after = [frame for i, frame in enumerate(frames_of(clip)) if i in numbers], frames_of(drawn)
    assert [time for time, _ in after] == pytest.approx([time - before[0][0] for time, _ in before], abs=1e-3)
    space = load_recipe(tiny.recipe).heads[0].labels
    for number, (_, image), (_, shown) in zip(numbers, before, after, strict=True):
        assert shown.shape == (*size, 3)
        expected = overlay(image, label_map(tmp_path / "m", number), space)
        assert np.abs(shown.astype(int) - expected).mean() < 25  # chroma is subsampled, and edges are everywhere
        assert np.abs(shown.astype(int).mean((0, 1)) - expected.mean((0, 1))).max() < 6


def test_it_is_made_again_when_it_is_lost_or_anything_changes(
    fcnseg: Command, tmp_path: Path, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, drawn = write_video(tmp_path / "clip.mp4", 6), tmp_path / "o.mp4"
    words = ["run", clip, "--out", tmp_path / "m", "--overlay", drawn, *tiny.arguments]
    assert fcnseg(*words).code == 0
    first, content = drawn.stat().st_mtime_ns, drawn.read_bytes()
    assert fcnseg(*words).code == 0
    assert drawn.stat().st_mtime_ns == first
    (tmp_path / "m" / "clip" / "000003.png").unlink()
    drawn.unlink()
    assert fcnseg(*words).code == 0
    assert drawn.read_bytes() == content

    def breaking(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(overlay_video, "overlay", breaking)
        drawn.unlink()
        done = fcnseg(*words)
        assert done.code == 1
        assert "No space left on device" in done.error_line
        assert not drawn.exists()
    assert fcnseg(*words).code == 0
    assert drawn.read_bytes() == content
    assert fcnseg(*words, "--overwrite").code == 0
    assert not list(tmp_path.rglob("*part*"))


def test_a_frame_that_failed_is_in_it_without_labels(fcnseg: Command, tmp_path: Path, tiny: TinyModel) -> None:
    clip, drawn = write_video(tmp_path / "clip.mp4", 6), tmp_path / "o.mp4"
    (tmp_path / "m" / "clip" / "000003.png").mkdir(parents=True)  # where no label map can be written
    done = fcnseg("run", clip, "--out", tmp_path / "m", "--overlay", drawn, "--overwrite", *tiny.arguments)
    assert done.code == 3, done.err
    plain, shown = frames_of(clip)[3][1], frames_of(drawn)[3][1]
    assert np.abs(shown.astype(int) - plain).mean() < 6
    assert len(frames_of(drawn)) == 6


def test_a_video_that_is_cut_short_is_done_as_far_as_it_goes(fcnseg: Command, tmp_path: Path, tiny: TinyModel) -> None:
    whole = write_video(tmp_path / "whole.mp4", 60, container={"movflags": "faststart"}).read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    words = ["run", tmp_path / "clip.mp4", "--out", tmp_path / "m", "--overlay", tmp_path / "o.mp4", *tiny.arguments]
    done = fcnseg(*words, "--json")
    assert done.code == 3
    summary = json.loads(done.out)
    assert summary["done"] >= 20
    reasons = [failure["reason"] for failure in summary["failures"]]
    assert sum("cut short" in reason for reason in reasons) == 1
    assert len(reasons) <= 4
    assert len(frames_of(tmp_path / "o.mp4")) == summary["done"]
    again = json.loads(fcnseg(*words, "--json").out)
    assert (again["done"], again["kept"]) == (0, summary["done"])
    (tmp_path / "clip.mp4").write_bytes(whole[: len(whole) // 40])
    assert fcnseg("run", tmp_path / "clip.mp4", "--out", tmp_path / "n", *tiny.arguments).code == 1


def test_a_turned_video_is_shown_upright(fcnseg: Command, tmp_path: Path, tiny: TinyModel) -> None:
    clip = write_video(tmp_path / "clip.mp4", 3, size=(48, 64))
    turn(clip)
    assert fcnseg("run", clip, "--out", tmp_path / "m", "--overlay", tmp_path / "o.mp4", *tiny.arguments).code == 0
    assert label_map(tmp_path / "m", 0).shape == (64, 48)
    assert frames_of(tmp_path / "o.mp4")[0][1].shape == (64, 48, 3)
    assert len(frames_of(tmp_path / "o.mp4")) == 3


def test_a_run_in_shards_takes_videos(fcnseg: Command, tmp_path: Path, tiny: TinyModel) -> None:
    clip = write_video(tmp_path / "clip.mp4", 6)
    done = fcnseg("run", clip, "--out", (tmp_path / "m").as_uri(), "--every", 2, *tiny.arguments)
    assert done.code == 0
    assert fcnseg("run", clip, "--out", tmp_path / "n", *tiny.arguments).code == 0
    for number in (0, 2, 4):
        assert np.array_equal(label_map(tmp_path / "m", number), label_map(tmp_path / "n", number))


def test_videos_among_images_are_left_out_and_counted(fcnseg: Command, tmp_path: Path, tiny: TinyModel) -> None:
    photograph(tmp_path / "photos" / "a.png")
    clip = write_video(tmp_path / "photos" / "clip.mp4", 2)
    words = ["--out", tmp_path / "m", "--dry-run", *tiny.arguments]
    assert "left out      1 file: 1 .mp4" in fcnseg("run", tmp_path / "photos", *words).out.splitlines()
    assert "inputs        2 (2 without a suffix)" in fcnseg("run", clip, *words).out


def test_faults_are_one_line_before_anything_is_written(fcnseg: Command, tmp_path: Path, tiny: TinyModel) -> None:
    clip, out = write_video(tmp_path / "clip.mp4", 2), tmp_path / "m"
    photograph(tmp_path / "photos" / "a.png")
    (tmp_path / "mine.mp4").write_bytes(b"my own")
    two = make_tiny(tmp_path, heads=2)
    for source, options, says in (
        (clip, ["--overlay", clip], "is the input"),
        (clip, ["--overlay", tmp_path / "mine.mp4"], "no run of fcnseg made it"),
        (clip, ["--overlay", tmp_path / "o.avi"], "give a name that ends in .mp4"),
        (clip, ["--overlay", tmp_path / "o.mp4", "--num-parts", 2], "written by one machine"),
        (clip, ["--overlay", "s3://bucket/o.mp4"], "is a URL"),
        (tmp_path / "photos", ["--overlay", tmp_path / "o.mp4"], "the source is none"),
        (tmp_path / "photos", ["--every", 2], "--every is for the frames of a video"),
        (clip, ["--overlay", tmp_path / "o.mp4", *two.arguments], "has the heads head0 and head1"),
    ):
        done = fcnseg("run", source, "--out", out, *tiny.arguments, *options)
        assert done.code == 2, options
        assert says in done.error_line
    assert not out.exists()
    assert (tmp_path / "mine.mp4").read_bytes() == b"my own"
