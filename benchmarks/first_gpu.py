"""The first ten minutes of TensorRT on a GPU: a line for each thing that may go wrong or that has not been measured.

Each step is a process of its own with a limit of time: one that fails or dies says so in its line, and the rest goes
on. From the project's root: `python -m benchmarks.first_gpu [STEP ...]`, or through `benchmarks.bare` on a machine with
torch, onnx and little else. Models have their real size; voc-fcn8s has made-up weights. TensorRT is used if it is here,
else TensorRT-RTX. Without a GPU the first two steps say what is missing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import torch

from fcnseg.engine.bench_frames import made_up_frames
from fcnseg.engine.calibration import sample_images
from fcnseg.engine.graph import PLAIN, GraphForm, write_graph
from fcnseg.engine.hardware import cuda_of_driver, torch_gpus
from fcnseg.engine.precision import measure_ranges, quantize, with_headroom
from fcnseg.engine.record import kernel_file
from fcnseg.engine.runtimes.pytorch import TorchEngine
from fcnseg.engine.runtimes.tensorrt.engine import TensorRTEngine
from fcnseg.engine.runtimes.tensorrt.library import check_library, load_library, serves
from fcnseg.engine.runtimes.tensorrt.measure import has_gpu, image_seconds
from fcnseg.engine.runtimes.tensorrt.packages import MODULES, package_for
from fcnseg.engine.runtimes.tensorrt.plan import Plan, build_plan
from fcnseg.errors import FcnsegError, TooLargeError
from fcnseg.io.hashing import file_sha256
from fcnseg.models import network_spec
from fcnseg.models.layers import weight_shapes
from fcnseg.recipes import Recipe, Shapes, find_recipe
from fcnseg.running.predictor import Predictor
from fcnseg.types import EngineInfo, Frame, Pixels
from fcnseg.weights.loading import load_whole_model

STREET, VOC = "street-fcn8s", "voc-fcn8s"
SMALL, LARGE = Shapes((1, 1), (120, 160), (240, 320), 4), Shapes((200, 200), (360, 480), (720, 960), 8)


class Skipped(Exception):  # noqa: N818 - no error
    """A step that cannot be done here, and why."""


def library() -> str:
    """Return the library to try: TensorRT where it is, else TensorRT-RTX."""
    here = [name for name, (module, _) in MODULES.items() if find_spec(module)]
    if not here:
        raise Skipped(f"neither TensorRT nor TensorRT-RTX is installed; pip install {package_for('tensorrt')}")
    if not has_gpu():
        raise Skipped("torch finds no CUDA device")
    if not serves(here[0], capability := torch_gpus()[0].capability):
        raise Skipped(f"{here[0]} does not serve SM {capability}; pip install {package_for('tensorrt')}")
    return here[0]


# ---------------------------------------------------------------------- plans and engines


def weights_of(recipe: Recipe) -> dict[str, np.ndarray]:
    """Return a model's weights; where none are bundled, repeated noise of the spread that keeps features in range."""
    if recipe.bundled:
        return dict(load_whole_model(recipe, None).tensors)
    noise = np.random.default_rng(0).standard_normal(9973).astype(np.float32)
    shapes = weight_shapes(network_spec(recipe)).items()
    return {n: np.resize(noise * (2 / max(1, prod(shape[1:]))) ** 0.5, shape) for n, shape in shapes}


def plan_of(
    folder: Path, model: str, precision: str, form: GraphForm = PLAIN, shapes: Sequence[Shapes] = (), *, name: str = ""
) -> Plan:
    """Build a plan of a model."""
    name = name or library()  # before anything that takes time
    recipe, file = find_recipe(model), folder / "graph.onnx"
    weights = weights_of(recipe)
    if precision == "fp16":
        weights = with_headroom(weights, network_spec(recipe))
    stated = "fp32" if precision == "int8" else precision
    write_graph(file, recipe, weights, form=form, precision=stated, separate_weights=precision != "int8")
    if precision == "int8":
        graph = onnx.load(file)
        images = [{m: pixels[None] for m, pixels in sample_images(recipe).inputs[0].items()}]
        onnx.save(quantize(graph, measure_ranges(graph, images)), file, save_as_external_data=True)
    return build_plan(file, name, list(shapes) or [recipe.shapes], outputs=["labels"])


