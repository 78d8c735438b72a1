"""Speed of the engines on this processor beside OpenCV, their time to load, and the peak memory of a run.

Full-width voc-fcn8s at 500 x 375 with random weights, measured in one run by the code of `fcnseg bench`: OpenCV,
torch in fp32 and bf16, OpenVINO in fp32, bf16 and int8. Then, each in a fresh process: the time to load a built engine,
and the peak memory of `fcnseg run --engine` on one image. From the project's root: `python -m benchmarks.engines speed`
and `... start`.

What it must reach: fp32 1.8, bf16 3.4 and int8 6 times OpenCV's speed; loading 1.5 s; 1.8 GiB in fp32, 1.4 in bf16.

The weights are random ones that behave as trained ones do (see `benchmarks.random_weights`), the images photographs of
the examples that those were not fitted to. Engines are built whatever their agreement, and the table shows it. GFLOP/s
are of the operations that an engine does: without blank margins and pixels that follow from their neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks.opencv_peer import open_engine_or_peer
from benchmarks.random_weights import sample_photographs, write_weights
from fcnseg.engine.bench import BenchOptions, bench
from fcnseg.engine.bench_session import Candidate, Workload
from fcnseg.engine.hardware import cpu_name
from fcnseg.recipes import find_recipe
from fcnseg.types import Frame
from fcnseg.workers.limits import usable_cores

MODEL = "voc-fcn8s"
PRECISIONS = ("fp32", "bf16", "int8")
SIZE = (375, 500)
ENGINES = ("opencv:fp32", "torch:fp32", "torch:bf16", "openvino:fp32", "openvino:bf16", "openvino:int8")
IMAGES = 2
SPEEDS = {"openvino:fp32": 1.8, "openvino:bf16": 3.4, "openvino:int8": 6.0}
MEMORY_GIB = {"fp32": 1.8, "bf16": 1.4}
LOAD_SECONDS = 1.5

FCNSEG = "from fcnseg.cli import main; main()"

LOAD = """
import sys, time
import openvino  # the library itself is not part of loading an engine
from fcnseg.engine.open import engine_from
from fcnseg.engine.options import EngineOptions
from pathlib import Path
start = time.perf_counter()
with engine_from(EngineOptions(sys.argv[1], engine=Path(sys.argv[2]))):
    print(time.perf_counter() - start)
"""

RUN = """
from fcnseg.cli import main
from fcnseg.engine.bench_session import peak_memory_bytes
try:
    main()
finally:
    print(peak_memory_bytes())
"""


def write_images(folder: Path) -> None:
    """Eight photographs, for calibration and the run."""
    folder.mkdir()
    for number, pixels in enumerate(sample_photographs(8, SIZE)):
        Image.fromarray(pixels).save(folder / f"photo-{number}.png")


def call(code: str, *arguments: object) -> str:
    """Run code in a fresh process; return its standard output."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"it failed: {' '.join(map(str, arguments))}")
    return done.stdout


def prepare(folder: Path, *sizes: object) -> tuple[Path, Path]:
    """Weights, images and the three engines in `folder`: in the cache, where the benchmark looks, or with `sizes` in
    files of their own, for `fcnseg run` takes none from the cache that was held to nothing."""
    os.environ["FCNSEG_HOME"] = str(folder / "home")
    weights, photos = folder / "weights.safetensors", folder / "photos"
    if weights.exists():
        return weights, photos
    write_images(photos)
    write_weights(weights, find_recipe(MODEL))
    for precision in PRECISIONS:
        calibrate = ["--calibrate", photos] if precision == "int8" else []
        chosen = ["--backend", "openvino", "--precision", precision, "--min-agreement", 0, *sizes]
        chosen += ["--out", folder / f"{precision}.engine"] if sizes else []
        call(FCNSEG, "build-engine", MODEL, "--weights", weights, *chosen, *calibrate)
    return weights, photos


