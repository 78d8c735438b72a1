"""TIFFs of every layout, written by tifffile and imagecodecs, or by Pillow's libtiff: right pixels, or a reason."""

from __future__ import annotations

import io
import itertools
import runpy
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from fcnseg.errors import ImageError, LabelsError
from fcnseg.io.images import announced_size, read_color, read_depth, read_hha
from fcnseg.io.label_maps import read_map
from fcnseg.io.raw_map import MapLocation
from tests.io.tiff_files import LONG, PACK, RATIONAL, SHORT, page, tiff

HEIGHT, WIDTH = 43, 37
RNG = np.random.default_rng(0)
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 5},
    "strip": {"rowsperstrip": HEIGHT},
    "tiles": {"tile": (16, 32)},
}
PACKINGS: list[dict[str, Any]] = [
    {},
    {"compression": "lzw"},
    {"compression": "deflate"},
    {"compression": "packbits"},
    {"compression": "zstd"},
    {"compression": "lzma"},
    {"compression": "lzw", "predictor": 2},
    {"compression": "deflate", "predictor": 2},
    {"compression": "zstd", "predictor": 2},
]
KINDS = {"white": 1, "black": 1, "grey and alpha": 2, "rgb": 3, "rgb and alpha": 4, "palette": 1, "cmyk": 4, "ycbcr": 3}
DEPTHS = (1, 2, 4, 6, 8, 10, 12, 14, 16)
MAP = RNG.integers(256, 1 << 16, (3, 1 << 8), dtype=np.uint16)


