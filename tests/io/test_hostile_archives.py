"""Archives made to harm: bombs, records that lead nowhere, and names of every kind."""

import bz2
import gzip
import io
import lzma
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcnseg.errors import SourceError
from fcnseg.io import archives, seekable
from fcnseg.io.sources import open_source
from fcnseg.types import Failure, Reference
from tests.io.archive_files import IMAGES, png, write_tar, write_zip
from tests.io.hostile import end_of, ends_of

PNG = png(IMAGES["a"])
SIZE = [5, 4]


def bad_first(path: Path, change: Callable[[bytearray, int], bytes | bytearray], name: bytes = b"bad.png") -> Path:
    """A zip whose member of that name has another record in the directory."""
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content, content.rindex(name) - 46))
    return path


def with_extra(content: bytearray, at: int, extra: bytes, **fields: int) -> bytes:
    """The archive with further values in the record there; `fields` are other numbers by where they stand."""
    record = content[at : at + 46]
    struct.pack_into("<H", record, 30, len(extra))
    for where, value in fields.items():
        struct.pack_into("<L", record, int(where[1:]), value)
    name_bytes = struct.unpack_from("<H", record, 28)[0]
    end = content.rindex(b"PK\5\6")
    size = struct.unpack_from("<L", content, end + 12)[0] + len(extra)
    struct.pack_into("<L", content, end + 12, size)
    return bytes(
        content[:at] + record + content[at + 46 : at + 46 + name_bytes] + extra + content[at + 46 + name_bytes :]
    )


