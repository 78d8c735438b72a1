"""`fcnseg bench`: engines side by side on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnseg.cli.console import err, out, shown
from fcnseg.cli.options import AsJson, Calibrate, Depth, Device, Hha, Model, Quiet, Weights, companions_of
from fcnseg.cli.progress import counted_progress, interruptible
from fcnseg.recipes import DEFAULT_MODEL

if TYPE_CHECKING:
    from fcnseg.engine.bench import BenchResult
    from fcnseg.engine.bench_worker import Candidate
    from fcnseg.recipes import Recipe
    from fcnseg.types import Engine, Frame

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@interruptible()
def bench(
    source: Annotated[
        Path | None,
        typer.Argument(help="A folder of images, an image, or a .txt list.", show_default="made-up photographs"),
    ] = None,
    model: Model = DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = "auto",
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="BACKEND[:PRECISION],...",
            help="torch, openvino, tensorrt, tensorrt-rtx or opencv, each with fp32, bf16, fp16 or int8.",
            show_default="all that run here",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Size of the made-up photographs; images of SOURCE keep theirs.")
    ] = "500x375",
    images: Annotated[int, typer.Option(min=1, help="How many images; of a SOURCE with more, evenly spaced ones.")] = 4,
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds; each engine sees every image once a round.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images a call, of one size.")] = 1,
    calibrate: Calibrate = None,
    depth: Depth = None,
    hha: Hha = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw the speeds as a chart.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure engines side by side: speed, memory, and how far their labels are those of torch in fp32.

    Every engine runs in a process of its own and they take turns, round by round, so that whatever else the machine
    does slows all of them. Engines are built first where needed; building is not timed, and neither are two rounds
    to warm up.

    \b
    images/s  images of the median round
    speed     times the speed of OpenCV (of the first engine, where OpenCV is not measured)
    median    milliseconds of one call: half of them take longer; p95: one in twenty does
    memory    the most its process ever held
    load      seconds to open the finished engine, its libraries imported already
    labels    pixels that get the label torch gives them in fp32
    GFLOP/s   arithmetic done, and its share of what a large matrix product reaches
              here in the same precision

    Without --engines everything that runs here is measured; int8 only with --calibrate DIR. An engine that cannot
    run is named with the reason, the others go on, and the exit code is then 3.

    \b
    Examples:
      fcnseg bench
      fcnseg bench photos/ --model voc-fcn8s --calibrate photos/
      fcnseg bench --engines opencv,torch:fp32,openvino:bf16 --size 640x480
      fcnseg bench --json --plot speeds.png > speeds.json
    """
    from fcnseg.engine.bench import BenchOptions
    from fcnseg.engine.bench_worker import Workload
    from fcnseg.engine.sizes import parse_size
    from fcnseg.recipes import find_recipe

    recipe = find_recipe(model)
    height_width = parse_size(size)
    if plot:
        _check_plot(plot)
    companions = companions_of(depth, hha)
    candidates = _candidates(engines, recipe, device, calibrated=calibrate is not None)
    frames, broken = _frames(source, recipe, companions, images, height_width)
    opener = partial(open_candidate, model, weights, device, calibrate, companions)
    workload = Workload(recipe, tuple(frames), opener, device)
    result = _measure(candidates, workload, BenchOptions(repeat, batch_size), quiet)
    code = 3 if broken or len(result.measured) < len(result.rows) else 0
    if as_json:
        out().print_json(json.dumps(_document(result, code)), ensure_ascii=True)
    else:
        _print(result)
    if plot:
        _draw(result, plot)
    raise typer.Exit(code)


def open_candidate(
    model: str,
    weights: Path | None,
    device: str,
    calibrate: Path | None,
    companions: dict[str, Path],
    candidate: Candidate,
) -> Engine:
    """The engine of a candidate, in whichever process calls this."""
    from fcnseg.recipes import find_recipe

    if candidate.backend == "opencv":
        from fcnseg.engine.opencv import OpenCvEngine

        return OpenCvEngine(find_recipe(model), weights, candidate.precision)
    from fcnseg.engine.open import engine_from
    from fcnseg.engine.options import EngineOptions

    if candidate.backend == "openvino":
        device = "auto"  # it has the processor alone, also where torch is given a GPU
    options = EngineOptions(model, weights, candidate.backend, device, candidate.precision, calibrate=calibrate)
    return engine_from(options, companions=companions, require_verified=False)


def _candidates(engines: str | None, recipe: Recipe, device: str, *, calibrated: bool) -> list[Candidate]:
    """What to measure; raises SettingsError for names that do not exist."""
    from fcnseg.engine.bench_worker import Candidate
    from fcnseg.engine.hardware import runnable
    from fcnseg.errors import SettingsError

    known = ("opencv", "torch", "openvino", "tensorrt", "tensorrt-rtx")
    if engines is None:
        skipped = set() if recipe.modalities == ("color",) else {"opencv"}
        found = runnable(device)
        precisions = [p for p in PRECISIONS if p != "int8" or calibrated]
        return [Candidate(b, p) for b in known if b not in skipped for p in precisions if p in found.get(b, ())]
    chosen, faults = [], []
    for text in filter(None, (part.strip() for part in engines.split(","))):
        backend, colon, precision = text.partition(":")
        if backend not in known or (colon and precision not in PRECISIONS):
            faults.append(text)
        elif colon or backend == "opencv":
            chosen.append(Candidate(backend, precision or "fp32"))
        else:
            chosen += [Candidate(backend, p) for p in runnable(device).get(backend, ("fp32",))]
    if faults or not chosen:
        raise SettingsError(
            f"--engines does not know {', '.join(faults) or 'nothing'}; write BACKEND or BACKEND:PRECISION with "
            f"{', '.join(known)} and {', '.join(PRECISIONS)}"
        )
    return chosen


