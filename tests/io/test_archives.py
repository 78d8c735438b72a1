import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
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
from fcnseg.io.sources import ImageSource, open_source
from fcnseg.types import Failure, Reference

RNG = np.random.default_rng(0)
IMAGES = {name: RNG.integers(0, 256, (5, 4 + i, 3), dtype=np.uint8) for i, name in enumerate("abcdefgh")}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


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


def listed(source: ImageSource) -> dict[str, Reference | Failure]:
    found = {found.key: found for found in source}
    assert list(source) == list(found.values())
    return found


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
        assert asked == [pixels.nbytes]
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


def test_the_stamp_of_a_zips_member_follows_its_content(tmp_path: Path) -> None:
    def fingerprints(**members: bytes) -> list[str]:
        path = write_zip(tmp_path / "a.zip", {f"{key}.png": content for key, content in members.items()})
        source = open_source(path)
        return [source.fingerprint(found) for found in source if isinstance(found, Reference)]

    a, b = png(IMAGES["a"]), png(IMAGES["b"])
    assert fingerprints(x=a, y=b) == fingerprints(x=a, y=b) == fingerprints(y=a, x=b)
    assert fingerprints(x=a)[0] != fingerprints(x=b)[0]


def test_hostile_members_of_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.png", bytes(30 << 20), compresslevel=9)
        archive.writestr("empty.png", b"")
        archive.mkdir("folder.png")
        archive.writestr("folder.png/good.png", png(IMAGES["a"]))
        archive.writestr("damaged.png", bytes(RNG.integers(0, 256, 500, dtype=np.uint8)))
        archive.writestr("secret.png", png(IMAGES["a"]))
        archive.writestr("strange.png", png(IMAGES["a"]))
    content = bytearray(path.read_bytes())
    for name, offset, value in ((b"secret.png", 8, 1), (b"strange.png", 10, 97)):  # flags, method
        central = content.rindex(name) - 46
        content[central + offset] = value
        local = content.index(name) - 30
        content[local + offset - 2] = value
    content[content.index(b"damaged.png") + 100] ^= 1
    path.write_bytes(content)
    assert path.stat().st_size < 100_000
    source = open_source(path, max_pixels=1_000_000)
    found = listed(source)
    reasons = {}
    for key, one in found.items():
        try:
            reasons[key] = one.reason if isinstance(one, Failure) else str(source.load(one).size)
        except ImageError as error:
            reasons[key] = str(error)
    assert reasons.pop("folder.png/good.png") == "(5, 4)"
    expected = {
        "link.png": "a link",
        "bomb.png": "31457280 bytes is more than an image of 1000000 pixels takes",
        "empty.png": "0 bytes",
        "damaged.png": "Bad CRC-32",
        "secret.png": "encrypted",
        "strange.png": "compression method is not supported",
    }
    assert reasons.keys() == expected.keys()
    assert all(part in reasons[key] for key, part in expected.items()), reasons


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


def test_a_zip_that_starts_with_something_else_or_has_large_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"é{key}.png": png(pixels) for key, pixels in IMAGES.items()}
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # sizes and offsets stand in 64 bits from here on
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    path = write_zip(tmp_path / "a.zip", members)
    content = path.read_bytes()
    assert b"PK\6\6" in content
    for prefix, comment in ((b"", b""), (b"#!/bin/sh\n" * 99, b"a comment")):
        path.write_bytes(prefix + content[:-2] + len(comment).to_bytes(2, "little") + comment)
        source = open_source(path)
        for (name, pixels), found in zip(IMAGES.items(), source, strict=True):
            assert found.key == f"é{name}.png"
            assert np.array_equal(source.load(found).inputs["color"], pixels)  # type: ignore[arg-type]


def test_a_zip_whose_directory_is_damaged_gives_what_it_has(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{key}.png": png(pixels) for key, pixels in IMAGES.items()})
    whole = path.read_bytes()
    third = whole.rindex(b"PK\1\2", 0, whole.rindex(b"c.png"))
    path.write_bytes(whole[:third] + b"XX" + whole[third + 2 :])
    a, b, end = open_source(path)
    assert (a.key, b.key) == ("a.png", "b.png")
    assert isinstance(end, Failure)
    assert (end.key, end.stage, "damaged" in end.reason) == ("a.zip", "list", True)


@pytest.mark.parametrize("seed", range(40))
def test_a_mutilated_zip_is_refused_or_gives_images_and_failures(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = write_zip(tmp_path / "a.zip", {f"{key}.png": png(pixels) for key, pixels in IMAGES.items()})
    content = bytearray(path.read_bytes())
    for at in rng.integers(len(content) // 2 if seed % 2 else 0, len(content), 1 + seed // 4):
        content[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    ended = []
    try:
        source = open_source(path)
        for found in source:
            try:
                ended.append(found.reason if isinstance(found, Failure) else str(source.load(found).size))
            except ImageError as error:
                ended.append(str(error))
    except SourceError as error:
        ended.append(str(error))
    assert ended
    assert not any("\n" in line for line in ended)


MANY = """
import resource, struct, sys
from fcnseg.io.archives import open_archive
member, count = struct.Struct("<4s6H3L5H2L"), 1_000_000
with open(sys.argv[1], "wb") as file:
    for start in range(0, count, 10_000):
        names = (f"photos/{i:07}.jpg".encode() for i in range(start, start + 10_000))
        file.write(b"".join(
            member.pack(b"PK\\1\\2", 20, 20, 0, 0, 0, 0, 7, 9, 9, len(name), 0, 0, 0, 0, 0, 0) + name for name in names
        ))
    size = file.tell()
    file.write(struct.pack("<4sQ2H2L4Q", b"PK\\6\\6", 44, 45, 45, 0, 0, count, count, size, 0))
    file.write(struct.pack("<4sLQL", b"PK\\6\\7", 0, size, 1))
    file.write(struct.pack("<4s4H2LH", b"PK\\5\\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
archive = open_archive(sys.argv[1])
assert sum(found.fingerprint == "00000007-9" for found in archive) == count
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_a_zip_of_a_million_members_takes_no_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY, str(tmp_path / "many.zip")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10  # MiB
