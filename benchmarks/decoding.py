"""Time to decode JPEGs, by several libraries, and their agreement with the pixels that Pillow gives.

Milliseconds of wall time and of processor time an image, in one thread and in two, the best of several rounds in which
the decoders take turns. `fcnseg` is the reader as it is: header, checks and orientation included.
Run from the project's root: `python -m benchmarks.decoding FOLDER`, a folder of JPEGs.
"""

from __future__ import annotations

import argparse
import io
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image

from fcnseg.io.images import read_color

ROUNDS = 7
IMAGES = 200
LARGE = {"1280x960": 40, "4000x3000": 4}

Decoder = Callable[[bytes], np.ndarray]


def by_pillow(content: bytes) -> np.ndarray:
    """Pillow, as NumPy asks for its pixels."""
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))


def by_opencv(content: bytes) -> np.ndarray:
    """OpenCV, which takes EXIF's orientation into account."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def by_torchvision(content: bytes) -> np.ndarray:
    """Of torchvision, whose C x H x W is made H x W x C."""
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    pixels = torchvision.io.decode_jpeg(data, mode=torchvision.io.ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).contiguous().numpy()


def by_simplejpeg(content: bytes) -> np.ndarray:
    """libjpeg-turbo's own interface."""
    return simplejpeg.decode_jpeg(content, "RGB", strict=True)


DECODERS: dict[str, Decoder] = {
    "Pillow": by_pillow,
    "OpenCV": by_opencv,
    "torchvision": by_torchvision,
    "simplejpeg": by_simplejpeg,
    "fcnseg": read_color,
}


def seconds(contents: list[bytes], threads: int) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds an image of each decoder."""
    best = dict.fromkeys(DECODERS, (float("inf"), float("inf")))
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            for name, decode in DECODERS.items():
                wall, cpu = time.perf_counter(), time.process_time()
                for _ in pool.map(lambda content, decode=decode: decode(content) is None, contents):
                    pass
                took = time.perf_counter() - wall, time.process_time() - cpu
                best[name] = tuple(min(old, new / len(contents)) for old, new in zip(best[name], took, strict=True))
    return best


def enlarged(content: bytes, size: str, count: int) -> list[bytes]:
    """One image scaled to a size, several times."""
    width, height = map(int, size.split("x"))
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").resize((width, height)).save(buffer, "JPEG", quality=90)
    return [buffer.getvalue()] * count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    contents = [path.read_bytes() for path in islice(paths, IMAGES)]
    print(f"{date.today()}, {platform.processor() or platform.machine()}, python -m benchmarks.decoding FOLDER")
    for name, decode in DECODERS.items():
        equal = sum(np.array_equal(decode(content), by_pillow(content)) for content in contents)
        print(f"{name:12} the pixels of Pillow in {equal} of {len(contents)} images")
    sets = {"as they are": contents, **{size: enlarged(contents[0], size, n) for size, n in LARGE.items()}}
    for label, images in sets.items():
        for threads in (1, 2):
            for name, (wall, cpu) in seconds(images, threads).items():
                print(f"{label:12} {threads} thread(s) {name:12} {wall * 1e3:8.2f} ms, processor {cpu * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()