def _frames(
    source: Path | None, recipe: Recipe, companions: dict[str, Path], count: int, size: tuple[int, int]
) -> tuple[list[Frame], int]:
    """The images, and how many could not be read (each is said on standard error)."""
    from fcnseg.engine.bench import made_up_frames
    from fcnseg.errors import ImageError
    from fcnseg.io.sources import open_source
    from fcnseg.types import Failure

    if source is None:
        return made_up_frames(recipe, size, count), 0
    files = open_source(source, recipe.modalities, companions)
    listed = list(files)
    count = min(count, len(listed))
    frames: list[Frame] = []
    for found in (listed[i * len(listed) // count] for i in range(count)):
        try:
            if isinstance(found, Failure):
                raise ImageError(found.reason)
            frames.append(files.load(found))
        except ImageError as error:
            err().print(f"fcnseg: failed: {shown(found.key)}: {error}", markup=False)
    return frames, count - len(frames)


def _measure(candidates: list[Candidate], workload: Any, options: Any, quiet: bool) -> BenchResult:
    from fcnseg.engine.bench import bench as measure

    with counted_progress("starting", quiet) as on_progress:
        return measure(candidates, workload, options, on_progress)


# ---------------------------------------------------------------------- what is shown


def _machine_line() -> str:
    from fcnseg.engine.hardware import cpu_name, usable_cores

    cores = usable_cores()
    return f"{cpu_name()}, {cores} core{'s' if cores > 1 else ''}"


def _document(result: BenchResult, code: int) -> dict[str, Any]:
    from fcnseg.engine.bench import CEILING

    return {"machine": _machine_line(), **asdict(result), "ceiling": CEILING, "exit_code": code}


def _summary(result: BenchResult) -> str:
    sizes = ", ".join(f"{count} of {size} px" for size, count in result.sizes.items())
    work = f", {result.gflop_per_image:.1f} GFLOP an image" if result.gflop_per_image else ""
    return f"{result.model}, images: {sizes}{work}, batch {result.options.batch_size}, {result.options.repeat} rounds"


def _print(result: BenchResult) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("engine", no_wrap=True)
    for name in ("images/s", "speed", "median", "p95", "memory", "load", "labels", "GFLOP/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.measured:
        f = row.figures
        assert f is not None  # measured rows have them
        share = f" ({f.ceiling_share:.0%})" if f.ceiling_share is not None else ""
        table.add_row(
            f"{row.backend}:{row.precision}",
            f"{f.images_per_second:.2f}",
            f"{f.speed_ratio:.2f}x",
            f"{1000 * f.latency_median_seconds:.0f} ms",
            f"{1000 * f.latency_p95_seconds:.0f} ms",
            f"{f.peak_memory_bytes / 2**30:.2f} GiB",
            f"{f.load_seconds:.2f} s",
            "" if f.agreement is None else f"{100 * f.agreement:.3f} %",
            "" if f.gflops is None else f"{f.gflops:.0f}{share}",
        )
    out().print(_machine_line(), markup=False)
    out().print(_summary(result), markup=False)
    out().width = max(out().width, 120)  # rather wrapped by a narrow terminal than cut short
    out().print(table)
    for row in result.rows:
        if row.failure:
            out().print(f"{row.backend}:{row.precision}  not measured: {row.failure}", markup=False)
    if result.reference_failure:
        out().print(f"labels were not compared: torch in fp32 failed: {result.reference_failure}", markup=False)
    ceilings = ", ".join(f"{p} {value:.0f}" for p, value in result.ceilings_gflops.items())
    if ceilings:
        out().print(f"matrix products reach {ceilings} GFLOP/s; speed is relative to {result.peer}", markup=False)


def _check_plot(path: Path) -> None:
    """Find out before measuring, not after, that a chart cannot be drawn."""
    from importlib.util import find_spec

    from fcnseg.errors import EngineError, SettingsError

    if path.suffix.lower() != ".png":
        raise SettingsError(f"--plot writes PNG, not {path.name!r}; give it a name that ends in .png")
    if find_spec("matplotlib") is None:
        raise EngineError("--plot needs matplotlib; `pip install matplotlib` installs it")


def _draw(result: BenchResult, path: Path) -> None:
    """A bar an engine: its speed, and at the bar's end the figures that go with it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fcnseg.io.atomic import whole_file

    rows = [(row, row.figures) for row in reversed(result.measured) if row.figures]
    figure = Figure(figsize=(8.5, 1.6 + 0.42 * len(rows)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    speeds = [f.images_per_second for _, f in rows]
    names = [f"{row.backend} {row.precision}" for row, _ in rows]
    colors = ["#8c8c8c" if f"{row.backend}:{row.precision}" == result.peer else "#2f6f9f" for row, _ in rows]
    bars = axes.barh(names, speeds, color=colors, height=0.68)
    notes = [
        f"{f.images_per_second:.3g}/s  {f.speed_ratio:.2f}x"
        + ("" if f.agreement is None else f"  labels {100 * f.agreement:.2f} %")
        for _, f in rows
    ]
    axes.bar_label(bars, notes, padding=5, fontsize=8.5)
    axes.set_xlim(0, 1.45 * max(speeds))  # room for the notes
    axes.set_xlabel(f"images per second; the grey bar is {result.peer}, which 1.00x refers to")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.suptitle(f"{_summary(result)}\n{_machine_line()}", fontsize=9.5, x=0.01, ha="left")
    with whole_file(path) as file:
        FigureCanvasAgg(figure).print_figure(file, format="png")