@contextmanager
def engine_of(folder: Path, plan: Plan, model: str, name: str = "", **versions: str) -> Iterator[TensorRTEngine]:
    """Open an engine of a plan."""
    recipe, file = find_recipe(model), folder / "plan"
    file.write_bytes(plan.content)
    heads = {head.name: head.labels for head in recipe.heads}
    info = EngineInfo(name or library(), "this GPU", "", recipe.name, "", heads, recipe.modalities, versions)
    with TensorRTEngine(recipe, file, info, sha256=file_sha256(file)) as engine:
        yield engine


def photograph(rows: int = 1) -> dict[str, Pixels]:
    """Return one of the photographs that come with fcnseg, as a batch."""
    pixels = sample_images(find_recipe(STREET)).inputs[0]["color"]
    return {"color": np.repeat(pixels[None], rows, axis=0)}


def speeds(plan: Plan, model: str) -> str:
    """Return the images a second of full batches and of single images, without copies."""
    recipe = find_recipe(model)
    full = recipe.shapes
    single = Shapes(full.smallest, full.typical, full.largest, 1)
    rates = [1 / image_seconds(library(), plan, recipe, shapes) for shapes in (full, single)]
    return f"{rates[0]:.0f} images/s in batches of {full.max_batch}, {rates[1]:.0f} alone"


# ---------------------------------------------------------------------- the steps


