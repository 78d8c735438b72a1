"""What is not known of a CUDA device, measured in at most eight minutes and printed as one table for RESULTS.md.

From the project's root: `bash benchmarks/gpu.sh [PYTHON] [--rehearse] [PART ...]`, with what `benchmarks.bare` needs.
Each part is a process of its own with a limit of time: one that fails or hangs says so in a line, and the rest goes on.
With `--rehearse` all runs on the processor, tiny, to see that it runs; without a device nothing else does.

Claims to check: torch fp16 reaches half of the dense fp16 ceiling that the same run measures (by the arithmetic that is
done: without margins), and `fcnseg run` 90 % of its bare engine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

import fcnseg
from benchmarks import first_gpu
from benchmarks.bare import missing
from fcnseg.engine.bench_frames import made_up_frames
from fcnseg.engine.bench_session import peak_memory_bytes
from fcnseg.engine.graph import GraphForm
from fcnseg.engine.hardware import torch_gpus
from fcnseg.engine.runtimes.batched import BatchedTorchEngine
from fcnseg.engine.runtimes.pytorch import exact_arithmetic, torch_dtype
from fcnseg.recipes import Recipe, Shapes, find_recipe
from fcnseg.types import Pixels

TOTAL_SECONDS = 470

STREET, VOC = first_gpu.STREET, first_gpu.VOC


@dataclass(frozen=True)
class Scale:
    """The size of it all: `sizes` of images by model, `width` of the trunk by that of the paper."""

    device: str
    sizes: Mapping[str, tuple[int, int]]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    seconds: float
    side: int
    photographs: int
    width: float = 1.0


FULL = Scale(
    "cuda", {VOC: (375, 500), STREET: (360, 480)}, ("fp16", "bf16", "fp32"), (16, 4, 1), 1.5, 8192, photographs=2000
)
REHEARSAL = Scale(
    "cpu", {VOC: (30, 40), STREET: (36, 48)}, ("bf16", "fp32"), (2, 1), 0.01, 64, photographs=6, width=1 / 16
)


@dataclass(frozen=True)
class Row:
    """One measurement. `gflop` is the arithmetic done for an image, in 10^9 operations; of a ceiling, `rate` is in
    those a second."""

    what: str
    precision: str = ""
    batch: int | None = None
    rate: float | None = None
    gflop: float | None = None
    memory_bytes: int | None = None
    remark: str = ""


Rows = Iterator[Row]


# ---------------------------------------------------------------------- the parts


def machine(scale: Scale) -> Rows:
    """Name the device and the versions."""
    yield Row("machine", remark=first_gpu.versions(Path()))
    if lacking := missing():
        yield Row("stand-ins", remark=", ".join(path.stem for path in lacking))
    if scale.device == "cuda":
        yield Row("memory", memory_bytes=torch_gpus()[0].memory_bytes)


def tests(scale: Scale) -> Rows:
    """Run the tests marked `gpu`, or only collect them."""
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=line", "--continue-on-collection-errors"]
    options += ["--collect-only"] if scale.device == "cpu" else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/gpu"], capture_output=True, text=True, check=False
    )
    lines = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            yield Row("test", remark=line)
    yield Row("tests", remark=lines[-1].strip("= "))
    if done.returncode:
        raise RuntimeError(f"pytest ended with {done.returncode}")


def ceiling(scale: Scale) -> Rows:
    """Measure the product of two large matrices of random numbers in each precision; fp32 without TF32."""
    for precision in scale.precisions:
        square = torch.randn(scale.side, scale.side, device=scale.device).to(torch_dtype(precision))
        with exact_arithmetic(torch.device(scale.device)):
            runs = timed(lambda: square @ square, scale)  # noqa: B023 - called at once
        yield Row(f"ceiling, product of {scale.side} x {scale.side}", precision, rate=runs * 2 * scale.side**3 / 1e9)


def torch_model(scale: Scale, model: str) -> Rows:
    """Measure torch, labels in host memory, in each precision and batch; then without CUDA graphs."""
    images = inputs_of(scale, model, max(scale.batches))
    with weights_of(scale, model) as (recipe, weights):
        for precision in scale.precisions:
            with BatchedTorchEngine(recipe, weights, scale.device, precision, on_note=note) as engine:
                for batch in scale.batches:
                    engine.batch = batch
                    yield engine_row(f"torch {model}", engine, precision, batch, images, scale)
        fastest, batch = scale.precisions[0], scale.batches[0]
        with BatchedTorchEngine(recipe, weights, scale.device, fastest, graphs=False) as engine:
            engine.batch = batch
            yield engine_row(f"torch {model}, no graphs", engine, fastest, batch, images, scale)


def tensorrt_model(scale: Scale, model: str) -> Rows:
    """Measure TensorRT where it is installed; fp16 first, the others as time allows."""
    try:
        first_gpu.library()
    except first_gpu.Skipped as reason:
        yield Row(f"TensorRT {model}", remark=f"left out: {reason}")
        return
    images = inputs_of(scale, model, max(scale.batches))
    shapes = [Shapes((1, 1), scale.sizes[model], scale.sizes[model], max(scale.batches))]
    for precision in scale.precisions:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            plan = first_gpu.plan_of(Path(folder), model, precision, GraphForm(), shapes)
            yield Row(f"TensorRT {model}", precision, remark=f"built in {time.perf_counter() - start:.0f} s")
            with first_gpu.engine_of(Path(folder), plan, model) as engine:
                for batch in scale.batches:
                    yield engine_row(f"TensorRT {model}", engine, precision, batch, images, scale)


def end_to_end(scale: Scale) -> Rows:
    """Measure `fcnseg run` over photographs in JPEG beside its bare engine, and the utilisation of each stage."""
    precision = scale.precisions[0]
    with tempfile.TemporaryDirectory() as folder:
        photographs = write_photographs(Path(folder) / "photographs", scale)
        begin_memory(scale)
        summary = fcnseg.run(
            photographs, Path(folder) / "masks", backend="torch", device=scale.device, precision=precision
        )
    if summary.done != scale.photographs:
        raise RuntimeError(f"{summary.done} of {scale.photographs} images are done: {summary.failures[:1]}")
    busy = ", ".join(f"{name} {times.utilisation:.0%} of {times.threads}" for name, times in summary.stages.items())
    events = "".join(f", {n} {name}" for name, n in summary.events.items())
    speed, memory = summary.done / summary.seconds, peak_bytes(scale)
    recipe = find_recipe(STREET)
    images = inputs_of(scale, STREET, recipe.shapes.max_batch)
    with BatchedTorchEngine(recipe, None, scale.device, precision) as engine:
        bare = images_per_second(engine, images, scale)
    yield Row(
        f"fcnseg run {STREET}, {summary.done} JPEGs",
        precision,
        recipe.shapes.max_batch,
        speed,
        memory_bytes=memory,
        remark=f"{speed / bare:.0%} of the bare engine ({bare:.0f}); busy: {busy}{events}",
    )


def alternatives(scale: Scale) -> Rows:
    """Measure what could be written otherwise: convolution with ReLU in one call, kernels chosen by timing."""
    precision, place = scale.precisions[0], torch.device(scale.device)
    dtype, rows, cells = torch_dtype(precision), scale.batches[0], 128 if scale.device == "cuda" else 8
    conv = torch.nn.Conv2d(256, 256, 3, padding=1).to(place, dtype, memory_format=torch.channels_last)
    x = torch.randn(rows, 256, cells, cells, device=place).to(dtype).to(memory_format=torch.channels_last)
    gflop = 2 * 256 * 256 * 9 * cells**2 / 1e9
    functional = torch.nn.functional
    ways: dict[str, Callable[[], Any]] = {
        "apart": lambda: functional.relu(functional.conv2d(x, conv.weight, conv.bias, padding=1), inplace=True)
    }
    if scale.device == "cuda":
        one = [1, 1]
        ways["in one call"] = lambda: torch.cudnn_convolution_relu(x, conv.weight, conv.bias, one, one, one, 1)
    with torch.inference_mode(), exact_arithmetic(place):
        for way, work in ways.items():
            yield Row(f"convolution and ReLU {way}", precision, rows, timed(work, scale) * rows, gflop)
        torch.backends.cudnn.benchmark = True  # exact_arithmetic puts it back
        rate = timed(ways["apart"], scale) * rows
        yield Row("convolution and ReLU apart, kernels by timing", precision, rows, rate, gflop)


Part = Callable[[Scale], Rows]

PARTS: dict[str, tuple[Part, int]] = {
    "machine": (machine, 60),
    "ceiling": (ceiling, 60),
    "torch-voc": (lambda scale: torch_model(scale, VOC), 120),
    "torch-street": (lambda scale: torch_model(scale, STREET), 90),
    "run": (end_to_end, 90),
    "tests": (tests, 150),
    "alternatives": (alternatives, 45),
    "tensorrt-street": (lambda scale: tensorrt_model(scale, STREET), 120),
    "tensorrt-voc": (lambda scale: tensorrt_model(scale, VOC), 240),
}
"""Each part, and the seconds after which it is given up."""


# ---------------------------------------------------------------------- measuring


def note(line: str) -> None:
    """Pass on what an engine says of itself."""
    print(f"# {line}", flush=True)


def inputs_of(scale: Scale, model: str, rows: int) -> dict[str, Pixels]:
    """Return made-up photographs, N x H x W x 3."""
    frames = made_up_frames(find_recipe(model), scale.sizes[model], min(rows, 4))
    return {"color": np.stack([frames[i % len(frames)].inputs["color"] for i in range(rows)])}


@contextmanager
def weights_of(scale: Scale, model: str) -> Iterator[tuple[Recipe, Path | None]]:
    """Give a model's recipe and weights; made-up ones where none are bundled."""
    recipe = find_recipe(model)
    if recipe.bundled:
        yield recipe, None
        return
    if scale.width != 1:
        recipe = replace(recipe, architecture=replace(recipe.architecture, width=scale.width, fc_width=16))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        tensors = {name: torch.from_numpy(values) for name, values in first_gpu.weights_of(recipe).items()}
        save_file(tensors, file, {"recipe": model})
        yield recipe, file


