"""Sources of images of every kind."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io.sources import open_source
from fcnseg.types import Reference
from tests.io.image_files import keys, touch

NAMES = [
    "-dash.png",
    "line\nbreak.png",
    " spa ce.png ".strip(),
    "ünïcødé 🖼.png",
    "x" * 246 + ".png",
    "quo\"te'.png",
    os.fsdecode(b"\xff\xfe.png"),
    "a.b.c.png",
    "back\\slash.png",
    "#hash.png",
]


def test_any_name_the_file_system_allows(tmp_path: Path) -> None:
    touch(tmp_path, "photos/plain.png")
    content = (tmp_path / "photos/plain.png").read_bytes()
    for name in NAMES:
        Path(tmp_path / "photos" / name).write_bytes(content)
    source = open_source(tmp_path / "photos")
    found = {found.key: found for found in source}
    assert set(found) == {*NAMES, "plain.png"}
    for reference in found.values():
        frame = source.load(reference)
        assert frame.size == (2, 3)
        assert frame.stem + ".png" == reference.key
    paths = b"".join(os.fsencode(str(tmp_path / "photos" / name)) + b"\0" for name in NAMES)
    assert keys("-", stdin=io.BytesIO(paths)) == NAMES


def test_sources_that_hold_nothing_say_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "absent")
    with pytest.raises(SourceError, match="no images in"):
        list(open_source(tmp_path))
    touch(tmp_path, "a.png")
    with pytest.raises(SourceError, match=r"match '\*\.jpg'"):
        list(open_source(tmp_path, pattern="*.jpg"))
    with pytest.raises(SettingsError, match="--layout is for"):
        open_source(tmp_path, layout="NCHW")


def test_companions_that_do_not_fit_the_model(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(SettingsError, match="--hha DIR"):
        open_source(tmp_path, ("color", "hha"))
    with pytest.raises(SettingsError, match="leave out --depth"):
        open_source(tmp_path, ("color",), {"depth": tmp_path})
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path, ("color", "hha"), {"hha": tmp_path / "absent"})


def test_room_is_asked_for_once_before_anything_is_decoded(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/a.png")
    (tmp_path / "depth").mkdir()
    Image.fromarray(np.full((2, 3), 1500, np.uint16)).save(tmp_path / "depth/a.png")
    source = open_source(tmp_path / "rgb", ("color", "depth"), {"depth": tmp_path / "depth"})
    reference = next(iter(source))
    asked: list[int] = []
    frame = source.load(reference, asked.append)
    decoder_bytes = 2 * 3 * (4 + 10)
    assert asked == [frame.nbytes + decoder_bytes] == [2 * 3 * (3 + 4) + decoder_bytes]
    assert frame.inputs["depth"][0, 0, 0] == 1500.0
    assert source.size(reference) == (2, 3)

    class RunEndsError(Exception):
        pass

    def refuse(_nbytes: int) -> None:
        raise RunEndsError

    with pytest.raises(RunEndsError):
        source.load(reference, refuse)


def test_mutilated_inputs_are_told_from_good_ones(tmp_path: Path) -> None:
    """300 files that are no whole images among 300 that are: each ends as what it is, and none makes one wait."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    png = bytearray(buffer.getvalue())
    for i in range(300):
        (tmp_path / f"good{i}{'.png' if i % 2 else '.jpg'}").write_bytes(png if i % 3 else jpeg)  # some renamed
    for i in range(300):
        path = tmp_path / f"bad{i}.jpg"
        flipped = bytearray(png)
        flipped[60 + i] ^= 1 + i % 255  # in the compressed rows: their checksum tells
        vast = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + bytes(99)
        content = (jpeg[: 200 + i], b"", bytes(flipped), b"<html>no</html>", jpeg[2:], vast, None, None, None)[i % 9]
        if content is not None:
            path.write_bytes(content)
        elif i % 9 == 6:
            path.mkdir()
        elif i % 9 == 7:
            os.mkfifo(path)
        else:
            path.symlink_to("nowhere")
    source = open_source(tmp_path)
    outcomes: dict[str, str] = {}
    for found in source:
        try:
            outcomes[found.key] = "" if isinstance(found, Reference) and source.load(found) else found.reason
        except ImageError as error:
            outcomes[found.key] = str(error)
    assert len(outcomes) == 600
    assert {key for key, reason in outcomes.items() if not reason} == {k for k in outcomes if k.startswith("good")}
    assert not any("\n" in reason for reason in outcomes.values())


LISTING = """
import sys
from fcnseg.io.sources import open_source
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024
sum(1 for _ in open_source(sys.argv[1]))
before = peak()
print(sum(1 for _ in open_source(sys.argv[2])), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux' /proc")
def test_listing_takes_little_memory(tmp_path: Path) -> None:
    """200,000 names in one folder, and in a list: a fraction of what objects for them would take (60 MiB)."""
    touch(tmp_path, "few/a.png")
    (tmp_path / "many").mkdir()
    folder = os.open(tmp_path / "many", os.O_RDONLY)
    for i in range(200_000):
        os.mknod(f"camera-front-{i:06d}.jpg", dir_fd=folder)
    os.close(folder)
    (tmp_path / "list.txt").write_text("".join(f"many/camera-front-{i:06d}.jpg\n" for i in range(200_000)))
    for source, mebibytes in (("many", 20), ("list.txt", 5)):
        command = [sys.executable, "-c", LISTING, tmp_path / "few", tmp_path / source]
        count, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(count) == 200_000
        assert int(grown) <= mebibytes
