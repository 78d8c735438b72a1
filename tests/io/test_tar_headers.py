"""Headers of tar archives, by another's reader, and such as no writer makes."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from fcnseg.errors import ImageError
from fcnseg.io.seekable import Seekable
from fcnseg.io.sources import open_source
from fcnseg.io.tar_headers import BLOCK, TarMembers
from fcnseg.types import Failure
from tests.io.archive_files import IMAGES, png, write_tar
from tests.io.hostile import ends_of

PNG = png(IMAGES["a"])
NAMES = [
    *("a.png", "d/" * 20 + "b.png", "d/" * 60 + "long.png", "x" * 99, "x" * 100, "x" * 101, "p" * 90 + "/" + "q" * 99),
    *("é.png", "日本" * 60 + ".png", os.fsdecode(b"caf\xe9.png"), "line\nbreak.png", "./a//b.png", "z" * 5000),
]


def patched(header: bytes, at: int, value: bytes) -> bytes:
    """A header with other values, and the checksum of these."""
    block = bytearray(header)
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def header(name: str, size: int = 0, kind: bytes = b"0") -> bytes:
    info = tarfile.TarInfo(name)
    info.size = 0
    block = info.tobuf(tarfile.GNU_FORMAT)
    return patched(patched(block, 156, kind), 124, number(size))


def number(size: int) -> bytes:
    if 0 <= size < 8**11:
        return b"%011o\0" % size
    return (b"\x80" if size >= 0 else b"\xff") + size.to_bytes(11, "big", signed=size < 0)


def member(name: str, content: bytes = PNG, size: int | None = None) -> bytes:
    return header(name, len(content) if size is None else size) + padded(content)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def pax(**values: str) -> bytes:
    """A pax header with these values; `_` stands for a dot in keys."""
    lines = b""
    for key, value in values.items():
        line = f" {key.replace('_', '.')}={value}\n".encode("utf-8", "surrogateescape")
        length = len(line) + 1
        while len(str(length)) + len(line) != length:
            length = len(str(length)) + len(line)
        lines += str(length).encode() + line
    return header("./PaxHeaders/x", len(lines), b"x") + padded(lines)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_another_reader_finds(tmp_path: Path, form: int) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=form, pax_headers={"comment": "x"}) as archive:
        for i, name in enumerate(NAMES):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = i * 300, 1_700_000_000.25 + i  # type: ignore[assignment]
            try:
                archive.addfile(info, io.BytesIO(bytes(info.size)))
            except ValueError:
                assert form == tarfile.USTAR_FORMAT  # names of 256 bytes at most
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"kind{kind!r}.png")
            info.type, info.linkname = kind, "l" * 150 if form != tarfile.USTAR_FORMAT else "x"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("last.png"))
    with tarfile.open(path) as archive:
        theirs = [(m.name, m.offset_data, m.size, m.mtime, m.isdir(), m.isreg()) for m in archive]
    with path.open("rb") as file:
        listed = TarMembers(Seekable(file))
        ours = [(m.name, m.offset, m.size, m.mtime, m.is_folder, not m.fault) for m in listed]
    assert ours == theirs
    assert not listed.fault


def test_huge_numbers_are_those_that_another_reader_finds(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("a.png")
    info.size, info.mtime = 10 << 30, -5
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(BLOCK + (10 << 30))
        file.seek(0, os.SEEK_END)
        file.write(member("b.png"))
    with path.open("rb") as file:
        assert [(m.name, m.size, m.offset) for m in TarMembers(Seekable(file))] == [
            ("a.png", 10 << 30, 512),
            ("b.png", len(PNG), (10 << 30) + 1024),
        ]


HOSTILE = {
    "size -1": header("bad.png", -1),
    "size -512": header("bad.png", -512),
    "size -512 and content": member("bad.png", size=-512),
    "size -2^80": header("bad.png", -(1 << 80)),
    "size 2^80": header("bad.png", 1 << 80),
    "size 2^63": header("bad.png", (1 << 63) - 512),
    "size 2^40": member("bad.png", size=1 << 40),
    "no number": patched(header("bad.png"), 124, b"no number!!!") + padded(PNG),
    "minus in octal": patched(header("bad.png"), 124, b"-0000001000\0"),
    "pax size -512": pax(size="-512") + member("bad.png"),
    "pax size 10^30": pax(size="1" + "0" * 30) + member("bad.png"),
    "pax size of many digits": pax(size="9" * 5000) + member("bad.png"),
    "pax size no number": pax(size="many") + member("bad.png"),
    "3000 pax headers": pax(comment="x") * 3000 + member("bad.png"),
    "3000 long names": (header("././@LongLink", 8, b"L") + padded(b"bad.png\0")) * 3000 + member("x.png"),
    "3000 long links": (header("././@LongLink", 8, b"K") + padded(b"bad.png\0")) * 3000 + member("bad.png"),
    "3000 of all": (pax(comment="x") + header("././@LongLink", 8, b"L") + padded(b"bad.png\0")) * 1500
    + member("bad.png"),
    "pax of a length of zero": header("x", 20, b"x") + padded(b"0 path=bad.png\n") + member("bad.png"),
    "pax without an end": header("x", 20, b"x") + padded(b"999 path=bad.png\n") + member("bad.png"),
    "pax of no form": header("x", 20, b"x") + padded(b"what is this") + member("bad.png"),
    "long name of size -512": header("././@LongLink", -512, b"L") + member("bad.png"),
    "long name of size 2^60": header("././@LongLink", 1 << 60, b"L") + member("bad.png"),
    "long name of 2 MB": header("x", 2 << 20, b"L") + padded(b"n" * (2 << 20)) + member("bad.png"),
    "GNU sparse": patched(header("bad.png", 0, b"S"), 482, b"\1") + b"\1" * BLOCK * 5 + bytes(BLOCK),
    "pax sparse": pax(GNU_sparse_name="bad.png", GNU_sparse_map="0,1" * 99, size="0") + header("x.png"),
    "unknown type": header("bad.png", len(PNG), b"Z") + padded(PNG),
}


def written(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    """An archive `a.tar` of each content, in a folder of its own."""
    paths = [folder / str(number) / "a.tar" for number in range(len(contents))]
    for path, content in zip(paths, contents.values(), strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize("first", [False, True])
def test_one_bad_record_fails_and_the_rest_is_read(tmp_path: Path, first: bool) -> None:
    before = b"" if first else member("before.png")
    after = member("after.png") + member("last.png") + bytes(2 * BLOCK)
    paths = written(tmp_path, {case: before + bad + after for case, bad in HOSTILE.items()})
    for case, found in zip(HOSTILE, ends_of(*paths), strict=True):
        good = {key: found.pop(key) for key in ("before.png", "after.png", "last.png") if key in found}
        assert set(good) == {"after.png", "last.png"} | ({"before.png"} if not first else set()), case
        assert all(end == [5, 4] for end in good.values()), case
        assert found
        assert all(key in ("bad.png", "a.tar") and isinstance(end, str) for key, end in found.items()), (case, found)


def test_a_bad_record_at_the_end_ends_the_list(tmp_path: Path) -> None:
    paths = written(tmp_path, {case: member("before.png") + bad for case, bad in HOSTILE.items()})
    for case, found in zip(HOSTILE, ends_of(*paths), strict=True):
        assert found.pop("before.png") == [5, 4], case
        assert set(found) <= {"bad.png", "a.tar"} if "sparse" not in case else found


def test_a_damaged_header_costs_one_member(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"{key}.png": png(pixels) for key, pixels in IMAGES.items()})
    content = bytearray(path.read_bytes())
    content[content.index(b"c.png") + 150] ^= 1
    path.write_bytes(content)
    *others, end = open_source(path)
    assert [one.key for one in others] == [f"{key}.png" for key in IMAGES if key != "c"]
    assert isinstance(end, Failure)
    assert (end.key, "damaged" in end.reason) == ("a.tar", True)


def test_a_member_of_the_size_of_another_archive_is_not_searched(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "inner.tar", {"inner.png": PNG}).read_bytes()
    path = tmp_path / "a.tar"
    path.write_bytes(member("inner.tar", inner) + member("after.png"))
    assert [one.key for one in open_source(path)] == ["after.png"]


def test_a_name_may_be_any_text_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(pax(path="\x1b[31m\t.png") + member("x") + pax(path="n" * 100_000 + ".png") + member("x"))
    first, second = open_source(path)
    assert first.key == "\x1b[31m\t.png"
    assert isinstance(second, Failure)
    assert ("too long" in second.reason, len(second.key)) == (True, 258)
    with pytest.raises(ImageError, match="limit"):
        open_source(path, max_pixels=2).load(first)  # type: ignore[arg-type]
