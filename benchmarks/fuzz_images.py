"""Mutated images of all formats: each must be refused in one line, or decoded as a second decoder does the same bytes.

Nothing may raise anything else, or take longer than a few seconds. The second decoder is OpenCV, and tifffile with
imagecodecs for TIFFs. Where it refuses what fcnseg reads, or reads other pixels, the image is counted and may be kept
with `--keep FOLDER`: damage that a format does not let decoders see gives each decoder pixels of its own.
Run from the project's root: `python -m benchmarks.fuzz_images`.
"""

from __future__ import annotations

import argparse
import io
import platform
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from fcnseg.errors import ImageError
from fcnseg.io.images import read_color

MOST_SECONDS = 10
TOLERANCE = 3
"""Levels by which libraries' arithmetic of colours may differ."""

Random = np.random.Generator


def sources() -> dict[str, bytes]:
    """Return one sound image of each kind."""
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (80, 60), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(smooth)
    kinds: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
        "JPEG": ("JPEG", image, {}),
        "progressive JPEG": ("JPEG", image, {"progressive": True}),
        "JPEG with restarts": ("JPEG", image, {"restart_marker_blocks": 3}),
        "grey JPEG": ("JPEG", image.convert("L"), {}),
        "CMYK JPEG": ("JPEG", image.convert("CMYK"), {}),
        "PNG": ("PNG", image, {}),
        "indexed PNG": ("PNG", image.quantize(40), {}),
        "PNG with alpha": ("PNG", image.convert("RGBA"), {}),
        "WebP": ("WEBP", image, {}),
        "lossless WebP": ("WEBP", image, {"lossless": True}),
        "GIF": ("GIF", image.quantize(60), {}),
        "BMP": ("BMP", image, {}),
        "indexed BMP": ("BMP", image.quantize(60), {}),
        "PPM": ("PPM", image, {}),
        "JPEG 2000": ("JPEG2000", image, {}),
        "AVIF": ("AVIF", image, {"speed": 10}),
        "fax TIFF": ("TIFF", image.convert("1"), {"compression": "group4"}),
        "JPEG TIFF": ("TIFF", image, {"compression": "jpeg"}),
    }
    contents = {name: _saved(*form) for name, form in kinds.items()}
    for name, options in {
        "TIFF": {},
        "LZW TIFF": {"compression": "lzw", "rowsperstrip": 16, "predictor": 2},
        "tiled TIFF": {"compression": "deflate", "tile": (16, 32)},
        "big-endian BigTIFF": {"byteorder": ">", "bigtiff": True},
        "PackBits TIFF": {"compression": "packbits"},
    }.items():
        contents[name] = _written(smooth, photometric="rgb", **options)
    deep = smooth.astype(np.uint16) * 257
    contents["planar 16-bit TIFF"] = _written(np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate")
    contents["12-bit TIFF"] = _written(deep[..., 0] >> 4, bitspersample=12)
    return contents


def _saved(kind: str, image: Image.Image, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _written(samples: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


# ---------------------------------------------------------------------- mutations


def flipped(content: bytearray, rng: Random) -> None:
    """Turn a bit."""
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))


def flipped_header(content: bytearray, rng: Random) -> None:
    """Replace one of the first bytes."""
    content[int(rng.integers(min(120, len(content))))] = int(rng.integers(256))


def extreme(content: bytearray, rng: Random) -> None:
    """Replace a number by a large or small one."""
    at, width = int(rng.integers(len(content))), 1 << int(rng.integers(4))
    content[at : at + width] = rng.choice(np.array([b"\xff", b"\0", b"\x80", b"\x7f"])) * width


def zeroed(content: bytearray, rng: Random) -> None:
    """Put a hole of zeros."""
    at, length = int(rng.integers(len(content))), int(rng.integers(8, 400))
    content[at : at + length] = bytes(len(content[at : at + length]))


def without(content: bytearray, rng: Random) -> None:
    """Take bytes out."""
    at = int(rng.integers(len(content)))
    del content[at : at + int(rng.integers(1, 200))]


def doubled(content: bytearray, rng: Random) -> None:
    """Repeat bytes."""
    at = int(rng.integers(len(content)))
    content[at:at] = content[at : at + int(rng.integers(1, 60))]


def cut(content: bytearray, rng: Random) -> None:
    """Cut the file short."""
    del content[int(rng.integers(len(content))) :]


MUTATIONS: tuple[Callable[[bytearray, Random], None], ...] = (
    *(flipped, flipped_header, extreme, zeroed, without, doubled, cut),
)


# ---------------------------------------------------------------------- judgement


def second(content: bytes) -> np.ndarray[Any, Any] | None:
    """Decode by another library; None if it refuses."""
    try:
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _by_tifffile(content)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except Exception:
        return None
    return None if pixels is None else pixels[..., ::-1]


def _by_tifffile(content: bytes) -> np.ndarray[Any, Any] | None:
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages[0]
        samples = page.asarray()
        photometric = int(page.photometric) if 262 in page.tags else 2 if page.samplesperpixel > 2 else 1
        if samples.dtype.kind not in "ub" or photometric not in (0, 1, 2, 6):
            return None
        if page.planarconfig == 2 and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, 2)
        bits = page.bitspersample
        samples = samples.astype(np.uint32)
        levels = samples >> (bits - 8) if bits > 8 else samples * 255 // ((1 << bits) - 1)
        levels = 255 - levels if photometric == 0 else levels
    return np.dstack([levels] * 3) if levels.ndim == 2 else levels[..., :3]


