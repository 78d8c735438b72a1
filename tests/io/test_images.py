import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fcnseg.errors import ImageError
from fcnseg.io import pillow_pixels
from fcnseg.io.images import pixels_of, read_color, read_depth, read_hha

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)


def save(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm"])
def test_lossless_formats_give_the_very_pixels(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read_color(save(tmp_path, Image.fromarray(PIXELS), name)), PIXELS)


def test_lossless_webp(tmp_path: Path) -> None:
    assert np.array_equal(read_color(save(tmp_path, Image.fromarray(PIXELS), "a.webp", lossless=True)), PIXELS)


def test_jpeg_agrees_with_opencv(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    smooth = np.asarray(Image.fromarray(PIXELS).resize((60, 50), Image.Resampling.BICUBIC))
    path = save(tmp_path, Image.fromarray(smooth), "a.jpg", quality=95, subsampling=0)
    other = cv2.imread(str(path))[..., ::-1].astype(int)
    assert np.abs(read_color(path).astype(int) - other).max() <= 2


def test_grey_palette_and_bilevel_become_rgb(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    assert np.array_equal(read_color(save(tmp_path, Image.fromarray(grey), "g.png")), np.stack([grey] * 3, -1))
    palette = Image.fromarray(PIXELS).quantize(16)
    assert np.array_equal(read_color(save(tmp_path, palette, "p.png")), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(grey > 128)
    assert set(np.unique(read_color(save(tmp_path, bits, "b.png")))) == {0, 255}


def test_alpha_is_dropped_and_colours_stay_as_stored(tmp_path: Path) -> None:
    rgba = np.dstack([PIXELS, np.zeros((7, 5), np.uint8)])
    assert np.array_equal(read_color(save(tmp_path, Image.fromarray(rgba), "a.png")), PIXELS)


def test_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40)).convert("CMYK")
    pixels = read_color(save(tmp_path, red, "c.jpg", quality=100))
    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels.astype(int) - (200, 30, 40)).max() < 8


@pytest.mark.parametrize("name", ["d.png", "d.tiff"])
def test_sixteen_bits_keep_the_high_byte(tmp_path: Path, name: str) -> None:
    deep = np.array([[0, 255, 256, 0x1234, 0xFFFF]], np.uint16)
    assert read_color(save(tmp_path, Image.fromarray(deep), name))[0, :, 0].tolist() == [0, 0, 1, 0x12, 0xFF]


def rgb16_png(path: Path, pixels: np.ndarray) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def test_sixteen_bit_rgb_png_keeps_the_high_byte_too(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (4, 3, 3), dtype=np.uint16)
    assert np.array_equal(read_color(rgb16_png(tmp_path / "a.png", deep)), (deep >> 8).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_photographs_come_out_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, Image.fromarray(PIXELS), "a.png", exif=exif)
    # What each EXIF orientation asks of a viewer, in NumPy's words (EXIF 2.3, table 6).
    upright = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS, 1),
    }[orientation]
    assert np.array_equal(read_color(path), upright)


def test_a_type_that_lies_is_read_by_content(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(PIXELS), "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_color(path), PIXELS)


def test_what_is_no_image_says_why(tmp_path: Path) -> None:
    cases = {
        "empty.jpg": (b"", "0 bytes"),
        "page.jpg": (b"<!DOCTYPE html><html>not found</html>", "it is HTML"),
        "noise.png": (bytes(range(256)), "not an image of a known format"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=reason):
            read_color(tmp_path / name)
    (tmp_path / "dir.jpg").mkdir()
    with pytest.raises(ImageError, match="not a regular file"):
        read_color(tmp_path / "dir.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_color(tmp_path / "fifo.jpg")
    with pytest.raises(ImageError, match="No such file"):
        read_color(tmp_path / "absent.jpg")


def test_a_truncated_photograph_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(PIXELS).resize((200, 150)), "a.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="premature end of data segment"):
        read_color(path)


def test_a_decompression_bomb_is_refused_and_says_which_option(tmp_path: Path) -> None:
    path = save(tmp_path, Image.new("1", (30_000, 30_000)), "bomb.png")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ImageError, match="--max-pixels"):
        read_color(path)
    small = save(tmp_path, Image.fromarray(PIXELS), "a.png")
    with pytest.raises(ImageError, match=r"limit of 34; .*--max-pixels"):
        read_color(small, max_pixels=34)
    assert read_color(small, max_pixels=35).shape == (7, 5, 3)


def test_several_frames_and_float_samples_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())]
    for name in ("pages.tiff", "moving.gif"):
        path = save(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="2 frames"):
            read_color(path)
    with pytest.raises(ImageError, match="floating-point"):
        read_color(save(tmp_path, Image.fromarray(np.ones((3, 3), np.float32)), "f.tiff"))
    with pytest.raises(ImageError, match="32-bit samples"):
        read_color(save(tmp_path, Image.fromarray(np.full((3, 3), 1 << 20, np.int32)), "i.tiff"))