def written(samples: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def in_8_bits(samples: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    if bits > 8:
        return (samples >> (bits - 8)).astype(np.uint8)
    return np.rint(samples * (255 / ((1 << bits) - 1))).astype(np.uint8)


def in_rgb(kind: str, samples: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """The colours of H x W x S samples."""
    if kind == "palette":
        return (MAP.T >> 8).astype(np.uint8)[samples[..., 0]]
    levels = in_8_bits(samples, bits)
    if kind == "cmyk":
        return np.asarray(Image.fromarray(levels, "CMYK").convert("RGB"))
    if kind == "ycbcr":
        by_opencv: np.ndarray[Any, Any] = cv2.cvtColor(levels[..., [0, 2, 1]], cv2.COLOR_YCrCb2RGB)
        return by_opencv
    if kind.startswith("rgb"):
        return levels[..., :3]
    grey = np.repeat(levels[..., :1], 3, axis=2)
    return 255 - grey if kind == "white" else grey


def variants() -> Iterator[tuple[str, int, bool, str, str, dict[str, Any]]]:
    """Every kind, depth, planes or not, order of bytes and layout; the packings in turn."""
    packings = itertools.cycle(PACKINGS)
    for kind, bits, planar, order, layout in itertools.product(KINDS, DEPTHS, (False, True), "<>", LAYOUTS):
        if (planar and KINDS[kind] == 1) or (kind == "palette" and bits > 8) or (kind == "ycbcr" and bits != 8):
            continue
        for packing in itertools.islice(packings, 3):
            if bits in (8, 16) or "predictor" not in packing:
                yield kind, bits, planar, order, layout, packing


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_has_the_very_pixels(kind: str) -> None:
    photometric = {"white": "miniswhite", "palette": "palette", "cmyk": "separated", "ycbcr": "ycbcr"}
    wrong, count, unread = [], 0, 0
    for _, bits, planar, order, layout, packing in (v for v in variants() if v[0] == kind):
        samples = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH, KINDS[kind]), dtype=np.uint16 if bits > 8 else np.uint8)
        if bits == 1:
            samples = samples.astype(bool)
        options: dict[str, Any] = {**LAYOUTS[layout], **packing, "byteorder": order}
        options["photometric"] = photometric.get(kind, "rgb" if kind.startswith("rgb") else "minisblack")
        if "alpha" in kind:
            options["extrasamples"] = ["unassalpha"]
        if kind == "palette":
            options["colormap"] = MAP[:, : 1 << bits]
        if kind == "ycbcr":
            options["subsampling"] = (1, 1)
        if bits not in (1, 8, 16):
            options["bitspersample"] = bits
        if KINDS[kind] > 1:
            options["planarconfig"] = "separate" if planar else "contig"
        stored = np.moveaxis(samples, 2, 0) if planar else samples if KINDS[kind] > 1 else samples[..., 0]
        try:
            content = written(stored, **options)
        except (ValueError, NotImplementedError):  # not written by tifffile
            continue
        if not np.array_equal(tifffile.imread(io.BytesIO(content)), stored):  # nor are some of odd depths read again
            unread += 1
            continue
        count += 1
        expected = in_rgb(kind, samples.astype(int) if bits == 1 else samples, bits)
        found = read_color(content)
        if np.abs(found.astype(int) - expected).max() > (kind == "ycbcr"):
            wrong.append((bits, planar, order, layout, packing))
    assert wrong == []
    assert count >= 18


PHOTOMETRIC = {"white": 0, "black": 1, "rgb": 2, "palette": 3, "cmyk": 5, "ycbcr": 6}


def by_hand(kind: str, samples: np.ndarray[Any, Any], bits: int, **options: Any) -> bytes:
    """A TIFF of H x W x S samples."""
    tags = {
        **({338: (SHORT, [2])} if "alpha" in kind else {}),
        **({320: (SHORT, MAP[:, : 1 << bits].ravel().tolist())} if kind == "palette" else {}),
        **({530: (SHORT, [1, 1])} if kind == "ycbcr" else {}),
        **options.pop("tags", {}),
    }
    photometric = PHOTOMETRIC[{"grey and alpha": "black", "rgb and alpha": "rgb"}.get(kind, kind)]
    big = options.pop("big", False)
    order = options.get("order", "<")
    return tiff(page(samples, photometric, bits=bits, tags=tags, **options), order=order, big=big)


def random_samples(kind: str, bits: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 1 << bits, (HEIGHT, WIDTH, KINDS[kind]), dtype=np.uint16 if bits > 8 else np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("planar", [False, True])
def test_every_depth_is_read_in_every_layout(kind: str, planar: bool) -> None:
    """Of packed bits above all, which libraries rarely write; in TIFF and BigTIFF, bits in both directions."""
    wrong, count = [], 0
    layouts = ({"rows": 5}, {"rows": HEIGHT}, {"tile": (16, 32)})
    turns = itertools.cycle(itertools.product((1, 5, 8, 32773, 50000), (False, True), (False, True)))
    for bits, order, layout in itertools.product((1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16), "<>", layouts):
        if (kind == "palette" and bits > 8) or (kind == "ycbcr" and bits != 8) or (planar and KINDS[kind] == 1):
            continue
        for compression, big, reverse in itertools.islice(turns, 2):
            samples = random_samples(kind, bits)
            options = {"planar": planar, "order": order, "compression": compression, "reverse": reverse, **layout}
            found = read_color(by_hand(kind, samples, bits, big=big, **options))
            count += 1
            if np.abs(found.astype(int) - in_rgb(kind, samples, bits)).max() > (kind == "ycbcr"):
                wrong.append((bits, big, options))
    assert wrong == []
    assert count or KINDS[kind] == 1


# ---------------------------------------------------------------------- parts that are encoded images


SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (16, 32)}])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_jpeg_in_tiff(layout: dict[str, Any], subsampling: tuple[int, int]) -> None:
    """The pixels of imagecodecs, of all colours that JPEG may hold."""
    for photometric, samples in (("minisblack", 1), ("rgb", 3), ("ycbcr", 3)):
        pixels = SMOOTH[..., 0] if samples == 1 else SMOOTH[..., :3]
        options: dict[str, Any] = {"compressionargs": {"level": 95}}
        if photometric == "ycbcr":
            options["subsampling"] = subsampling
        content = written(pixels, photometric=photometric, compression="jpeg", **layout, **options)
        expected = tifffile.imread(io.BytesIO(content))
        expected = expected if samples == 3 else np.dstack([expected] * 3)
        np.testing.assert_array_equal(read_color(content), expected)
        if photometric != "ycbcr":  # tifffile takes Y, Cb and Cr
            assert np.abs(expected.astype(int) - (pixels if samples == 3 else pixels[..., None])).mean() < 12