def versions(_: Path) -> str:
    """Versions, driver, GPU."""
    driver = cuda_of_driver()
    gpus = [f"{gpu.name} (SM {gpu.capability}, {gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in torch_gpus()]
    found = {name: load_library(name).version for name, (module, _) in MODULES.items() if find_spec(module)}
    return (
        f"Python {sys.version.split()[0]}, torch {torch.__version__} (CUDA {torch.version.cuda}), onnx "
        f"{onnx.__version__}, {found or 'no TensorRT'}; driver for CUDA {'.'.join(map(str, driver or ('none',)))}; "
        f"{', '.join(gpus) or 'no GPU'}"
    )


def starting(_: Path) -> str:
    """Builder and Runtime alone."""
    said = []
    for name, (module, _title) in MODULES.items():
        if find_spec(module):
            try:
                check_library(name)
                said.append(f"{name} starts")
            except FcnsegError as error:
                said.append(str(error))
    return "; ".join(said) or "nothing to start"


def street(folder: Path) -> str:
    """street-fcn8s in fp16: built, loaded, one pixel, one photograph against torch."""
    start = time.perf_counter()
    plan = plan_of(folder, STREET, "fp16")
    built = time.perf_counter() - start
    with engine_of(folder, plan, STREET) as engine, TorchEngine(engine.recipe, None, "cuda") as network:
        pixel = engine.infer({"color": np.zeros((1, 1, 1, 3), np.uint8)})[0]["labels"]
        found, expected = engine.infer(photograph())[0]["labels"], network.infer(photograph())[0]["labels"]
    agree = (found == expected).mean()
    return f"built in {built:.1f} s, 1 x 1 gives class {pixel.item()}, {agree:.4%} of a photograph as torch's fp32"


def voc(folder: Path, *, form: GraphForm = PLAIN, precision: str = "fp16") -> str:
    """voc-fcn8s: build, planned memory, speed."""
    start = time.perf_counter()
    plan = plan_of(folder, VOC, precision, form)
    built = time.perf_counter() - start
    planned = "memory planned" if plan.is_static else "memory allocated while it runs"
    with engine_of(folder, plan, VOC) as engine:
        needed = []
        for rows, height, width in ((1, 375, 500), (8, 375, 500), (8, 1024, 1024)):
            try:
                engine.infer({"color": np.zeros((rows, height, width, 3), np.uint8)})
                scratch = engine._session._scratch  # type: ignore[union-attr]
                needed.append(f"{0 if scratch is None else scratch.numel() / 2**30:.2f}")
            except TooLargeError:
                needed.append("too much")
    return f"{form}: built in {built:.0f} s, {planned}, {' / '.join(needed)} GiB at 1 and 8 of 500x375 and 8 of " + (
        f"1024x1024, {speeds(plan, VOC)}"
    )


def layers(folder: Path) -> str:
    """The layers of voc-fcn8s in fp16 without margins: what share of the time each kind takes."""
    name = library()
    plan = plan_of(folder, VOC, "fp16", GraphForm())
    module, milliseconds = load_library(name).module, dict[str, float]()

    class Profiler(module.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            milliseconds[layer_name] = milliseconds.get(layer_name, 0.0) + ms

    profiler = Profiler()
    with engine_of(folder, plan, VOC) as engine:
        inputs = {"color": np.zeros((8, 375, 500, 3), np.uint8)}
        engine.infer(inputs)
        engine._session._context.profiler = profiler  # type: ignore[union-attr]
        for _ in range(5):
            engine.infer(inputs)
    total = sum(milliseconds.values())
    kinds = {"deconvolutions": "upscore", "arg-max": "topk", "pads": "pad", "blank image": "blank", "fc6": "fc6"}
    shares = {kind: sum(ms for n, ms in milliseconds.items() if word in n.lower()) for kind, word in kinds.items()}
    slowest = sorted(milliseconds, key=milliseconds.__getitem__, reverse=True)[:5]
    return (
        f"{total / 5:.1f} ms a batch of 8; "
        + ", ".join(f"{kind} {share / total:.0%}" for kind, share in shares.items())
        + "; slowest: "
        + ", ".join(f"{layer[:60]} {milliseconds[layer] / total:.0%}" for layer in slowest)
    )


def in_flight(folder: Path) -> str:
    """Two profiles, two batches in flight, the same bits again, company, tiles."""
    plan = plan_of(folder, STREET, "fp16", shapes=[SMALL, LARGE])
    recipe, random = find_recipe(STREET), np.random.default_rng(0)
    sizes = [(1 + i % 4, (100, 300, 101, 700)[i % 4], 200 + 10 * i) for i in range(12)]
    batches = [{"color": random.integers(0, 256, (*size, 3), dtype=np.uint8)} for size in sizes]
    frame = Frame("a", "a", made_up_frames(recipe, (1500, 2100), 1)[0].inputs)
    with engine_of(folder, plan, STREET) as engine, TorchEngine(recipe, None, "cuda") as network:
        runs = [[labels["labels"] for labels, _ in engine.infer_many(batches)] for _ in range(3)]
        repeats = all(np.array_equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))
        alone = [engine.infer({"color": batch["color"][:1]})[0]["labels"] for batch in batches]
        company = np.mean([(a == b[:1]).mean() for a, b in zip(alone, runs[0], strict=True)])
        tiled = Predictor(engine, recipe).one(frame).labels["labels"]
        whole = network.infer({"color": frame.inputs["color"][None]})[0]["labels"][0]
    return (
        f"three runs of 12 batches {'are equal' if repeats else 'DIFFER'}, {company:.4%} alike alone and in a batch, "
        f"{(tiled == whole).mean():.4%} of a tiled image as torch's fp32 of the whole"
    )


def full_memory(folder: Path) -> str:
    """A GPU whose memory is full: a lack of it is one batch's problem."""
    plan = plan_of(folder, VOC, "fp16")
    recipe = find_recipe(VOC)
    frames = [Frame(str(i), str(i), f.inputs) for i, f in enumerate(made_up_frames(recipe, (800, 1000), 8))]
    with engine_of(folder, plan, VOC) as engine:
        expected = [p.labels["labels"] for _, p in Predictor(engine, recipe).stream([[frame] for frame in frames])]
        predictor = Predictor(engine, recipe)
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        filling = torch.empty(max(0, free - int(1.5 * 2**30)), dtype=torch.uint8, device="cuda")
        results = [result for _, result in predictor.stream([frames])]
        del filling
    errors = [result for result in results if isinstance(result, FcnsegError)]
    same = [np.array_equal(r.labels["labels"], e) for r, e in zip(results, expected, strict=True) if r not in errors]
    said = ", ".join(f"{count} {event}" for event, count in predictor.events.items()) or "in one batch"
    return f"8 images of 1000x800 with 1.5 GiB left: {sum(same)} with the same labels, {len(errors)} failed, {said}"


def rtx_kernels(folder: Path) -> str:
    """TensorRT-RTX: strategies for new shapes, and the start with and without kept kernels."""
    name = "tensorrt-rtx"
    library()
    if not find_spec(MODULES[name][0]):
        raise Skipped("TensorRT-RTX is not installed")
    if not serves(name, torch_gpus()[0].capability):
        raise Skipped(f"TensorRT-RTX does not serve SM {torch_gpus()[0].capability}")
    plan, said = plan_of(folder, STREET, "fp16", name=name), []
    for strategy in ("none", "eager", "lazy"):
        kernel_file(folder / "plan").unlink(missing_ok=True)
        starts, first, later, same = [], 0.0, 0.0, True
        for _ in range(2):
            begin = time.perf_counter()
            with engine_of(folder, plan, STREET, name, kernels=strategy) as engine:
                labels = engine.infer(photograph(8))[0]["labels"]
                starts.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                engine.infer({"color": photograph(8)["color"][:, :-3, :-5]})
                first = time.perf_counter() - begin
                seconds = []
                for _ in range(20):
                    begin = time.perf_counter()
                    same = same and np.array_equal(engine.infer(photograph(8))[0]["labels"], labels)
                    seconds.append(time.perf_counter() - begin)
                later = median(seconds)
        said.append(
            f"{strategy}: start {starts[0]:.2f} s, with its kernels {starts[1]:.2f} s, new size {first * 1e3:.0f} ms, "
            f"then {later * 1e3:.1f} ms a batch, labels {'stay' if same else 'CHANGE'}"
        )
    return "; ".join(said)


STEPS: dict[str, tuple[Callable[[Path], str], int]] = {
    "versions": (versions, 120),
    "start": (starting, 120),
    "street fp16": (street, 90),
    "voc fp16 plain": (voc, 120),
    "voc fp16 without margins": (partial(voc, form=GraphForm()), 120),
    "voc fp16 subpixel": (partial(voc, form=GraphForm(subpixel=True)), 120),
    "voc fp16 classes last": (partial(voc, form=GraphForm(classes_last=True)), 120),
    "layers": (layers, 120),
    "voc bf16": (partial(voc, precision="bf16"), 120),
    "voc int8": (partial(voc, precision="int8"), 120),
    "in flight": (in_flight, 90),
    "full memory": (full_memory, 120),
    "rtx kernels": (rtx_kernels, 120),
}
"""Each step, and the seconds after which it is given up."""

TOTAL_SECONDS = 480
"""What is not begun by then is left out: GPUs are lent for minutes."""


def main() -> int:
    """Do the steps that are named, or all; return 1 if one failed."""
    chosen = sys.argv[1:] or list(STEPS)
    if unknown := set(chosen) - set(STEPS):
        raise SystemExit(f"no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    begin, failed = time.monotonic(), False
    for name in chosen:
        left = TOTAL_SECONDS - (time.monotonic() - begin)
        line, well = run_apart(name, min(STEPS[name][1], left)) if left > 5 else ("left out: the time is over", True)
        failed = failed or not well
        print(f"{name}: {line}", flush=True)
    return int(failed)


def run_apart(name: str, seconds: float) -> tuple[str, bool]:
    """Do a step in a process of its own; return its line, and whether it went well."""
    begin = time.monotonic()
    code = "import sys; from benchmarks import first_gpu; first_gpu.do(sys.argv[1])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"FAILED: not done in {seconds:.0f} s", False
    took = f" [{time.monotonic() - begin:.0f} s]"
    if done.returncode == 0:
        return done.stdout.strip() + took, True
    last = (done.stderr.strip().splitlines() or [f"died with {done.returncode}"])[-1]
    return f"FAILED: {last}{took}", False


def do(name: str) -> None:
    """Do one step here, and print what it found."""
    step: Any = STEPS[name][0]
    with tempfile.TemporaryDirectory() as folder:
        try:
            print(" ".join(step(Path(folder)).split()))
        except Skipped as reason:
            print(f"skipped: {reason}")


if __name__ == "__main__":
    sys.exit(main())
