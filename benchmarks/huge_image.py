"""How much memory one huge image takes, and how long: `fcnseg run` over a picture of 20,000 x 20,000; asked: 3 GiB.

From the project's root: `python -m benchmarks.huge_image [--side PX] [--formats jpg,png] [OPTION OF fcnseg run]...`.
The picture is made of the examples' street scenes. Peak memory is that of the whole process, by the operating system.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

from fcnseg.stream.decoding import allow_pixels

SCENES = Path(__file__).parent.parent / "examples/street/images"


def picture(side: int) -> Image.Image:
    """The scenes side by side, every second one mirrored, side x side px."""
    scenes = [np.asarray(Image.open(path).convert("RGB"))[:360, :480] for path in sorted(SCENES.iterdir())]
    scenes = [scene for scene in scenes if scene.shape == (360, 480, 3)]
    pixels = np.empty((side, side, 3), np.uint8)
    count = 0
    for top in range(0, side, 360):
        for left in range(0, side, 480):
            place = pixels[top : top + 360, left : left + 480]
            scene = scenes[count % len(scenes)][:, :: -1 if count % 2 else 1]
            place[:] = scene[: place.shape[0], : place.shape[1]]
            count += 1
    return Image.fromarray(pixels)


def run(image: Path, out: Path, side: int, options: list[str]) -> tuple[float, float]:
    """Seconds, and the peak memory in GiB, of `fcnseg run` over an image."""
    command = [sys.executable, "-m", "fcnseg", "run", str(image), "--out", str(out), "--max-pixels", str(side * side)]
    start = time.monotonic()
    process = subprocess.Popen([*command, "--quiet", *options])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(process.args)} failed")  # type: ignore[arg-type]
    unit = 1 if sys.platform == "darwin" else 1024
    return time.monotonic() - start, usage.ru_maxrss * unit / 2**30


def main() -> None:
    """Make the picture, run over it in each format, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--formats", default="jpg,png")
    arguments, options = parser.parse_known_args()
    side = arguments.side
    allow_pixels(side * side)
    with tempfile.TemporaryDirectory(prefix="fcnseg-huge-") as name:
        folder = Path(name)
        picture(64).save(folder / "first.png")
        run(folder / "first.png", folder / "first", 64, options)  # builds the engine
        whole = picture(side)
        for suffix in arguments.formats.split(","):
            whole.save(folder / f"huge.{suffix}", quality=90, compress_level=1)
        del whole
        print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {side} x {side}, {' '.join(options)}")
        for suffix in arguments.formats.split(","):
            seconds, peak = run(folder / f"huge.{suffix}", folder / suffix, side, options)
            print(
                f"{suffix}: peak memory {peak:.2f} GiB, {seconds:.0f} s, {side * side / seconds / 1e6:.2f} megapixels/s"
            )


if __name__ == "__main__":
    main()