class TooSlowError(Exception):
    """A reader that does not come to an end."""


def _too_slow(*_: object) -> None:
    raise TooSlowError


def end_of(content: bytes) -> str:
    """Return in a few words what becomes of an image."""
    signal.alarm(MOST_SECONDS)
    try:
        pixels = read_color(content, 4_000_000)
    except ImageError as error:
        return "a reason of several lines" if "\n" in str(error) else "refused"
    except TooSlowError:
        return "hangs"
    except BaseException:
        traceback.print_exc()
        return "a traceback"
    finally:
        signal.alarm(0)
    other = second(content)
    if other is None:
        return "refused by the second decoder alone"
    if other.shape not in (pixels.shape, pixels.swapaxes(0, 1).shape):
        return "of another size"
    if other.shape != pixels.shape:
        return "same"  # turned upright
    return "same" if np.abs(pixels.astype(int) - other).max() <= TOLERANCE else "other pixels"


def main(arguments: list[str]) -> int:
    """Judge mutants and print how they ended. Returns 1 if any raised, hung or had a reason of several lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the images that two decoders see differently to this folder")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGALRM, _too_slow)
    rng, kinds = np.random.default_rng(options.seed), list(sources().items())
    ends: dict[str, Counter[str]] = {name: Counter() for name, _ in kinds}
    start = time.perf_counter()
    for number in range(options.images):
        name, sound = kinds[number % len(kinds)]
        mutant = bytearray(sound)
        for _ in range(int(rng.integers(1, 4))):
            if mutant:
                MUTATIONS[int(rng.integers(len(MUTATIONS)))](mutant, rng)
        end = end_of(bytes(mutant))
        ends[name][end] += 1
        if options.keep and end not in ("same", "refused"):
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{number} {name} {end}").write_bytes(mutant)
    print(f"{date.today()}  {platform.platform()}")
    for name, counts in ends.items():
        print(f"{name:20} " + ", ".join(f"{count} {end}" for end, count in counts.most_common()))
    total = sum(ends.values(), Counter())
    print(f"{options.images} images in {time.perf_counter() - start:.0f} s: {dict(total)}")
    return int(any(total[fault] for fault in ("a traceback", "hangs", "a reason of several lines", "of another size")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
