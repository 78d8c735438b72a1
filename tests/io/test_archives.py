"""Images in archives."""

import bz2
import gzip
import lzma
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.io.sources import open_source
from fcnseg.types import Failure, Reference
from tests.io.archive_files import IMAGES, listed, png, write_tar, write_zip

WRITERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "a.zip": write_zip,
    "stored.ZIP": lambda path, members: write_zip(path, members, zipfile.ZIP_STORED),
    "lzma.zip": lambda path, members: write_zip(path, members, zipfile.ZIP_LZMA),
    "a.tar": write_tar,
    "a.tar.gz": lambda path, members: write_tar(path, members, "w:gz"),
    "a.tgz": lambda path, members: write_tar(path, members, "w:gz"),
    "a.tar.bz2": lambda path, members: write_tar(path, members, "w:bz2"),
    "a.txz": lambda path, members: write_tar(path, members, "w:xz"),
}
archives = pytest.mark.parametrize("name", WRITERS)


@archives
def test_the_images_of_an_archive(tmp_path: Path, name: str) -> None:
    members = {f"./deep/{key}.x.png": png(pixels) for key, pixels in IMAGES.items()}
    extra = {"notes.txt": b"no", "__MACOSX/deep/._a.png": b"no", "./.hidden/a.png": b"no", "./deep/.a.png": b"no"}
    source = open_source(WRITERS[name](tmp_path / name, {**extra, **members}))
    found = listed(source)
    assert list(found) == [f"deep/{key}.x.png" for key in IMAGES]
    for key, pixels in IMAGES.items():
        reference = found[f"deep/{key}.x.png"]
        assert isinstance(reference, Reference)
        asked: list[int] = []
        frame = source.load(reference, asked.append)
        assert np.array_equal(frame.inputs["color"], pixels)
        assert len(asked) == 1
        assert asked[0] >= pixels.nbytes
        assert frame.stem == f"deep/{key}.x"
        assert source.size(reference) == pixels.shape[:2]
    with pytest.raises(SettingsError, match="no files of their own"):
        source.files(reference)
    source.close()


@archives
def test_members_are_read_from_many_threads(tmp_path: Path, name: str) -> None:
    members = {f"{i}.png": png(IMAGES["abcdefgh"[i % 8]]) for i in range(200)}
    source = open_source(WRITERS[name](tmp_path / name, members))
    start = threading.Barrier(8)

    def load(shard: int) -> bool:
        start.wait()
        return all(
            np.array_equal(source.load(found).inputs["color"], IMAGES["abcdefgh"[int(found.stem) % 8]])  # type: ignore[arg-type]
            for i, found in enumerate(source)
            if i % 8 == shard
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(load, range(8)))


@archives
def test_names_that_lead_outside_are_failures(tmp_path: Path, name: str) -> None:
    hostile = ["../up.png", "a/../../up.png", "/etc/up.png", "a/../up.png"]
    source = open_source(WRITERS[name](tmp_path / name, {n: png(IMAGES["a"]) for n in [*hostile, "good.png"]}))
    found = listed(source)
    assert {key for key, one in found.items() if isinstance(one, Reference)} == {"good.png"}
    assert all("leads outside" in found[key].reason for key in hostile)  # type: ignore[union-attr]


def test_hostile_members_of_a_tar(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"good.png": png(IMAGES["a"]), "empty.png": b""})
    with tarfile.open(path, "a") as archive:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("device.png", tarfile.CHRTYPE),
            ("fifo.png", tarfile.FIFOTYPE),
            ("folder.png", tarfile.DIRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    source = open_source(path)
    found = listed(source)
    assert list(found) == ["good.png", "empty.png", "link.png", "hard.png", "device.png", "fifo.png"]
    assert all("not a plain file" in found[key].reason for key in list(found)[2:])  # type: ignore[union-attr]
    with pytest.raises(ImageError, match="0 bytes"):
        source.load(found["empty.png"])  # type: ignore[arg-type]


def test_a_tar_that_is_cut_short_gives_what_it_has(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"{key}.png": png(pixels) for key, pixels in IMAGES.items()})
    whole = path.read_bytes()
    inside_third = whole.index(b"c.png") + 512 + 50
    path.write_bytes(whole[:inside_third])
    source = open_source(path)
    a, b, c, end = source
    assert [one.key for one in (a, b, c)] == ["a.png", "b.png", "c.png"]
    assert source.load(b).size == (5, 5)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="cut short"):
        source.load(c)  # type: ignore[arg-type]
    assert isinstance(end, Failure)
    assert (end.key, end.stage) == ("a.tar", "list")
    assert "cut short" in end.reason


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    for name in WRITERS:
        (tmp_path / name).write_bytes(b"this is no archive" * 100)
        with pytest.raises(SourceError, match=r"is not a (zip|tar) archive|cannot be unpacked"):
            open_source(tmp_path / name)
    whole = write_tar(tmp_path / "w.tar", {"a.png": png(IMAGES["a"])}).read_bytes()
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        (tmp_path / f"w.tar{suffix}").write_bytes(compress(whole)[:-20])
        with pytest.raises(SourceError, match="cannot be unpacked"):
            open_source(tmp_path / f"w.tar{suffix}")
    content = write_zip(tmp_path / "w.zip", {"a.png": png(IMAGES["a"])}).read_bytes()
    (tmp_path / "w.zip").write_bytes(content[:-10])
    with pytest.raises(SourceError, match="is not a zip archive"):
        open_source(tmp_path / "w.zip")
    with pytest.raises(SourceError, match="no images in"):
        list(open_source(write_zip(tmp_path / "e.zip", {"a.txt": b""})))
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe.zip")


def test_companions_of_an_archives_images_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "hha" / "s").mkdir(parents=True)
    Image.fromarray(IMAGES["b"]).save(tmp_path / "hha/s/a.bmp")
    path = write_zip(tmp_path / "a.zip", {"s/a.png": png(IMAGES["b"])})
    source = open_source(path, ("color", "hha"), {"hha": tmp_path / "hha"})
    frame = source.load(next(iter(source)))  # type: ignore[arg-type]
    assert np.array_equal(frame.inputs["hha"], IMAGES["b"])