def test_jpeg_in_tiff_as_libtiff_writes_it() -> None:
    """With the tables in a tag of their own."""
    for mode in ("L", "RGB", "YCbCr", "CMYK"):
        image = Image.fromarray(SMOOTH[..., :3]).convert(mode)
        file = io.BytesIO()
        image.save(file, "TIFF", compression="jpeg", quality=95)
        expected = np.asarray(Image.open(file).convert("RGB")).astype(int)
        assert np.abs(read_color(file.getvalue()) - expected).max() <= 1


def test_a_part_that_is_a_huge_jpeg_is_refused_by_its_header() -> None:
    content = bytearray(written(SMOOTH[..., :3], photometric="ycbcr", compression="jpeg", rowsperstrip=16))
    frame = content.rindex(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(ImageError, match="a part is of 65000 x 65000 pixels, not 37 x 16"):
        read_color(bytes(content))


def test_a_part_with_too_few_rows_is_refused() -> None:
    content = bytearray(written(SMOOTH[..., :3], photometric="ycbcr", compression="jpeg", rowsperstrip=16))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 7] = struct.pack(">H", 8)
    with pytest.raises(ImageError, match="damaged"):
        read_color(bytes(content))


def test_jpeg_planes() -> None:
    content = written(
        np.moveaxis(SMOOTH[..., :3], 2, 0), photometric="rgb", planarconfig="separate", compression="jpeg"
    )
    np.testing.assert_array_equal(read_color(content), np.moveaxis(tifffile.imread(io.BytesIO(content)), 0, 2))


