"""PNG, BMP, WebP and the other formats in all their kinds, beside a second decoder; and what is wrong with them."""

from __future__ import annotations

import io
import itertools
import re
import struct
import zlib
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from benchmarks import fuzz_images
from fcnseg.errors import ImageError, LabelsError
from fcnseg.io.images import read_color, read_depth, read_hha
from fcnseg.io.label_maps_image import read_from_image
from fcnseg.io.remarks import remarks

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 19, 21
SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)


def saved(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(SMOOTH)).save(file, kind, **options)
    return file.getvalue()


# ---------------------------------------------------------------------- PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(samples: np.ndarray[Any, Any], bits: int, color: int, adam7: bool, *more: bytes) -> bytes:
    """A PNG of H x W x S samples, each row with another filter where that is simple."""
    data = b""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    for top, left, down, across in passes if adam7 else [(0, 0, 1, 1)]:
        part = samples[top::down, left::across]
        if part.size:
            for row in part:
                data += b"\0" + packed(row.ravel(), bits)
    head = struct.pack(">LLBBBBB", samples.shape[1], samples.shape[0], bits, color, 0, 0, adam7)
    body = (chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def packed(row: np.ndarray[Any, Any], bits: int) -> bytes:
    if bits >= 8:
        return row.astype(f">u{bits // 8}").tobytes()
    return np.packbits((row[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)).tobytes()


PNG_KINDS = [(0, 1, b) for b in (1, 2, 4, 8, 16)] + [(3, 1, b) for b in (1, 2, 4, 8)]
PNG_KINDS += [(color, samples, bits) for color, samples in ((2, 3), (4, 2), (6, 4)) for bits in (8, 16)]


@pytest.mark.parametrize(("color", "channels", "bits"), PNG_KINDS)
@pytest.mark.parametrize("adam7", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_every_kind_of_png(color: int, channels: int, bits: int, adam7: bool, transparent: bool) -> None:
    samples = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    palette = RNG.integers(0, 256, (1 << bits if color == 3 else 1, 3), dtype=np.uint8)
    more = [chunk(b"PLTE", palette.tobytes())] if color == 3 else []
    if transparent and color in (0, 2, 3):
        more.append(chunk(b"tRNS", {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\0\x80"}[color]))
    content = png(samples, bits, color, adam7, *more)
    found = read_color(content)
    if color == 3:
        expected = palette[samples[..., 0]]
    else:
        levels = samples >> 8 if bits == 16 else samples * (255 // ((1 << bits) - 1))
        expected = np.broadcast_to(levels[..., :3] if channels > 2 else levels[..., :1], (HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(found, expected)
    if not (transparent or channels in (2, 4)):
        by_opencv = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(found, by_opencv[..., ::-1])


def with_wrong_checksum(content: bytes, kind: bytes) -> bytes:
    at = content.index(kind)
    length = int.from_bytes(content[at - 4 : at], "big")
    return content[: at + 4 + length] + b"\0\1\2\3" + content[at + length + 8 :]


ANCILLARY = (b"tEXt", b"gAMA", b"eXIf", b"iCCP", b"pHYs", b"abCd")


@pytest.mark.parametrize("place", ["before the pixels", "behind them"])
@pytest.mark.parametrize("kind", ANCILLARY)
def test_a_wrong_checksum_of_an_ancillary_chunk_is_remarked_on(kind: bytes, place: str) -> None:
    body = {b"eXIf": b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}.get(kind, b"k\0some words")
    sound = png(np.zeros((3, 4, 1), np.uint8), 8, 0, False)
    at = 33 if place == "before the pixels" else len(sound) - 12
    damaged = with_wrong_checksum(sound[:at] + chunk(kind, body) + sound[at:], kind)
    with remarks() as faults:
        assert read_color(damaged).shape == (3, 4, 3)
    assert faults == [f"its {kind.decode()} is damaged, and left out; the pixels do not depend on it"]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_wrong_checksum_of_a_critical_chunk_is_refused(kind: bytes, bits: int) -> None:
    palette = chunk(b"PLTE", bytes(768))
    color = (0, 1) if bits == 16 else (3, 1)
    content = png(np.zeros((3, 4, color[1]), np.uint16), bits, color[0], False, palette)
    assert read_color(content).shape == (3, 4, 3)
    with pytest.raises(ImageError, match=r"the checksum of its (IHDR|PLTE|pixels) is wrong"):
        read_color(with_wrong_checksum(content, kind))


def test_label_maps_are_held_to_their_checksums() -> None:
    labels = saved("PNG", Image.fromarray(RNG.integers(0, 9, (40, 50), dtype=np.uint8)), pnginfo=None)
    with pytest.raises(LabelsError, match="checksum"):
        read_from_image(with_wrong_checksum(labels, b"IDAT"))
    noted = labels[:33] + chunk(b"tEXt", b"k\0v") + labels[33:]
    np.testing.assert_array_equal(
        read_from_image(with_wrong_checksum(noted, b"tEXt")).values, read_from_image(labels).values
    )


# ---------------------------------------------------------------------- BMP

MASKS = {
    16: [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F), (0xF00, 0xF0, 0xF), (0x1F, 0x7E0, 0xF800), (0xE0, 0x1C, 0x3)],
    32: [
        *((0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFF000000, 0xFF0000, 0xFF00), (0xFF00, 0xFF0000, 0xFF)),
        *((0x3FF00000, 0xFFC00, 0x3FF), (0x1F, 0x3E0, 0x7C00), (0xFF0000, 0xFF000000, 0xFF)),
    ],
}


@pytest.mark.parametrize(("bits", "masks"), [(bits, masks) for bits in MASKS for masks in MASKS[bits]])
@pytest.mark.parametrize(("length", "compression"), [(40, 3), (40, 6), (52, 3), (56, 3), (108, 3), (124, 3)])
@pytest.mark.parametrize("upwards", [False, True])
def test_bitmaps_with_masks(bits: int, masks: tuple[int, ...], length: int, compression: int, upwards: bool) -> None:
    values = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH), dtype=np.uint64)
    offset = 14 + length + (16 if length == 40 else 0)
    height = HEIGHT if upwards else -HEIGHT
    information = struct.pack("<LllHHLLLLLL", length, WIDTH, height, 1, bits, compression, 0, 0, 0, 0, 0)
    head = struct.pack("<2sLHHL", b"BM", 0, 0, 0, offset) + information + struct.pack("<4L", *masks, 0)
    stored = values.astype(f"<u{bits // 8}")
    padding = -stored[0].nbytes % 4
    rows = [row.tobytes() + bytes(padding) for row in (stored[::-1] if upwards else stored)]
    content = head[:offset].ljust(offset, b"\0") + b"".join(rows)
    expected = np.zeros((HEIGHT, WIDTH, 3))
    for channel, mask in enumerate(masks):
        lowest = mask & -mask
        expected[..., channel] = (values & np.uint64(mask)) // np.uint64(lowest) * (255 / (mask // lowest))
    assert np.abs(read_color(content) - expected).max() <= 1
    with pytest.raises(ImageError, match="cut short"):
        read_color(content[:-5])


def test_the_bitmaps_of_pillow_and_opencv() -> None:
    quantized = Image.fromarray(SMOOTH).quantize(16)
    for image in (
        Image.fromarray(SMOOTH),
        quantized,
        quantized.convert("L"),
        quantized.convert("1"),
        quantized.convert("RGBA"),
    ):
        content = saved("BMP", image)
        by_opencv = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(read_color(content), by_opencv[..., ::-1])
    head = struct.pack("<2sLHHLLllHHL20x", b"BM", 0, 0, 0, 70, 40, 4, 4, 1, 16, 3)
    with pytest.raises(ImageError, match="a mask of its colours is 0x5"):
        read_color(head + struct.pack("<4L", 5, 2, 8, 0) + bytes(64))


# ---------------------------------------------------------------------- the other formats


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"quality": 40, "method": 0}], ids=str)
def test_webp(mode: str, options: dict[str, Any]) -> None:
    content = saved("WEBP", Image.fromarray(SMOOTH).convert(mode), **options)
    by_opencv = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_color(content), by_opencv[..., ::-1])
    for size in (len(content) // 2, len(content) - 3):
        with pytest.raises(ImageError, match="cut short"):
            read_color(content[:size])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_moving_pictures_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.roll(SMOOTH, 5 * i, 0)) for i in range(3)]
    with pytest.raises(ImageError, match="the file holds 3 frames"):
        read_color(saved(kind, frames[0], save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "JPEG2000", "AVIF", "WEBP", "PNG", "TIFF", "JPEG"])
def test_what_is_cut_short_is_refused_for_that(kind: str) -> None:
    content = saved(kind)
    for size in (len(content) // 5, len(content) // 2, len(content) * 4 // 5):
        with pytest.raises(ImageError) as raised:
            read_color(content[:size])
        assert "not an image of a known format" not in str(raised.value)
        assert "\n" not in str(raised.value)
    for size in (12, 20, 30):
        with pytest.raises(ImageError):
            read_color(content[:size])


def test_netpbm() -> None:
    bits = (SMOOTH[..., :1] > 128).astype(np.uint8)
    grey, deep = SMOOTH[..., 0], SMOOTH[..., 0].astype(np.uint16) * 257
    height, width = grey.shape
    head = f"{width} {height}".encode()
    cases = {
        b"P4 %b\n%b" % (head, np.packbits(1 - bits[..., 0], axis=1).tobytes()): np.repeat(bits * 255, 3, 2),
        b"P5 %b 255\n%b" % (head, grey.tobytes()): np.dstack([grey] * 3),
        b"P5 %b 65535\n%b" % (head, deep.astype(">u2").tobytes()): np.dstack([grey] * 3),
        b"P6 %b 255\n%b" % (head, SMOOTH.tobytes()): SMOOTH,
        b"P2 %b 255\n%b" % (head, b" ".join(b"%d" % v for v in grey.ravel())): np.dstack([grey] * 3),
    }
    for content, expected in cases.items():
        np.testing.assert_array_equal(read_color(content), expected, err_msg=content[:2].decode())


@pytest.mark.parametrize("most", [100, 255, 1023, 4095, 65535])
def test_depth_in_netpbm_keeps_its_unit(most: int) -> None:
    depth = RNG.integers(0, most + 1, (HEIGHT, WIDTH), dtype=np.uint16)
    head = b"%d %d %d\n" % (WIDTH, HEIGHT, most)
    raw = depth.astype(np.uint8 if most < 256 else ">u2").tobytes()
    for content in (b"P5 " + head + raw, b"P2 " + head + b" ".join(b"%d" % value for value in depth.ravel())):
        np.testing.assert_array_equal(read_depth(content)[..., 0], depth)


def test_decoders_tell_what_memory_they_take() -> None:
    """At least as much as was measured: 5.4 times the pixels of a WebP."""
    told: dict[str, float] = {}
    for kind in ("WEBP", "PNG", "JPEG", "JPEG2000", "AVIF"):

        def take(height: int, width: int, decoder_bytes: int = 0, kind: str = kind) -> None:
            told[kind] = 1 + decoder_bytes / (3 * height * width)

        read_color(saved(kind), 1 << 20, take)
    assert told["WEBP"] > 5.4
    assert told["JPEG"] == 1
    assert min(told[kind] for kind in ("PNG", "JPEG2000", "AVIF")) > 2


def test_depth_and_hha_of_other_formats() -> None:
    deep = RNG.integers(0, 1 << 16, (HEIGHT, WIDTH), dtype=np.uint16)
    for kind in ("PNG", "TIFF", "JPEG2000"):
        np.testing.assert_array_equal(read_depth(saved(kind, Image.fromarray(deep)))[..., 0], deep, err_msg=kind)
    for kind in ("PNG", "BMP", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        np.testing.assert_array_equal(read_hha(saved(kind, **options)), SMOOTH)


def test_jpeg_2000_is_that_of_another_decoder() -> None:
    for samples, reversible in itertools.product((1, 3), (False, True)):
        pixels = SMOOTH[..., 0] if samples == 1 else SMOOTH
        content = imagecodecs.jpeg2k_encode(pixels, level=0 if reversible else 60, reversible=reversible)
        other = imagecodecs.jpeg2k_decode(content)
        other = np.dstack([other] * 3) if samples == 1 else other
        assert np.abs(read_color(content).astype(int) - other).max() <= (not reversible)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [4, 8, 10, 12, 16])
def test_jpeg_2000_of_other_depths(channels: int, bits: int) -> None:
    """Pillow's own conversion makes white of deep colours black."""
    pixels = np.full((9, 8, channels), (1 << bits) - 1, np.uint16 if bits > 8 else np.uint8)
    pixels = pixels[..., 0] if channels == 1 else pixels
    content = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, bitspersample=bits)
    if bits == 8 or (bits, channels) == (16, 1):
        assert (read_color(content) == 255).all()
    else:
        with pytest.raises(ImageError, match=f"{channels} channels of {bits} bits is not read"):
            read_color(content)


# ---------------------------------------------------------------------- mutants


def test_mutants_are_refused_or_read_as_another_decoder_does(capfd: pytest.CaptureFixture[str]) -> None:
    assert fuzz_images.main(["--images", "500", "--seed", "1"]) == 0
    out = capfd.readouterr().out
    told = dict(re.findall(r"'([a-z ]+)': (\d+)", out))
    assert int(told["refused"]) > 250
    assert int(told["same"]) > 50
    assert int(told.get("other pixels", 0)) < 15, out