def zip64(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


BIG = 0xFFFFFFFF
RECORDS: dict[str, Callable[[bytearray, int], bytes | bytearray]] = {
    "offset 2^64-1": lambda c, at: with_extra(c, at, zip64((1 << 64) - 1), _42=BIG),
    "offset 2^63": lambda c, at: with_extra(c, at, zip64(1 << 63), _42=BIG),
    "offset 2^40": lambda c, at: with_extra(c, at, zip64(1 << 40), _42=BIG),
    "sizes 2^64-1": lambda c, at: with_extra(c, at, zip64((1 << 64) - 1, (1 << 64) - 1), _20=BIG, _24=BIG),
    "unpacked 2^63": lambda c, at: with_extra(c, at, zip64(1 << 63), _24=BIG),
    "too few large numbers": lambda c, at: with_extra(c, at, zip64(5), _20=BIG, _24=BIG, _42=BIG),
    "no large numbers": lambda c, at: with_extra(c, at, b"", _42=BIG),
    "large numbers of no bytes": lambda c, at: with_extra(c, at, b"\1\0\0\0", _42=BIG),
    "large numbers longer than all": lambda c, at: with_extra(c, at, b"\1\0\x18\0" + bytes(8), _42=BIG),
    "a value longer than all": lambda c, at: with_extra(c, at, b"\7\7\xff\xff"),
    "two bytes of a value": lambda c, at: with_extra(c, at, b"\1\0", _42=BIG),
    "an offset of something else": lambda c, at: with_extra(c, at, b"", _42=3),
    "a name too long": lambda c, at: c[: at + 28] + b"\xff\0" + c[at + 30 :],
    "further values too long": lambda c, at: c[: at + 30] + b"\x40\0" + c[at + 32 :],
    "a comment too long": lambda c, at: c[: at + 32] + b"\x90\0" + c[at + 34 :],
    "no magic": lambda c, at: c[:at] + b"XXXX" + c[at + 4 :],
}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_record_of_a_zip_fails_and_the_rest_is_read(tmp_path: Path, place: int) -> None:
    names = ["x.png", "y.png"]
    names.insert(place, "bad.png")
    paths = []
    for number, change in enumerate(RECORDS.values()):
        (tmp_path / str(number)).mkdir()
        paths.append(bad_first(write_zip(tmp_path / str(number) / "a.zip", dict.fromkeys(names, PNG)), change))
    for case, found in zip(RECORDS, ends_of(*paths), strict=True):
        assert (found.pop("x.png"), found.pop("y.png")) == (SIZE, SIZE), case
        assert len(found) == 1, (case, found)
        assert all(key in ("bad.png", "a.zip") and isinstance(end, str) for key, end in found.items()), (case, found)


PRODUCED = 200 << 20
SMALL_MEMORY_BYTES = 500 << 20
"""Too little for it, with what Python and its libraries take."""

PACKERS: dict[int, Callable[[bytes], bytes]] = {
    zipfile.ZIP_DEFLATED: lambda content: zlib.compress(content, 9, wbits=-15),
    zipfile.ZIP_BZIP2: bz2.compress,
    zipfile.ZIP_LZMA: lambda content: zipfile.LZMACompressor().compress(content),  # type: ignore[attr-defined]
}


def zip_of(packed: bytes, method: int, claimed: int, checksum: int, name: bytes = b"bomb.png") -> bytes:
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, method, 0, 0, checksum, len(packed), claimed, len(name), 0)
    record = struct.pack(
        *("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, method, 0, 0, checksum, len(packed), claimed, len(name)),
        *(0, 0, 0, 0, 0, 0),
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(record + name), len(local) + len(name) + len(packed), 0)
    return local + name + packed + record + name + end


@pytest.mark.slow
@pytest.mark.parametrize("method", PACKERS)
def test_a_member_is_unpacked_to_what_it_claims_and_no_further(tmp_path: Path, method: int) -> None:
    bitmap = b"BM" + struct.pack("<LHHLLllHHLLllLL", 0, 0, 0, 54, 40, 9, 9, 1, 24, 0, 0, 0, 0, 0, 0)
    contents = [
        (bytes(PRODUCED), 100, "more than the 100 bytes"),
        (bytes(PRODUCED), PRODUCED, "known format"),
        (bytes(PRODUCED), 2 << 30, "more than an"),
        (PNG + bytes(PRODUCED), PRODUCED, "more than an image of 4 x 5"),
        (bitmap + bytes(PRODUCED), PRODUCED, "more than an image of 9 x 9"),
    ]
    paths = []
    for number, (content, claimed, _) in enumerate(contents):
        paths.append(tmp_path / f"{number}.zip")
        paths[-1].write_bytes(zip_of(PACKERS[method](content), method, claimed, zlib.crc32(content[:claimed])))
        assert paths[-1].stat().st_size < 400_000
    for (*_, reason), found in zip(contents, ends_of(*paths, memory_bytes=SMALL_MEMORY_BYTES), strict=True):
        assert reason in found["bomb.png"]


def test_a_member_that_claims_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of(zlib.compress(PNG, wbits=-15), 8, len(PNG) + 5, zlib.crc32(PNG)))
    assert "unpacks to" in end_of(path)["bomb.png"]
    path.write_bytes(zip_of(b"\t\4\5\0" + b"\xff" * 300, 14, 500, 0))
    assert "damaged" in end_of(path)["bomb.png"]
    huge_dictionary = struct.pack("<2BHBL", 9, 4, 5, 0x5D, 0xFFFFFFFF)
    path.write_bytes(zip_of(huge_dictionary + bytes(50), 14, 500, 0))
    assert "damaged" in end_of(path, memory_bytes=1 << 30)["bomb.png"]


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".tar.gz": lambda content: gzip.compress(content, 6),
    ".tgz": lambda content: gzip.compress(content, 6),
    ".tar.bz2": bz2.compress,
    ".tar.xz": lambda content: lzma.compress(content, preset=0),
}


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_compressed_tar_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(archives, "LEAST_LIMIT_BYTES", 8 << 20)
    path = tmp_path / f"a{suffix}"
    whole = write_tar(tmp_path / "a.tar", {"a.png": PNG, "zeros.bin": bytes(30 << 20), "b.png": PNG}).read_bytes()
    path.write_bytes(COMPRESSORS[suffix](whole))
    with pytest.raises(SourceError, match=r"unpacks to more than \d+ bytes; set TMPDIR .* if it is genuine") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(archives, "LEAST_LIMIT_BYTES", 64 << 20)
    assert [one.key for one in open_source(path)] == ["a.png", "b.png"]
    monkeypatch.setattr(seekable, "_free_bytes", lambda descriptor: 50 << 20)
    with pytest.raises(SourceError, match="there is no room for it in"):
        open_source(path)


@pytest.mark.slow
def test_a_gigabyte_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(1 << 30), 1))
    assert "unpacks to more than" in end_of(path, memory_bytes=1 << 30)[""]


# ---------------------------------------------------------------------- names


def keys_of(path: Path) -> dict[str, list[int]]:
    source = open_source(path)
    return {one.key: list(source.load(one).size) for one in source if isinstance(one, Reference)}


def test_names_that_are_declared_as_utf_8_and_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é.png", PNG)
        archive.writestr("b.png", PNG)
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    assert keys_of(path) == {"\udcff\udcfe.png": SIZE, "b.png": SIZE}


def test_backslashes_separate_too(tmp_path: Path) -> None:
    names = ["p\\back.png", "p\\deep/x.png", "..\\up.png", "\\top.png"]
    path = write_zip(tmp_path / "a.zip", dict.fromkeys(names, PNG))
    assert keys_of(path) == {"p/back.png": SIZE, "p/deep/x.png": SIZE}
    outside = [one for one in open_source(path) if isinstance(one, Failure)]
    assert len(outside) == 2
    assert all("leads outside" in one.reason for one in outside)


