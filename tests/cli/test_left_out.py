"""Files of a source that are no images are counted, and said wherever the inputs are."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fcnseg.cli.wording import left_out_line
from fcnseg.io.left_out import OTHER, SUFFIXES_COUNTED, LeftOut
from fcnseg.io.sources import open_source
from tests.conftest import Outcome, TinyModel, photograph

Command = Callable[..., Outcome]
EXPECTED = {".cr2": 2, ".mp4": 1}
LINE = "3 files left out: 2 .cr2, 1 .mp4"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("a.png", "b/c.jpg"):
        photograph(folder / name)
    for name in ("x.CR2", "b/y.cr2", "b/z.mp4", ".DS_Store", ".cache/thumb.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"-")
    return folder


def test_the_run_its_summary_and_its_status_say_so(
    fcnseg: Command, photos: Path, tiny: TinyModel, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    done = fcnseg("run", photos, "--out", masks, *tiny.arguments, "--json")
    assert done.code == 0
    assert LINE in done.err.splitlines()
    assert json.loads(done.out)["left_out"] == EXPECTED
    assert json.loads((masks / ".fcnseg" / "run.json").read_text())["summary"]["left_out"] == EXPECTED
    assert LINE in fcnseg("status", masks).out.splitlines()
    assert json.loads(fcnseg("status", masks, "--json").out)["left_out"] == EXPECTED


def test_the_dry_run_and_the_logs_say_so(fcnseg: Command, photos: Path, tiny: TinyModel, tmp_path: Path) -> None:
    arguments = ["run", photos, "--out", tmp_path / "masks", *tiny.arguments]
    assert "left out      3 files: 2 .cr2, 1 .mp4" in fcnseg(*arguments, "--dry-run").out.splitlines()
    assert json.loads(fcnseg(*arguments, "--dry-run", "--json", "-q").out)["left_out"] == EXPECTED
    events = [json.loads(line) for line in fcnseg(*arguments, "--json-logs").err.splitlines()]
    assert [event["files"] for event in events if event["event"] == "left_out"] == [EXPECTED]
    assert events[-1]["left_out"] == EXPECTED


def test_quiet_runs_and_chosen_images_leave_nothing_to_say(
    fcnseg: Command, photos: Path, tiny: TinyModel, tmp_path: Path
) -> None:
    assert fcnseg("run", photos, "--out", tmp_path / "q", *tiny.arguments, "-q").err == ""
    done = fcnseg("run", photos, "--glob", "*.png", "--out", tmp_path / "g", *tiny.arguments)
    assert "left out" not in done.err


def test_a_folder_without_images_tells_what_it_holds(fcnseg: Command, photos: Path, tmp_path: Path) -> None:
    for image in (photos / "a.png", photos / "b" / "c.jpg"):
        image.unlink()
    assert "(but 2 .cr2, 1 .mp4)" in fcnseg("run", photos, "--out", tmp_path / "m").error_line


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_archives_are_counted_alike(photos: Path, tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"photos{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(photos.rglob("*")):
                zipped.write(path, path.relative_to(photos))
    else:
        with tarfile.open(archive, "w:gz" if suffix.endswith("gz") else "w") as tar:
            tar.add(photos, "photos")
    source = open_source(archive)
    for _ in range(2):  # counted anew each time
        assert len(list(source)) == 2
        assert source.left_out == EXPECTED
    source.close()


def test_a_million_suffixes_are_no_million_counts() -> None:
    left_out = LeftOut()
    for number in range(10 * SUFFIXES_COUNTED):
        left_out.add(f"scan.{number:05}")
    left_out.add(f"x.{'y' * 100}")
    assert len(left_out.by_suffix) == SUFFIXES_COUNTED + 1
    assert sum(left_out.by_suffix.values()) == 10 * SUFFIXES_COUNTED + 1
    assert left_out.by_suffix[OTHER] == 9 * SUFFIXES_COUNTED + 1
    line = left_out_line(left_out.by_suffix)
    assert line.startswith("641 files left out: 577 other, 1 .00000, ")
    assert line.endswith(", 60 others")
    assert left_out_line({"": 1}) == "1 file left out: 1 without a suffix"
    assert "\x1b" not in left_out_line({".\x1b[2J": 1})