def engine_row(what: str, engine: Any, precision: str, batch: int, images: Mapping[str, Pixels], scale: Scale) -> Row:
    """Measure an engine in batches of a size."""
    begin_memory(scale)
    rate = images_per_second(engine, {m: pixels[:batch] for m, pixels in images.items()}, scale)
    gflop = graphs = None
    if isinstance(engine, BatchedTorchEngine):
        gflop = gflop_of(engine, images, scale)
        graphs = f"{len(engine._replays)} graphs, {engine.graph_bytes / 2**30:.2f} GiB"
    return Row(what, precision, batch, rate, gflop, peak_bytes(scale), graphs or "")


def images_per_second(engine: Any, batch: Mapping[str, Pixels], scale: Scale) -> float:
    """Return the speed of an engine from images to labels in host memory, batches overlapped, after a warm-up."""
    rows = len(next(iter(batch.values())))
    for _ in engine.infer_many(repeat(batch, 5)):
        pass
    results = engine.infer_many(repeat(batch))
    next(results)
    start, seconds, batches = time.perf_counter(), 0.0, 0
    while seconds < scale.seconds:
        next(results)
        seconds, batches = time.perf_counter() - start, batches + 1
    results.close()
    return batches * rows / seconds


def timed(work: Callable[[], Any], scale: Scale) -> float:
    """Return how often a second a device does something, after a warm-up."""
    settle = torch.cuda.synchronize if scale.device == "cuda" else lambda: None
    for _ in range(3):
        work()
    settle()
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < scale.seconds:
        for _ in range(10):
            work()
        settle()
        runs += 10
    return runs / (time.perf_counter() - start)