def test_the_old_form_of_jpeg() -> None:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(SMOOTH[..., :3])).save(file, "JPEG", quality=95, subsampling=0)
    jpeg = file.getvalue()

    def old(jpeg: bytes) -> bytes:
        filled, _ = page(SMOOTH[..., :3], 6)
        return tiff(({**filled, 259: (SHORT, [6]), 513: (LONG, [8]), 514: (LONG, [len(jpeg)])}, [jpeg]))

    np.testing.assert_array_equal(read_color(old(jpeg)), np.asarray(Image.open(file)))
    with pytest.raises(ImageError, match="premature end of data segment"):
        read_color(old(jpeg[: -len(jpeg) // 4] + jpeg[-2:]))


@pytest.mark.parametrize("compression", ["webp", "jpeg2000"])
def test_other_images_in_tiff(compression: str) -> None:
    for channels in (3, 4):
        lossless = {"lossless": True} if compression == "webp" else {"level": 0}
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        content = written(
            SMOOTH[..., :channels], photometric="rgb", tile=(16, 32), compression=compression,
            compressionargs=lossless, **extra,
        )  # fmt: skip
        opaque = SMOOTH[..., 3] > 0  # what cannot be seen WebP may change
        np.testing.assert_array_equal(read_color(content)[opaque], SMOOTH[..., :3][opaque])


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_faxes(compression: str, white_is_zero: bool) -> None:
    bits = RNG.random((HEIGHT, 1000)) < 0.1
    file = io.BytesIO()
    Image.fromarray(bits).save(file, "TIFF", compression=compression, strip_size=1000)
    content = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as opened:
        tag = opened.pages[0].tags[262]
        stored_white = tag.value == 0
        struct.pack_into("<H", content, tag.valueoffset, 0 if white_is_zero else 1)
    expected = bits ^ (stored_white != white_is_zero)
    np.testing.assert_array_equal(read_color(bytes(content))[..., 1], np.where(expected, 255, 0))


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("units", [(2, 1), (2, 2), (4, 2), (1, 2), (4, 4)])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}])
def test_pixels_that_share_a_colour(units: tuple[int, int], compression: int, layout: dict[str, Any]) -> None:
    """Beside libtiff's own conversion, by OpenCV."""
    across, down = units
    height, width = layout.get("tile", (HEIGHT, WIDTH))
    tags: dict[int, Any] = {530: (SHORT, units)}
    shape = (-(-height // down), -(-width // across), across * down + 2)
    counts = -(-HEIGHT // height) * -(-WIDTH // width)
    parts = [PACK[compression](RNG.integers(40, 210, shape, dtype=np.uint8).tobytes()) for _ in range(counts)]
    filled, _ = page(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 6, compression=compression, tags=tags, **layout)
    content = tiff((filled, parts))
    by_libtiff = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if by_libtiff is None:
        pytest.skip("OpenCV does not read it")
    sure = WIDTH if not layout or units != (4, 4) else width  # libtiff garbles cut tiles of these
    assert np.abs(read_color(content).astype(int) - by_libtiff[..., ::-1])[:, :sure].max() <= 2


# ---------------------------------------------------------------------- pages


RGB = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
FULL, SMALL = page(RGB, 2), page(RGB[::2, ::2], 2, tags={254: (LONG, [1])})
MASK = page(np.ones((HEIGHT, WIDTH, 1), np.uint8), 4, bits=1, tags={254: (LONG, [4])})
SMALL_MASK = page(np.ones((22, 19, 1), np.uint8), 4, bits=1, tags={254: (LONG, [5])})
OLD_SMALL = page(RGB[::2, ::2], 2, tags={255: (SHORT, [2])})


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
def test_the_page_that_is_the_picture(order: str, big: bool) -> None:
    full, small = page(RGB, 2, order=order), SMALL
    for pages in (
        [full],
        [full, small],
        [full, MASK],
        [full, small, MASK, SMALL_MASK],
        [small, full],
        [full, OLD_SMALL],
    ):
        np.testing.assert_array_equal(read_color(tiff(*pages, order=order, big=big)), RGB)
    deep = RNG.integers(0, 1 << 16, RGB.shape, dtype=np.uint16)
    np.testing.assert_array_equal(read_color(tiff(page(deep, 2, order=order), small, order=order, big=big)), deep >> 8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(FULL, FULL), "the file holds 2 frames"),
        (tiff(FULL, SMALL, FULL, FULL), "the file holds 3 frames"),
        (tiff(SMALL, SMALL), "the file holds 2 frames"),
        (tiff(MASK), "a transparency mask, not RGB"),
        (tiff(page(RGB, 2, tags={254: (LONG, [1]), 330: (LONG, [8])})), "only a preview"),
        (tiff(page(RGB, 2, tags={50706: (2, [1, 4, 0, 0])})), "DNG of a camera"),
        (tiff(page(RGB, 8)), r"L\*a\*b\* colours"),
        (tiff(page(RGB, 2, tags={339: (SHORT, [2, 2, 2])})), "signed 8-bit samples"),
        (tiff(page(RGB, 2, tags={258: (SHORT, [8, 8, 4])})), "different bits"),
        (tiff(page(RGB, 1)), "3 grey samples"),
        (tiff(page(np.dstack([RGB, RGB[..., :1]]), 5, tags={332: (SHORT, [2])})), "inks are not cyan"),
        (tiff(page(RGB, 2, tags={259: (SHORT, [34887])})), "LERC"),
        (tiff(page(RGB, 2, tags={259: (SHORT, [12345])})), "unknown method"),
        (tiff(page(RGB, 2, tags={277: (SHORT, [2])})), "damaged: its colours have 2 samples"),
        (tiff(page(RGB, 2, tags={32997: (LONG, [2])})), "volume"),
        (tiff(page(RGB, 2, tags={273: (LONG, [1 << 20])})), "cut short"),
        (tiff(page(RGB, 2, tags={273: (LONG, [0])})), "sparse"),
        (tiff(page(RGB, 2, tags={257: (LONG, [0])})), "damaged: it has"),
        (tiff(page(RGB[..., :1], 3, tags={320: (SHORT, [9] * 9)})), "colour map has 9 values"),
        (written(np.ones((3, 3), np.float32)), "floating-point"),
        (written(np.ones((3, 3), np.float16)), "floating-point"),
        (written(np.ones((3, 3), np.complex64)), "complex"),
        (written(np.ones((3, 3), np.uint32)), "32-bit samples"),
        (written(np.ones((3, 3), np.int32)), "signed 32-bit"),
        (written(np.ones((3, 3), np.uint64)), "64-bit samples"),
    ],
)
def test_what_has_no_such_meaning_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        read_color(content)


def test_a_stack_of_imagej_is_refused() -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, RNG.integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8), imagej=True)
    with pytest.raises(ImageError, match="3 frames"):
        read_color(file.getvalue())


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("samples", [2, 4])
def test_colours_darkened_by_alpha_are_as_before(depth: int, samples: int) -> None:
    most = (1 << depth) - 1
    alpha = RNG.integers(0, most + 1, (HEIGHT, WIDTH, 1))
    alpha[:5], alpha[5:10] = 0, most
    colors = RNG.integers(0, most + 1, (HEIGHT, WIDTH, samples - 1))
    darkened = colors * alpha // most
    stored = np.concatenate((darkened, alpha), axis=2).astype(np.uint16 if depth == 16 else np.uint8)
    found = read_color(tiff(page(stored, 1 if samples == 2 else 2, tags={338: (SHORT, [1])})))
    seen = (alpha > most // 2)[..., 0]
    np.testing.assert_allclose(found[seen], np.broadcast_to(colors >> (depth - 8), found.shape)[seen], atol=2)
    np.testing.assert_array_equal(found[:5], np.broadcast_to(darkened >> (depth - 8), found.shape)[:5])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    tags = {274: (SHORT, [orientation])}
    for options in ({}, {"planar": True, "compression": 8}, {"tile": (16, 32)}):
        content = tiff(page(RGB, 2, tags=tags, **options))
        found = read_color(content)
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, "TIFF", tiffinfo={274: orientation})
        np.testing.assert_array_equal(found, np.asarray(Image.open(file)))
        assert announced_size(partial(read_color, content, 1 << 20)) == found.shape[:2]


