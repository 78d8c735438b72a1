"""`fcnseg run`: label maps for a folder, an image, or a list of images."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnseg.cli.building import build_display, described
from fcnseg.cli.console import err, out, shown
from fcnseg.cli.options import Backend, Calibrate, Device, Precision, Quiet, Weights

if TYPE_CHECKING:
    from fcnseg.types import EngineInfo, Failure, Summary

FAILURES_SHOWN = 20


def run(
    source: Annotated[
        Path, typer.Argument(help="A folder (searched through), an image, or a .txt file with one path a line.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the label maps; made if needed.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A name that `fcnseg models` lists, or a recipe FILE.toml.",
            show_default="street-fcn8s, or the engine's",
        ),
    ] = None,
    weights: Weights = None,
    engine: Annotated[
        Path | None, typer.Option(help="Run this engine, that `fcnseg build-engine --out` wrote here.")
    ] = None,
    depth: Annotated[Path | None, typer.Option(help="Folder of depth images, for models that take them.")] = None,
    hha: Annotated[Path | None, typer.Option(help="Folder of HHA images, for models that take them.")] = None,
    glob: Annotated[str | None, typer.Option(help="Only images whose path or name matches, e.g. '*.jpg'.")] = None,
    save_probabilities: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write class probabilities, K x H x W, as .npy files.")
    ] = None,
    probabilities_dtype: Annotated[str, typer.Option(metavar="float16|float32", help="Their number type.")] = "float16",
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    calibrate: Calibrate = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-j", min=1, help="Threads that decode images.", show_default="one a core"),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse larger images (decompression bombs).", show_default="178956970")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that no run of fcnseg made.")] = False,
    quiet: Quiet = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv adds tracebacks.", show_default=False)
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")] = False,
) -> None:
    """Write one label map for each image of SOURCE.

    Label maps are indexed PNGs: the value of a pixel is its class, shown in the model's colours. They have the
    image's own size and lie in a mirrored tree: photos/a/b.jpg gives masks/a/b.png. Images are taken upright.
    An image that cannot be read is reported and the rest is done; the exit code is then 3.

    \b
    Examples:
      fcnseg run photos/ --out masks/
      fcnseg run photos/ --out masks/ --model voc-fcn8s \\
        --weights fcn8s-heavy-pascal.caffemodel
    """
    from fcnseg.api import RunOptions
    from fcnseg.deploy import DEFAULT_MODEL, EngineOptions
    from fcnseg.engine.opening import model_of

    if model is None:
        model = model_of(engine) if engine else DEFAULT_MODEL
    companions = {name: folder for name, folder in (("depth", depth), ("hha", hha)) if folder is not None}
    options = RunOptions(
        source=source,
        out=out,
        engine=EngineOptions(model, weights, backend, device, precision, engine, calibrate),
        companions=companions,
        glob=glob,
        probabilities=save_probabilities,
        probabilities_dtype=probabilities_dtype,
        workers=workers,
        max_pixels=max_pixels,
        overwrite=overwrite,
    )
    summary = _run_with_progress(options, quiet, verbose)
    _report(summary, options, quiet, as_json)
    raise typer.Exit(summary.exit_code)


def _run_with_progress(options: Any, quiet: bool, verbose: int) -> Summary:
    from fcnseg.api import Hooks
    from fcnseg.api import run as run_folder

    failed = 0
    with ExitStack() as display:
        building = display.enter_context(ExitStack())
        hooks = building.enter_context(build_display(quiet))
        bar = None if quiet else _progress()

        def on_start(total: int, info: EngineInfo) -> None:
            building.close()
            if verbose:
                err().print(f"engine {info.file or info.device}; {dict(info.versions)}", markup=False)
            if bar:
                err().print(described(info), markup=False)
                display.enter_context(bar)
                bar.add_task("segmenting", total=total)

        def on_result(key: str, failure: Failure | None) -> None:
            nonlocal failed
            if failure:
                failed += 1
                if failed <= FAILURES_SHOWN:
                    err().print(f"fcnseg: failed: {shown(key)}: {failure.reason}", markup=False)
            if bar:
                bar.advance(bar.task_ids[0])

        return run_folder(options, Hooks(hooks, on_start, on_result))


def _progress() -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Images per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} images/s" if task.speed else "")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    )


def _report(summary: Summary, options: Any, quiet: bool, as_json: bool) -> None:
    """The last lines of a run."""
    import json
    from dataclasses import asdict

    failed = len(summary.failures)
    if failed > FAILURES_SHOWN:
        err().print(f"fcnseg: {failed - FAILURES_SHOWN} more failed; {options.out}/.fcnseg/run.json lists them all")
    if as_json:
        out().print_json(json.dumps({**asdict(summary), "exit_code": summary.exit_code}))
    if summary.interrupted:
        err().print(
            f"fcnseg: interrupted: {summary.done} of {summary.total} label maps are written and whole; "
            "the same command does them all again"
        )
    elif not quiet:
        rate = summary.done / summary.seconds if summary.seconds else 0.0
        note = f", {failed} failed" if failed else ""
        maps = "label map" if summary.done == 1 else "label maps"
        err().print(
            f"{summary.done} {maps} in {options.out}{note} ({summary.seconds:.1f} s, {rate:.1f} images/s)", markup=False
        )