def gflop_of(engine: BatchedTorchEngine, images: Mapping[str, Pixels], scale: Scale) -> float:
    """Count the operations of the convolutions that are computed for one image, in 10^9."""
    image = torch.from_numpy(images["color"][:1]).to(scale.device)
    with torch.inference_mode(), exact_arithmetic(torch.device(scale.device)):
        engine._opened.scores(image)  # what surrounds it is computed once
        with FlopCounterMode(display=False) as counter:
            engine._opened.scores(image)
    return float(counter.get_total_flops() / 1e9)


def begin_memory(scale: Scale) -> None:
    """Begin to watch the device's memory."""
    if scale.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(scale: Scale) -> int:
    """Return the most memory that torch held on the device since then; on the processor, the process's."""
    return torch.cuda.max_memory_reserved() if scale.device == "cuda" else peak_memory_bytes()


def write_photographs(folder: Path, scale: Scale) -> Path:
    """Write JPEGs; a hundred different ones, the others under further names."""
    folder.mkdir()
    height, width = scale.sizes[STREET]
    grain = np.random.default_rng(1).integers(-8, 8, (height, width, 3))
    smooth = [frame.inputs["color"] for frame in made_up_frames(find_recipe(STREET), (height, width), 10)]
    for number in range(scale.photographs):
        file = folder / f"{number:05}.jpg"
        if number >= 100:
            os.link(folder / f"{number % 100:05}.jpg", file)
            continue
        pixels = np.roll(smooth[number % 10].astype(int) + grain, 7 * number, axis=1).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(file, quality=90)
    return folder


