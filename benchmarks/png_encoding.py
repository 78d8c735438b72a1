"""Time and size of label maps encoded as PNG: fcnseg's encoder beside Pillow, zlib, zlib-ng and OpenCV.

Processor time and bytes of an image, for real label maps (all of a folder) and for a mosaic of 20,000 x 20,000; the
memory each takes beyond the large label map. Every PNG is read back and compared. Encoders whose library is
not installed (`pip install zlib-ng`) are left out. Run from the project's root:
`python -m benchmarks.png_encoding LABELS_FOLDER`.
"""

from __future__ import annotations

import argparse
import importlib
import io
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnseg.engine.hardware import cpu_name
from fcnseg.io import png
from fcnseg.labels import voc_color

Array = NDArray[Any]
Encoder = Callable[[Array], Iterator[bytes]]

PALETTE = b"".join(bytes(voc_color(i)) for i in range(256))
LARGE_PX = 20_000
ROUNDS = 3


def pillow(**options: int) -> Encoder:
    """Pillow's encoder."""

    def encode(labels: Array) -> Iterator[bytes]:
        image, buffer = Image.fromarray(labels), io.BytesIO()
        image.putpalette(PALETTE)
        image.save(buffer, "PNG", **options)
        yield buffer.getvalue()

    return encode


def opencv(labels: Array) -> Iterator[bytes]:
    """OpenCV's encoder, as it is: grey, for it writes no palettes."""
    import cv2

    yield cv2.imencode(".png", labels)[1].tobytes()


def deflated_by(name: str, *options: int) -> Encoder:
    """The encoder of fcnseg with another library's deflate, or at another level."""

    def encode(labels: Array) -> Iterator[bytes]:
        library = importlib.import_module(name)
        own = png.zlib
        png.zlib = SimpleNamespace(compressobj=lambda *_: library.compressobj(*options), crc32=zlib.crc32)
        try:
            yield from png.encode(labels, PALETTE, {})
        finally:
            png.zlib = own

    return encode


RLE = (1, zlib.DEFLATED, 15, 8, zlib.Z_RLE)

ENCODERS: dict[str, Encoder] = {
    "fcnseg": lambda labels: png.encode(labels, PALETTE, {}),
    "isal 0": deflated_by("isal.isal_zlib", 0),
    "isal 1": deflated_by("isal.isal_zlib", 1),
    "isal 2": deflated_by("isal.isal_zlib", 2),
    "isal 3": deflated_by("isal.isal_zlib", 3),
    "zlib-ng 1": deflated_by("zlib_ng.zlib_ng", 1),
    "zlib-ng 2": deflated_by("zlib_ng.zlib_ng", 2),
    "zlib-ng RLE": deflated_by("zlib_ng.zlib_ng", *RLE),
    "zlib 1": deflated_by("zlib", 1),
    "zlib 6": deflated_by("zlib", 6),
    **{f"Pillow {level}": pillow(compress_level=level) for level in range(1, 10)},
    "Pillow RLE": pillow(compress_level=1, compress_type=zlib.Z_RLE),
    "Pillow fixed": pillow(compress_level=1, compress_type=zlib.Z_FIXED),
    "Pillow filtered": pillow(compress_level=1, compress_type=zlib.Z_FILTERED),
    "Pillow Huffman": pillow(compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY),
    "OpenCV": opencv,
}


def measure(encode: Encoder, maps: list[Array]) -> tuple[float, float]:
    """Processor seconds (the least of some rounds) and bytes of a map; each is read back and compared."""
    size = 0
    for labels in maps:
        content = b"".join(encode(labels))
        size += len(content)
        with Image.open(io.BytesIO(content)) as image:
            if not np.array_equal(np.asarray(image), labels):
                raise SystemExit("a label map was not read back as it was")
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for labels in maps:
            for _chunk in encode(labels):
                pass
        seconds.append(time.process_time() - started)
    return min(seconds) / len(maps), size / len(maps)


def maps_below(folder: str) -> list[Array]:
    """The label maps of a folder."""
    return [np.array(Image.open(path)) for path in sorted(Path(folder).glob("*.png"))]


def measure_large(name: str, folder: str) -> None:
    """Print what one encoder takes for a large mosaic: processor seconds, bytes, memory beyond the map."""
    labels = maps_below(folder)[0]
    labels = np.tile(labels, [-(-LARGE_PX // side) for side in labels.shape])[:LARGE_PX, :LARGE_PX].copy()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_bytes()
    started, size = time.process_time(), 0
    for chunk in ENCODERS[name](labels):
        size += len(chunk)
    seconds = time.process_time() - started
    print(f"{seconds:6.2f} s, {size / 1e6:5.2f} MB, {(peak_bytes() - before) / 2**20:5.0f} MiB more")


def peak_bytes() -> int:
    """The most memory this process has held (ru_maxrss would be the parent's, which exec keeps)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def main(folder: str) -> None:
    """Print the comparison."""
    maps = maps_below(folder)
    height, width = maps[0].shape
    print(f"{cpu_name()}, {time.strftime('%Y-%m-%d')}: {len(maps)} label maps of {width}x{height}")
    print(f"{'':16}  {'an image':24}  {LARGE_PX}x{LARGE_PX}")
    for name, encode in ENCODERS.items():
        try:
            seconds, size = measure(encode, maps)
        except ImportError:
            continue
        command = [sys.executable, "-m", "benchmarks.png_encoding", folder, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = done.stdout.strip() if done.returncode == 0 else "fails"
        print(f"{name:16}  {seconds * 1e3:6.3f} ms, {size / 1e3:6.2f} kB     {last}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="LABELS_FOLDER")
    parser.add_argument("encoder", nargs="?", help="measure this one alone, on the mosaic")
    given = parser.parse_args()
    if given.encoder:
        measure_large(given.encoder, given.folder)
    else:
        main(given.folder)
