"""The cost of growing: images/s of `fcnseg run` by the number of processes and by the size of images.

    python -m benchmarks.growth processes [PHOTOS] [--processes 1 2 4]
    python -m benchmarks.growth sizes [--sides 100 300 ...]

`processes` runs the parts of one folder of 400 images (`--num-parts`), a process each, with the machine's cores shared
among them; images/s are those of all, from the first start to the last end, less the time that one process takes for a
single image. `sizes` runs square photographs of each side, as many as 30 megapixels hold, in one process; rates are the
run's own. The bundled model; engines are built before anything is measured and kept in `--home`. The limit of the
pipeline's own Python is `python -m benchmarks.pipeline null`'s.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pipeline import EXAMPLES, linked
from fcnseg.engine.hardware import cpu_name
from fcnseg.workers.limits import usable_cores

IMAGES = 400
MEGAPIXELS = 30
SIDES = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
BAR = 40


def command(given: argparse.Namespace, source: Path, out: Path, *more: object) -> list[str]:
    """A run with the chosen precision."""
    words = ["run", source, "--out", out, "--backend", "openvino", "--precision", given.precision, "-q"]
    words += ["--max-pixels", max(SIDES) ** 2, *more]
    return [sys.executable, "-c", "from fcnseg.cli import main; main()", *map(str, words)]


def run_all(commands: Iterable[list[str]]) -> float:
    """Run commands at once; return the seconds until the last has ended."""
    start = time.perf_counter()
    running = [subprocess.Popen(words) for words in commands]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("a run failed")
    return time.perf_counter() - start


def processes(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Images/s by the number of processes."""
    source = linked(given.photos, folder / "photos", IMAGES)
    one = linked(given.photos, folder / "one", 1)
    start_seconds = run_all([command(given, one, folder / "start")])
    rates = {}
    for count in given.processes:
        parts = [("--num-parts", count, "--part-id", part) if count > 1 else () for part in range(count)]
        seconds = run_all([command(given, source, folder / f"out{count}", *part) for part in parts])
        rates[f"{count} process{'es' if count > 1 else ''}"] = IMAGES / (seconds - start_seconds)
    return rates


def sizes(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Megapixels/s by the side of images."""
    scenes = [np.asarray(Image.open(file)) for file in sorted(EXAMPLES.glob("*.jpg"))]
    rates = {}
    for side in given.sides:
        photos = folder / str(side)
        photos.mkdir()
        count = max(1, min(100, MEGAPIXELS * 10**6 // side**2))
        for number in range(count):
            scene = scenes[number % len(scenes)]
            times = [-(-side // n) for n in scene.shape[:2]]
            Image.fromarray(np.tile(scene, (*times, 1))[:side, :side]).save(photos / f"{number}.jpg")
        out = folder / f"out{side}"
        run_all([command(given, photos, out)])
        record = json.loads((out / ".fcnseg" / "run.json").read_text())
        rates[f"{side:,} px ({record['images_per_second']:.3g} images/s)"] = record["images_per_second"] * side**2 / 1e6
        print(f"    measured {side:,} px: {count} images", file=sys.stderr)
    return rates


def show(rates: dict[str, float], unit: str) -> None:
    """A line each, with a bar."""
    width, most = max(map(len, rates)), max(rates.values())
    for name, rate in rates.items():
        print(f"    {name:{width}}  {rate:6.1f} {unit}  {'#' * round(BAR * rate / most)}")


def main() -> None:
    """Measure one curve and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("processes", "sizes"))
    parser.add_argument("photos", nargs="?", type=Path, default=EXAMPLES)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--sides", nargs="+", type=int, default=SIDES)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fcnseg-benchmark-") as name:
        folder = Path(name)
        os.environ["FCNSEG_HOME"] = str((given.home or folder / "home").resolve())
        run_all([command(given, linked(EXAMPLES, folder / "few", 1), folder / "first")])
        measure, unit = (processes, "images/s") if given.part == "processes" else (sizes, "megapixels/s")
        rates = measure(given, folder)
    print(f"    {cpu_name()}, {usable_cores()} cores, {datetime.now(UTC):%Y-%m-%d}, street-fcn8s {given.precision}")
    show(rates, unit)


if __name__ == "__main__":
    main()
