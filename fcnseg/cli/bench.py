"""`fcnseg bench`: engines side by side on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.completion import complete_engines
from fcnseg.cli.console import out, say_failed
from fcnseg.cli.options import (
    AsJson,
    Calibrate,
    Depth,
    Device,
    Hha,
    JsonLogs,
    Model,
    Quiet,
    Verbose,
    Weights,
    companions_of,
)
from fcnseg.cli.progress import counted_progress, interruptible
from fcnseg.engine.options import BACKENDS, PRECISIONS
from fcnseg.errors import SettingsError
from fcnseg.recipes import DEFAULT_MODEL, find_recipe

if TYPE_CHECKING:
    from fcnseg.engine.bench import BenchResult
    from fcnseg.types import Failure


WIDE = 100
"""The columns from which there is more room between those of the table."""


@interruptible()
def bench(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE", help="A folder of images, an image, or a .txt list.", show_default="made-up photographs"
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = "auto",
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="BACKEND[:PRECISION],...",
            autocompletion=complete_engines,
            help="torch, openvino, tensorrt or tensorrt-rtx, each with fp32, bf16, fp16 or int8.",
            show_default="all that run here",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Size of the made-up photographs; images of SOURCE keep theirs.")
    ] = "500x375",
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many images; of a SOURCE with more, evenly spaced ones.")
    ] = 4,
    repeat: Annotated[
        int, typer.Option(min=1, metavar="N", help="Timed rounds; each engine sees every image once a round.")
    ] = 5,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, metavar="N", help="Images a call, of one size.")
    ] = 1,
    calibrate: Calibrate = None,
    depth: Depth = None,
    hha: Hha = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
) -> None:
    """Measure engines side by side: speed, memory, and how far their labels are those of torch in fp32.

    Every engine runs in a process of its own and they take turns, round by round, so that other load on the machine
    slows all of them. Engines are built first where needed; building is not timed, and neither are two rounds
    to warm up.

    \b
    images/s  images of the median round
    speed     times the speed of the first engine that was measured
    median    milliseconds of one call: half of them take longer;
              p95: one in twenty does
    memory    the most its process ever held
    load      seconds to open the finished engine, its libraries imported already
    labels    pixels that get the label of the network in fp32
    GFLOP/s   arithmetic done, and its share of what a large matrix product
              reaches here in the same precision

    Without --engines everything that runs here is measured; int8 only with --calibrate DIR. An engine that cannot
    run is named with the reason, the others go on, and the exit code is then 3.

    \b
    Examples:
      fcnseg bench
      fcnseg bench photos/ --model voc-fcn8s --calibrate photos/
      fcnseg bench --engines torch:fp32,openvino:bf16 --size 640x480
      fcnseg bench --json > speeds.json
    """
    from fcnseg.engine.bench import CEILING, BenchOptions
    from fcnseg.engine.bench import bench as measure
    from fcnseg.engine.bench_frames import made_up_frames, sample_frames
    from fcnseg.engine.bench_session import Candidate, Workload, open_candidate
    from fcnseg.engine.hardware import cpu_name
    from fcnseg.engine.machine import runnable
    from fcnseg.engine.sizes import parse_size
    from fcnseg.io.sources import open_source
    from fcnseg.workers.limits import usable_cores

    recipe = find_recipe(model)
    height_width = parse_size(size)
    companions = companions_of(depth, hha)
    names = engine_names(engines, partial(runnable, device), calibrated=calibrate is not None)
    failures: list[Failure] = []
    if source is None:
        frames = made_up_frames(recipe, height_width, images)
    else:
        with closing(open_source(source, recipe.modalities, companions)) as files:
            frames, failures = sample_frames(files, images)
    for failure in failures:
        say_failed(failure)
    opener = partial(open_candidate, model, weights, device, calibrate, companions, batch=batch_size)
    with counted_progress("starting", quiet, verbose) as on_step:
        result = measure(
            [Candidate(*name) for name in names],
            Workload(recipe, tuple(frames), opener, device),
            BenchOptions(repeat, batch_size),
            on_step,
        )
    code = 3 if failures or len(result.measured) < len(result.rows) else 0
    cores = usable_cores()
    machine = f"{cpu_name()}, {cores} core{'s' if cores > 1 else ''}"
    if as_json:
        document = {"machine": machine, **asdict(result), "ceiling": CEILING, "exit_code": code}
        out().print_json(json.dumps(document), ensure_ascii=True)
    else:
        _print(result, machine)
    raise typer.Exit(code)


def engine_names(
    engines: str | None, runnable: Callable[[], Mapping[str, tuple[str, ...]]], *, calibrated: bool
) -> list[tuple[str, str]]:
    """Return the backends and precisions that --engines names, or all that are `runnable` without it.

    Raises SettingsError for unknown names.
    """
    if engines is None:
        here = runnable()
        precisions = [p for p in PRECISIONS if p != "int8" or calibrated]
        return [(b, p) for b in BACKENDS for p in precisions if p in here.get(b, ())]
    names, unknown = list[tuple[str, str]](), []
    for text in filter(None, (part.strip() for part in engines.split(","))):
        backend, colon, precision = text.partition(":")
        if backend not in BACKENDS or (colon and precision not in PRECISIONS):
            unknown.append(text)
        elif colon:
            names.append((backend, precision))
        else:
            names += [(backend, p) for p in runnable().get(backend, ("fp32",))]
    if unknown or not names:
        raise SettingsError(
            f"--engines does not know {', '.join(unknown) or 'nothing'}; write BACKEND or BACKEND:PRECISION with "
            f"{', '.join(BACKENDS)} and {', '.join(PRECISIONS)}"
        )
    return names


def _print(result: BenchResult, machine: str) -> None:
    from rich.table import Table

    narrow = out().width < WIDE
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0) if narrow else (0, 1))
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
    out().print(machine, markup=False)
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
        out().print(f"the fastest arithmetic here reaches {ceilings} GFLOP/s", markup=False)
    out().print(f"speed is relative to {result.peer}", markup=False)


def _summary(result: BenchResult) -> str:
    sizes = ", ".join(f"{count} of {size} px" for size, count in result.sizes.items())
    repeat = result.options.repeat
    rounds = f"{repeat} round{'s' if repeat > 1 else ''}"
    work = f", {result.gflop_per_image:.1f} GFLOP an image" if result.gflop_per_image else ""
    return f"{result.model}, images: {sizes}{work}, batch {result.options.batch_size}, {rounds}"