def measure_speed(folder: Path, repeat: int = 3) -> dict[str, Any]:
    """Engines side by side, built for the model's own range of sizes; speed is relative to OpenCV, the first."""
    weights, _ = prepare(folder)
    if not repeat:
        return {}
    recipe = find_recipe(MODEL)
    candidates = [Candidate(*name.split(":")) for name in ENGINES]
    opener = partial(open_engine_or_peer, MODEL, weights, "auto")
    frames = tuple(Frame(str(n), str(n), {"color": p}) for n, p in enumerate(sample_photographs(IMAGES, SIZE)))
    return asdict(bench(candidates, Workload(recipe, frames, opener), BenchOptions(repeat=repeat, warm_up=1)))


def measure_start(folder: Path) -> dict[str, Any]:
    """Loading, and a whole run of one image; engines for few sizes, because those are compared faster."""
    sizes = ["--min-shape", "64x64", "--opt-shape", "100x100", "--max-shape", "120x120", "--max-batch", 1]
    _, photos = prepare(folder, *sizes)
    result: dict[str, Any] = {"load_seconds": {}, "run_peak_gib": {}}
    for precision in PRECISIONS:
        engine = folder / f"{precision}.engine"
        first, *again = (float(call(LOAD, MODEL, engine)) for _ in range(4))
        result["load_seconds"][precision] = {"first": first, "again": median(again)}
        photo, out = photos / "photo-0.png", folder / f"masks-{precision}"
        said = call(RUN, "run", photo, "--out", out, "--model", MODEL, "--engine", engine, "-q")
        result["run_peak_gib"][precision] = int(said.split()[-1]) / 2**30
    return result


def show(result: dict[str, Any]) -> None:
    """A short table: what was reached, and what must be."""
    for row in result.get("rows", ()):
        name, figures = f"{row['backend']}:{row['precision']}", row["figures"]
        if figures is None:
            print(f"{name:14}  {row['failure']}")
            continue
        target = f" (must: {SPEEDS[name]})" if name in SPEEDS else ""
        share = f"{figures['ceiling_share']:.0%} of the ceiling" if figures["ceiling_share"] else "no ceiling known"
        print(
            f"{name:14}  {figures['latency_median_seconds']:.2f} s/image, {figures['speed_ratio']:.2f} times "
            f"{result['peer']}{target}, labels {figures['agreement']:.2%}, {figures['gflops']:.0f} GFLOP/s, {share}, "
            f"{figures['peak_memory_bytes'] / 2**30:.2f} GiB"
        )
    for precision, seconds in result.get("load_seconds", {}).items():
        print(
            f"loading openvino:{precision} takes {seconds['again']:.2f} s (must: {LOAD_SECONDS}); "
            f"{seconds['first']:.2f} s in the first process"
        )
    for precision, peak in result.get("run_peak_gib", {}).items():
        target = f" (must: {MEMORY_GIB[precision]})" if precision in MEMORY_GIB else ""
        print(f"a run of openvino:{precision} holds at most {peak:.2f} GiB{target}")


def main() -> None:
    """Measure and print; with --out the whole result as JSON too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="what to measure")
    parser.add_argument("--out", type=Path, help="also write everything that was measured, as JSON")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of the speed; 0 prepares alone")
    parser.add_argument("--folder", type=Path, help="keep weights and engines there, and take them from there")
    given = parser.parse_args()
    options = {"repeat": given.repeat} if given.part == "speed" else {}
    with tempfile.TemporaryDirectory() as folder:
        result = PARTS[given.part](given.folder or Path(folder), **options)
    print(f"{cpu_name()}, {usable_cores()} cores, {datetime.now(UTC):%Y-%m-%d}: benchmarks.engines {given.part}")
    show(result)
    if given.out:
        given.out.write_text(json.dumps(result, indent=2))


PARTS = {"speed": measure_speed, "start": measure_start}

if __name__ == "__main__":
    main()
