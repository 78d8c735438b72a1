"""Peak memory and time of `fcnseg run` over one picture of 20,000 x 20,000 pixels; asked: 3 GiB.

From the project's root: `python -m benchmarks.huge_image [--side PX] [--formats jpg,png] [OPTION OF fcnseg run]...`.
The picture is made of the examples' street scenes. Peak memory is that of the whole process, by the operating system.
"""

from __future__ import annotations

import argparse
import multiprocessing
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

from fcnseg.io.images import allow_pixels

SCENES = Path(__file__).parent.parent / "examples/street/images"


def save_picture(side: int, files: list[Path]) -> None:
    """Write the scenes side by side, every second one mirrored, side x side px."""
    allow_pixels(side * side)
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
    for file in files:
        Image.fromarray(pixels).save(file, quality=90, compress_level=1)


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
    with tempfile.TemporaryDirectory(prefix="fcnseg-huge-") as name:
        folder = Path(name)
        save_picture(64, [folder / "first.png"])
        run(folder / "first.png", folder / "first", 64, options)  # builds the engine
        files = [folder / f"huge.{suffix}" for suffix in arguments.formats.split(",")]
        maker = multiprocessing.Process(target=save_picture, args=(side, files))
        maker.start()  # of its own: what this one ever held counts as held by those that it starts
        maker.join()
        print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {side} x {side}, {' '.join(options)}")
        for file in files:
            seconds, peak = run(file, folder / file.suffix, side, options)
            print(f"{file.name}: {peak:.2f} GiB at most, {seconds:.0f} s, {side**2 / seconds / 1e6:.2f} megapixels/s")


if __name__ == "__main__":
    main()