def unicode_path(name: bytes, of: bytes, version: int = 1, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(of) if checksum is None else checksum
    return struct.pack("<2HBL", 0x7075, 5 + len(name), version, checksum) + name


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        (unicode_path("ü/é.png".encode(), b"a.png"), "ü/é.png"),
        (b"\7\7\2\0xx" + unicode_path("é.png".encode(), b"a.png"), "é.png"),
        (unicode_path(b"p\\b.png", b"a.png"), "p/b.png"),
        (unicode_path("é.png".encode(), b"other.png"), "a.png"),
        (unicode_path("é.png".encode(), b"a.png", version=2), "a.png"),
        (unicode_path(b"\xff.png", b"a.png"), "a.png"),
        (b"up\2\0xx", "a.png"),
    ],
)
def test_the_unicode_path_of_a_member(tmp_path: Path, extra: bytes, key: str) -> None:
    path = bad_first(
        write_zip(tmp_path / "a.zip", {"a.png": PNG, "z.png": PNG}), lambda c, at: with_extra(c, at, extra), b"a.png"
    )
    assert keys_of(path) == {key: SIZE, "z.png": SIZE}


def test_a_unicode_path_leads_nowhere_else(tmp_path: Path) -> None:
    extra = unicode_path(b"../../up.png", b"a.png")
    path = bad_first(write_zip(tmp_path / "a.zip", {"a.png": PNG}), lambda c, at: with_extra(c, at, extra), b"a.png")
    (end,) = open_source(path)
    assert isinstance(end, Failure)
    assert "leads outside" in end.reason


NAMES = ["\x1b[31mred.png", "\x1b]0;title\x07.png", "new\nline.png", "\x9b31m.png", "\u202etxt.png"]


@pytest.mark.slow
def test_no_control_character_of_a_name_reaches_the_terminal(tmp_path: Path) -> None:
    """In failures, refusals of what is listed twice, tracebacks, estimates, records and scores."""
    broken = write_zip(tmp_path / "broken.zip", dict.fromkeys(NAMES, PNG[:50]))
    mixed = write_tar(tmp_path / "mixed.tar", {**dict.fromkeys(NAMES, PNG), "broken\x1b[0m.png": b"no"})
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in [*NAMES, *NAMES]:
            archive.writestr(name, PNG)
    with zipfile.ZipFile(tmp_path / "clash.zip", "w") as archive:
        for suffix in (".png", ".jpg"):
            archive.writestr(f"\x1b[31m{suffix}", PNG)
    out = str(tmp_path / "out")
    for command in (
        ["run", broken, "--out", out, "-vv"],
        ["run", broken, "--out", out, "--json-logs", "--overwrite"],
        ["status", out, "--failures"],
        ["run", broken, "--out", f"{out}2", "--dry-run"],
        ["run", tmp_path / "twice.zip", "--out", f"{out}3", "-vv"],
        ["run", tmp_path / "clash.zip", "--out", f"{out}3", "-vv"],
        ["run", mixed, "--out", f"{out}4"],
        ["run", mixed, "--out", f"{out}4", "--glob", "\x1b*"],
        ["run", mixed, "--out", f"{out}4", "--glob", "\x1bnone", "-vv"],
        ["score", f"{out}4", f"{out}4"],
        ["score", f"{out}4", out, "-vv"],
        ["diff", f"{out}4", out],
        ["view", f"{out}4", "--out", f"{out}5"],
        ["run", f"{broken}::\x1b[31m", "--out", f"{out}6", "-vv"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "fcnseg", *map(str, command)], capture_output=True, check=False, timeout=120
        )
        text = (done.stdout + done.stderr).decode()
        assert all(c.isprintable() or c == "\n" for c in text), (command, text)


def test_an_image_is_what_it_was(tmp_path: Path) -> None:
    """Stored and packed in every way, of more than a mebibyte too."""
    pixels = np.random.default_rng(0).integers(0, 256, (800, 900, 3), dtype=np.uint8)
    content = png(pixels)
    assert len(content) > 1 << 20
    for method in (zipfile.ZIP_STORED, *PACKERS):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a.png", content)
        (tmp_path / "a.zip").write_bytes(buffer.getvalue())
        source = open_source(tmp_path / "a.zip")
        (reference,) = source
        assert np.array_equal(source.load(reference).inputs["color"], pixels)  # type: ignore[arg-type]