def test_ranges_and_coefficients_of_ycbcr() -> None:
    """Of studio levels, as libtiff turns them to RGB."""
    ranges = [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]
    tags = {530: (SHORT, [1, 1]), 532: (RATIONAL, ranges), 529: (RATIONAL, [2126, 10000, 7152, 10000, 722, 10000])}
    content = tiff(page(RGB, 6, tags=tags))
    by_libtiff = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(read_color(content).astype(int) - by_libtiff).max() <= 3  # it counts in whole numbers


# ---------------------------------------------------------------------- other modalities


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "u1", "u2", "u4", "i1", "i2", "i4"])
@pytest.mark.parametrize("order", "<>")
def test_depth_of_every_type(kind: str, order: str) -> None:
    values = (RNG.random((HEIGHT, WIDTH)) * 100 - (50 if kind[0] != "u" else 0)).astype(kind)
    for options in ({}, {"compression": "lzw", "rowsperstrip": 7}, {"compression": "deflate", "predictor": True}):
        if kind[0] == "f" and "predictor" in options:
            options = {**options, "predictor": 3}
        found = read_depth(written(values, byteorder=order, photometric="minisblack", **options))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found[..., 0], values.astype(np.float32))
    with pytest.raises(ImageError, match="one channel"):
        read_depth(tiff(FULL))


def test_hha_has_three_channels_of_8_bits() -> None:
    np.testing.assert_array_equal(read_hha(tiff(page(RGB, 2, planar=True))), RGB)
    for content in (tiff(page(RGB.astype(np.uint16), 2)), tiff(page(RGB[..., :1], 1))):
        with pytest.raises(ImageError, match="three 8-bit channels"):
            read_hha(content)


# ---------------------------------------------------------------------- damage