# ---------------------------------------------------------------------- the table


def main(arguments: list[str] | None = None) -> int:
    """Do the parts that are named, or all, and print their table; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, tiny")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not given.rehearse and not torch.cuda.is_available():
        print("skipped: torch finds no CUDA device; --rehearse runs on the processor")
        return 1
    begin, failed, rows = time.monotonic(), False, list[Row]()
    for name in given.parts or PARTS:
        left = TOTAL_SECONDS - (time.monotonic() - begin)
        found, fault = run_apart(name, min(PARTS[name][1], left), rehearse=given.rehearse) if left > 10 else ([], "")
        failed = failed or bool(fault)
        rows += found
        if fault or not found:
            rows.append(Row(name, remark=f"FAILED: {fault}" if fault else "left out: the time is over"))
        print(f"{name}: {fault or 'done'} after {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    print(f"## {datetime.now(UTC):%Y-%m-%d}, `bash benchmarks/gpu.sh{' --rehearse' if given.rehearse else ''}`\n")
    print("\n".join(table(rows)), flush=True)
    return int(failed)


def run_apart(name: str, seconds: float, *, rehearse: bool) -> tuple[list[Row], str]:
    """Do a part in a process of its own; return the rows that it gave in time, and what went wrong."""
    code = "import sys; from benchmarks import gpu; gpu.do(sys.argv[1], rehearse=sys.argv[2] == 'True')"
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([sys.executable, "-c", code, name, str(rehearse)], stdout=out, stderr=err)
        try:
            process.wait(seconds)
            fault = ""
        except subprocess.TimeoutExpired:
            fault = f"not done in {seconds:.0f} s"
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        rows = [read_row(line) for line in out.read().splitlines() if line.startswith(("{", "#"))]
        if process.returncode and not fault:
            last = (err.read().strip().splitlines() or [f"died with {process.returncode}"])[-1]
            fault = " ".join(last.split())
    return rows, fault


def read_row(line: str) -> Row:
    """Return a row that a part printed, or a note of an engine."""
    return Row("note", remark=line[2:]) if line.startswith("#") else Row(**json.loads(line))


def do(name: str, *, rehearse: bool) -> None:
    """Do one part here, and print its rows, one JSON object a line."""
    for row in PARTS[name][0](REHEARSAL if rehearse else FULL):
        print(json.dumps(asdict(row)), flush=True)


def table(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of a table in Markdown. The share is that of the ceiling in the same precision."""
    ceilings = {row.precision: row.rate for row in rows if row.what.startswith("ceiling") and row.rate}
    yield "| what | precision | batch | images/s | TFLOP/s | of the ceiling | device memory, GiB | |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        gflops = row.rate * row.gflop if row.rate and row.gflop else None
        if row.what.startswith("ceiling"):
            gflops = row.rate
        most = ceilings.get(row.precision)
        cells = (
            row.what,
            row.precision,
            row.batch or "",
            f"{row.rate:.1f}" if row.rate and not row.what.startswith("ceiling") else "",
            f"{gflops / 1000:.2f}" if gflops else "",
            f"{gflops / most:.0%}" if gflops and most else "",
            f"{row.memory_bytes / 2**30:.2f}" if row.memory_bytes else "",
            row.remark.replace("|", "/"),
        )
        yield "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
