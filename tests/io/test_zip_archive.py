"""Zip archives, whole, odd, hostile and damaged."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import ImageError, SourceError
from fcnseg.io.sources import open_source
from fcnseg.types import Failure, Reference
from tests.io.archive_files import IMAGES, RNG, listed, png, write_zip


def test_the_fingerprint_of_a_zips_member_follows_its_content(tmp_path: Path) -> None:
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
    *others, end = open_source(path)
    assert [one.key for one in others] == [f"{key}.png" for key in IMAGES if key != "c"]
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
