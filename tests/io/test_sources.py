import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io import folder_walk, lists
from fcnseg.io.names import safe_key, stem_of
from fcnseg.io.sources import open_source
from fcnseg.types import Failure, Reference


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(folder / name, format="PNG")


def keys(source: object, **options: object) -> list[str]:
    """The keys of a source, which lists the same a second time."""
    opened = open_source(source, **options)  # type: ignore[arg-type]
    listed = list(opened)
    assert list(opened) == listed
    assert all(isinstance(found, Reference) for found in listed), listed
    opened.close()
    return [found.key for found in listed]


@contextmanager
def without_privileges() -> Iterator[None]:
    """As somebody who may not read everything, which root may."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_is_searched_through_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.PNG", "a/b/c.webp", "a/.hidden.png", ".thumbs/x.png", "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert keys(tmp_path) == ["a.png", "a/b/c.webp", "a/z.PNG", "b.jpg"]
    assert keys(tmp_path, pattern="*.png") == ["a.png"]
    assert keys(tmp_path, pattern="a/b/*") == ["a/b/c.webp"]
    assert keys(tmp_path / "a/z.PNG") == ["z.PNG"]


@given(st.lists(st.text(st.sampled_from("ab.-/\n\udcff é𝔸"), min_size=1), unique=True))
def test_names_come_sorted_however_many_runs_they_take(names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_walk, "RUN", 5)
        patch.setattr(folder_walk, "PIECE", 2)
        patch.setattr(folder_walk, "names_in", lambda folder, suffixes: iter(names))
        assert list(folder_walk._sorted_names("", ())) == sorted(names)


def test_output_folders_are_not_taken_for_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "masks/a.png", "probs/b.png")
    assert keys(tmp_path, exclude=(tmp_path / "masks", tmp_path / "probs", tmp_path / "absent")) == ["a.png"]


def test_symlink_loops_end_and_linked_folders_are_followed_once(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "x.png")
    photos = tmp_path / "photos"
    touch(photos, "a/b.png")
    (photos / "a" / "loop").symlink_to(photos)
    (photos / "linked").symlink_to(elsewhere)
    (photos / "linked again").symlink_to(elsewhere)
    (photos / "round.png").symlink_to(photos / "round.png")
    (photos / "gone.png").symlink_to(tmp_path / "nowhere")
    assert keys(photos) == ["a/b.png", "gone.png", "linked again/x.png", "round.png"]
    source = open_source(photos)
    for found in source:
        if found.key in ("gone.png", "round.png"):
            with pytest.raises(ImageError, match="cannot be read"):
                source.load(found)


def test_a_folder_that_cannot_be_looked_into_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "lost+found/b.png", "z.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "c.png")
    tmp_path.chmod(0o755)
    (tmp_path / "lost+found").chmod(0)
    (tmp_path / "c.png").chmod(0)
    monkeypatch.chdir(tmp_path)
    with without_privileges():
        source = open_source(".")
        a, c, lost, z = source
        assert (a.key, c.key, z.key) == ("a.png", "c.png", "z.png")
        assert lost == Failure("lost+found/", "list", "the folder cannot be listed: Permission denied")
        assert [found.key for found in open_source(".", pattern="z*")] == ["lost+found/", "z.png"]
        with pytest.raises(ImageError, match="Permission denied"):
            source.load(c)
        with pytest.raises(SourceError, match="cannot be listed: Permission denied"):
            list(open_source("lost+found"))


def test_folders_called_like_images_are_entered_and_are_failures_if_there_are_none_in_them(tmp_path: Path) -> None:
    touch(tmp_path, "full.jpg/a.png", "full.jpg/deep/b.png", "outer.jpg/inner/c.png", "last.png")
    (tmp_path / "empty.jpg" / "nothing").mkdir(parents=True)
    found = {found.key: found for found in open_source(tmp_path)}
    assert list(found) == ["empty.jpg", "full.jpg/a.png", "full.jpg/deep/b.png", "last.png", "outer.jpg/inner/c.png"]
    assert found["empty.jpg"] == Failure("empty.jpg", "list", "a folder, and there are no images in it")


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


def test_the_stamp_follows_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    source = open_source(tmp_path)
    before = {found.key: source.fingerprint(found) for found in source}
    os.utime(tmp_path / "a.png", ns=(1, 1))
    after = {found.key: source.fingerprint(found) for found in source}
    assert before["b.png"] == after["b.png"]
    assert before["a.png"] != after["a.png"]


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        ("a/b.c.jpg", "a/b.c"),
        ("a.JPEG", "a"),
        ("a.png/b.tif", "a.png/b"),
        ("frame.0001", "frame.0001"),
        ("a.raw", "a.raw"),
        (".jpg", ".jpg"),
        ("a/.png", "a/.png"),
        ("images/000123", "images/000123"),
    ],
)
def test_outputs_are_called_by_the_key_without_its_image_suffix(key: str, stem: str) -> None:
    assert stem_of(key) == stem


@given(st.text(st.sampled_from("ab./\\\0\n"), max_size=12))
def test_no_member_key_leads_outside(name: str) -> None:
    key = safe_key(name)
    if key is None:
        assert name.startswith("/") or ".." in name.split("/") or not name.replace("/", "").replace(".", "")
    else:
        assert os.path.normpath(key) == key
        assert not key.startswith("/")
        assert not key.startswith("../")
        assert key not in (".", "..")


def test_a_list_counts_from_its_own_folder_and_mirrors_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "photos/a.png", "photos/sub/b.png", "other/c.png")
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# comment\r\nphotos/a.png\r\n\r\n  photos/./sub/../sub/b.png  \r\n")
    assert keys(path) == ["a.png", "sub/b.png"]
    path.write_text(f"photos/a.png\n{tmp_path}/other/c.png\nphotos/absent.png")
    assert keys(path) == ["photos/a.png", "other/c.png", "photos/absent.png"]
    elsewhere = tmp_path / "lists" / "list.txt"
    elsewhere.parent.mkdir()
    elsewhere.write_text("photos/a.png\n")
    monkeypatch.chdir(tmp_path)
    source = open_source(elsewhere)
    assert [source.load(found).size for found in source] == [(2, 3)]
    assert keys("-", stdin=io.BytesIO(b"other/c.png\nphotos/a.png\n")) == ["other/c.png", "photos/a.png"]
    path.write_text("/absent.png\n/bin/absent.png\n")
    assert keys(path) == ["absent.png", "bin/absent.png"]


def test_what_is_no_list_says_so(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"x" * 200_000)
    with pytest.raises(SourceError, match=r"list\.txt is not a text of paths"):
        list(open_source(path))
    path.write_bytes(b"photo.png\n" * 10_000 + b"\0")
    with pytest.raises(SourceError, match="is not a text of paths"):
        list(open_source(path))
    path.write_text("# nothing\n\n")
    with pytest.raises(SourceError, match="there are no images in the list"):
        list(open_source(path))
    with pytest.raises(SourceError, match="there are no images in the list on standard input"):
        list(open_source("-", stdin=io.BytesIO()))
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe.txt")


@given(st.lists(st.integers(0, 40), min_size=1), st.sampled_from([b"\n", b"\0"]))
def test_lines_are_whole_wherever_blocks_end(lengths: list[int], separator: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "BLOCK_BYTES", 7)
        names = [f"/d/{'x' * length}{i}" for i, length in enumerate(lengths)]
        text = separator.join(map(os.fsencode, names)) + separator
        assert [found.location for found in open_source("-", stdin=io.BytesIO(text))] == names


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


def test_companions_match_by_name_whatever_the_extension(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/s/a.jpg", "rgb/s/b.jpg", "rgb/s/c.jpg", "rgb/s/d.jpg", "rgb/t/e.jpg")
    touch(tmp_path, "hha/s/a.PNG", "hha/s/a.x.png", "hha/s/d.png", "hha/s/d.bmp", "hha/s/c.png/x.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "hha/s/b.png")
    source = open_source(tmp_path / "rgb", ("color", "hha"), {"hha": tmp_path / "hha"})
    a, b, c, d, e = source
    assert {m: p.shape for m, p in source.load(a).inputs.items()} == {"color": (2, 3, 3), "hha": (2, 3, 3)}
    assert source.files(a) == {"color": tmp_path / "rgb/s/a.jpg", "hha": tmp_path / "hha/s/a.PNG"}
    with pytest.raises(ImageError, match="color is 3 x 2, hha is 9 x 9"):
        source.load(b)
    with pytest.raises(ImageError, match="no hha image named s/c"):
        source.load(c)
    with pytest.raises(ImageError, match="2 hha images named s/d"):
        source.load(d)
    with pytest.raises(ImageError, match="no hha image named t/e"):
        source.load(e)


def test_a_companion_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/a.png")
    (tmp_path / "hha").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "hha/a.png")
    broken = (tmp_path / "hha/a.png").read_bytes()[:50]
    (tmp_path / "hha/a.png").write_bytes(broken)
    source = open_source(tmp_path / "rgb", ("color", "hha"), {"hha": tmp_path / "hha"})
    with pytest.raises(ImageError, match="must be of one size"):
        source.load(next(iter(source)))


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
    assert asked == [frame.nbytes] == [2 * 3 * (3 + 4)]
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