def test_depth_keeps_its_unit_and_hha_its_order(tmp_path: Path) -> None:
    millimetres = np.array([[0, 700, 12_345]], np.uint16)
    depth = read_depth(save(tmp_path, Image.fromarray(millimetres), "d.png"))
    assert depth.dtype == np.float32
    assert depth[..., 0].tolist() == [[0.0, 700.0, 12345.0]]
    with pytest.raises(ImageError, match="one channel"):
        read_depth(save(tmp_path, Image.fromarray(PIXELS), "c.png"))
    assert np.array_equal(read_hha(save(tmp_path, Image.fromarray(PIXELS), "h.png")), PIXELS)
    with pytest.raises(ImageError, match="three 8-bit channels"):
        read_hha(save(tmp_path, Image.fromarray(PIXELS[..., 0]), "g.png"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutilated_files_are_images_or_image_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM"]))
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).resize((40, 30)).save(buffer, name)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path = tmp_path_factory.mktemp("mutilated") / "a.img"
    path.write_bytes(content)
    try:
        pixels = read_color(path, max_pixels=10_000_000)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


def test_pixels_of_takes_paths_images_and_arrays(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(PIXELS), "a.png")
    for image in (path, str(path), Image.fromarray(PIXELS), PIXELS):
        assert np.array_equal(pixels_of(image), PIXELS)
    with pytest.raises(ImageError, match="H x W x 3"):
        pixels_of(PIXELS.astype(np.float32))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "restart_marker_blocks": 2}], ids=str)
def test_jpegs_have_pillows_very_pixels(mode: str, subsampling: str, options: dict[str, object]) -> None:
    """Of every kind and of sizes around a block's: decoding them faster must not change a bit."""
    for size in ((1, 1), (7, 5), (16, 16), (33, 17), (2, 40), (121, 99)):
        image = Image.fromarray(PIXELS).resize(size, Image.Resampling.BICUBIC).convert(mode)
        for extra in ({}, {"keep_rgb": True}) if mode == "RGB" and subsampling == "4:4:4" else ({},):
            content = encoded(image, "JPEG", subsampling=subsampling, **options, **extra)
            assert np.array_equal(read_color(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_jpegs_are_what_pillow_makes_of_them(data: st.DataObject) -> None:
    content = bytearray(encoded(Image.fromarray(PIXELS).resize((80, 60), Image.Resampling.BICUBIC), "JPEG"))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = read_color(bytes(content), 1_000_000)
    except ImageError:
        return
    image = Image.open(io.BytesIO(bytes(content)))
    with suppress(OSError):  # Pillow needs the end marker
        if image.getexif().get(0x0112, 1) == 1:
            assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM"])
def test_bytes_are_read_as_files_are_and_the_size_is_told_first(tmp_path: Path, name: str) -> None:
    content = encoded(Image.fromarray(PIXELS), name)
    (tmp_path / "a").write_bytes(content)
    told: list[tuple[int, int]] = []
    pixels = read_color(content, 35, lambda height, width, *_: told.append((height, width)))
    assert told == [pixels.shape[:2]] == [(7, 5)]
    assert np.array_equal(pixels, read_color(tmp_path / "a"))
    with pytest.raises(ImageError, match="0 bytes"):
        read_color(b"")


def test_the_size_that_is_told_is_the_upright_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path, Image.fromarray(PIXELS), "a.jpg", exif=exif)
    told: list[tuple[int, int]] = []
    pixels = read_color(path, 35, lambda height, width, *_: told.append((height, width)))
    assert told == [pixels.shape[:2]] == [(5, 7)]
    stored = np.asarray(Image.open(path))
    assert np.array_equal(pixels, np.rot90(stored, -1))
    assert pixels.flags.c_contiguous


def test_a_png_says_its_size_before_it_is_decoded_wherever_its_orientation_stands() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    content = encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    late = content[:start] + content[end:-12] + content[start:end] + content[-12:]  # behind the pixels, before IEND
    for png in (content, late):
        assert np.array_equal(read_color(png), np.rot90(PIXELS))

        def refuse(height: int, width: int, _bytes: int = 0) -> None:
            raise ZeroDivisionError(f"{height} x {width}")

        damaged = png[: png.index(b"IDAT") + 5] + b"!" + png[png.index(b"IDAT") + 6 :]
        with pytest.raises(ZeroDivisionError, match="5 x 7"):
            read_color(damaged, 35, refuse)


def test_every_flipped_bit_of_a_pngs_pixels_is_found() -> None:
    content = encoded(Image.fromarray(PIXELS), "PNG")
    start = content.index(b"IDAT") + 4
    length = int.from_bytes(content[start - 8 : start - 4], "big")
    for position in range(start, start + length + 4):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(ImageError, match=r"damaged|truncated|cannot be (read|decoded)"):
            read_color(bytes(flipped))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "LA", "I;16"])
def test_images_of_many_pixels_are_converted_in_bands(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    high = Image.fromarray(RNG.integers(0, 1 << 16, (7, 5), dtype=np.uint16))
    image = high if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    path = save(tmp_path, image, "a.tiff", exif=exif)
    whole = read_color(path)
    monkeypatch.setattr(pillow_pixels, "BAND_PIXELS", 11)
    assert np.array_equal(read_color(path), whole)
    if mode == "RGB":
        assert np.array_equal(whole, np.rot90(PIXELS, -1))
    assert whole.shape == (5, 7, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.tiff", "RGB"), ("a.tiff", "L"), ("a.tiff", "RGBA")])
def test_every_format_is_turned_upright_once(tmp_path: Path, name: str, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(PIXELS).convert(mode)
    told: list[tuple[int, int]] = []
    path = save(tmp_path, image, name, exif=exif)
    pixels = read_color(path, 35, lambda height, width, *_: told.append((height, width)))
    image.getexif()[0x0112] = orientation
    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
    assert told == [pixels.shape[:2]]