def test_libtiff_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever part of a packed TIFF is damaged or lacking, what is wrong is in the reason alone."""
    refused = 0
    file = io.BytesIO()
    Image.fromarray(RNG.random((200, 300)) < 0.02).save(file, "TIFF", compression="group4")
    packed = [tiff(page(RGB, 2, compression=c, rows=9)) for c in (5, 8, 32773, 50000)]
    jpeg = written(SMOOTH[..., :3], photometric="ycbcr", compression="jpeg", rowsperstrip=16)
    for content in (*packed, jpeg, file.getvalue()):
        for _ in range(20):
            damaged = bytearray(content)
            place = int(RNG.integers(8, len(content) - 200))
            damaged[place : place + 30] = RNG.bytes(30)
            try:
                read_color(bytes(damaged))
            except ImageError:
                refused += 1
        with pytest.raises(ImageError):
            read_color(content[: len(content) // 2])
    assert refused > 60
    assert capfd.readouterr() == ("", "")


def test_parts_whose_sizes_are_not_told_are_read_up_to_the_next() -> None:
    for compression in (1, 5, 8, 50000):
        content = tiff(page(RGB, 2, compression=compression, rows=9))
        at = content.index(struct.pack("<HH", 279, LONG))
        unknown = content[:at] + struct.pack("<H", 65279) + content[at + 2 :]
        np.testing.assert_array_equal(read_color(unknown), RGB)


def test_parts_that_are_the_whole_file_each_are_refused_at_once() -> None:
    pixels = np.zeros((5000, 3, 1), np.uint8)
    filled, parts = page(pixels, 1, compression=8, rows=1)
    offsets, size = {273: (LONG, [8] * len(parts))}, 2 << 20
    tags = {**filled, **offsets, 279: (LONG, [size] * len(parts))}
    with pytest.raises(ImageError, match="more bytes than the file"):
        read_color(tiff((tags, [bytes(size)])))


def test_a_changed_byte_of_deflated_pixels_is_found() -> None:
    content = tiff(page(RGB, 2, compression=8, rows=9))
    for place in range(12, 600, 7):
        damaged = bytearray(content)
        damaged[place] ^= 16
        try:
            pixels = read_color(bytes(damaged))
        except ImageError:
            continue
        np.testing.assert_array_equal(pixels, RGB)  # a byte between two parts


def test_the_header_tells_of_more_pixels_than_are_allowed(tmp_path: Path) -> None:
    for order in "<>":
        tags = {256: (LONG, [200_000]), 257: (LONG, [200_000]), 278: (LONG, [1])}
        filled, parts = page(RGB, 2, tags=tags, order=order)
        (tmp_path / "a.tif").write_bytes(tiff((filled, parts), order=order, big=True))
        with pytest.raises(ImageError, match="200000 x 200000 pixels is more than the limit"):
            read_color(tmp_path / "a.tif")


@pytest.mark.skipif(not Path("../shared/cases").is_dir(), reason="needs the cases of the shared folder")
def test_the_twelve_cases() -> None:
    cases = runpy.run_path("../shared/cases/tiffs.py")["CASES"]
    for name, (content, expected) in cases.items():
        if expected is None:
            with pytest.raises(ImageError, match="have no 8-bit meaning"):
                read_color(content)
        else:
            np.testing.assert_array_equal(read_color(content), expected, err_msg=name)


# ---------------------------------------------------------------------- label maps


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f4"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "tile": (16, 32)}, {"byteorder": ">"}])
def test_label_maps_have_their_stored_values(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    labels = RNG.integers(0, 100, (HEIGHT, WIDTH)).astype(kind)
    labels[0, 0] = -1 if kind[0] != "u" else 255
    (tmp_path / "a.tif").write_bytes(written(labels, photometric="minisblack", **options))
    np.testing.assert_array_equal(read_map(MapLocation(str(tmp_path / "a.tif"))).values, labels)


def test_label_maps_of_few_bits_with_palettes_and_overviews(tmp_path: Path) -> None:
    labels = RNG.integers(0, 16, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    small = page(labels[::2, ::2], 1, bits=4, tags={254: (LONG, [1])})
    colors = {320: (SHORT, MAP[:, :16].ravel().tolist())}
    for picture in (page(labels, 1, bits=4), page(labels, 3, bits=4, tags=colors), page(15 - labels, 0, bits=4)):
        (tmp_path / "a.tif").write_bytes(tiff(picture, small))
        found = read_map(MapLocation(str(tmp_path / "a.tif")))
        np.testing.assert_array_equal(found.values, labels[..., 0])
    (tmp_path / "a.tif").write_bytes(tiff(page(labels, 3, bits=4, tags=colors)))
    assert read_map(MapLocation(str(tmp_path / "a.tif"))).palette[3] == tuple((MAP[:, 3] >> 8).tolist())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(page(RGB.astype(np.uint16), 2)), "colours of 16 bits"),
        (tiff(page(RGB[..., :1].astype(np.uint16), 0)), "white as 0"),
        (tiff(page(RGB[..., :2], 1, tags={338: (SHORT, [2])})), "partly transparent"),
        (written(SMOOTH[..., 0], compression="jpeg"), "changes labels"),
        (tiff(FULL, FULL), "2 frames"),
        (tiff(page(RGB, 2))[:900], "damaged or cut short"),
    ],
)
def test_tiffs_that_are_no_label_maps(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(LabelsError, match=reason):
        read_map(MapLocation(str(tmp_path / "a.tif")))
