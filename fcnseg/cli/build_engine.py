"""`fcnseg build-engine`: one command from a model to an engine for this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli import console
from fcnseg.cli.options import (
    AsJson,
    Backend,
    Calibrate,
    Depth,
    Device,
    Hha,
    JsonLogs,
    ModelArgument,
    Precision,
    Quiet,
    Verbose,
    Weights,
    companions_of,
)
from fcnseg.cli.progress import build_display, interruptible
from fcnseg.recipes import DEFAULT_MODEL

if TYPE_CHECKING:
    from fcnseg.engine.record import EngineRecord

Size = Annotated[str | None, typer.Option(metavar="WxH", help="Smallest image size.", show_default="the model's")]


@interruptible()
def build_engine(
    model: ModelArgument = DEFAULT_MODEL,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write the engine here.", show_default="the cache, where run finds it"
        ),
    ] = None,
    weights: Weights = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    calibrate: Calibrate = None,
    depth: Depth = None,
    hha: Hha = None,
    min_shape: Size = None,
    opt_shape: Annotated[str | None, typer.Option(metavar="WxH", help="The size to be fastest at.")] = None,
    max_shape: Annotated[str | None, typer.Option(metavar="WxH", help="Largest image size.")] = None,
    max_batch: Annotated[int | None, typer.Option(min=1, metavar="N", help="Largest number of images at once.")] = None,
    profile_from: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the three sizes from the images in this folder.")
    ] = None,
    with_probabilities: Annotated[
        bool, typer.Option("--with-probabilities", help="An engine that can give class probabilities too.")
    ] = False,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Share of pixels that must get the fp32 network's label.",
            show_default="fp32 .9999, bf16 and fp16 .99, int8 .97",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again, whatever is there or failed before.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: AsJson = False,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
) -> None:
    """Build the engine of MODEL for this machine, and verify it.

    The engine is loaded back from disk and compared with the fp32 network on real images, at the smallest, typical
    and largest size, alone and in full batches. If their labels differ on too many pixels the build fails. `fcnseg
    run` finds the engine in the cache by itself; a second build does nothing.

    \b
    Examples:
      fcnseg build-engine
      fcnseg build-engine voc-fcn8s --precision bf16
      fcnseg build-engine voc-fcn8s --precision int8 --calibrate photos/
      fcnseg build-engine voc-fcn8s --backend tensorrt --profile-from photos/
    """
    from dataclasses import asdict

    from fcnseg.engine.build import build_engine as build

    with build_display(quiet, verbose) as hooks:
        file, record = build(
            model,
            weights=weights,
            backend=backend,
            device=device,
            precision=precision,
            calibrate=calibrate,
            companions=companions_of(depth, hha),
            min_shape=min_shape,
            opt_shape=opt_shape,
            max_shape=max_shape,
            max_batch=max_batch,
            profile_from=profile_from,
            probabilities=with_probabilities,
            min_agreement=min_agreement,
            out=out,
            force=force,
            hooks=hooks,
        )
    if as_json:
        console.out().print_json(json.dumps({"path": file, **asdict(record)}, default=str), ensure_ascii=True)
        return
    console.out().print(console.shown(str(file)), markup=False)
    if not quiet:
        console.say(verdict(record))


def verdict(record: EngineRecord) -> str:
    """Describe the verification of an engine in a line."""
    from fcnseg.engine.verify import NOT_COMPARED

    verification = record.verification
    if verification is None:
        return record.note
    difference = verification.max_probability_difference
    largest = "" if difference is None else f", largest probability difference {difference:.2g}"
    skipped = sum(NOT_COMPARED in case for case in verification.cases)
    cases = f"{len(verification.cases) - skipped} cases on {verification.images}"
    more = f", {skipped} more that memory does not hold" if skipped else ""
    speed = f"{1 / verification.typical_seconds:.1f} images/s at the typical size"
    agreement = f"{verification.agreement:.3%} of pixels labelled as by the fp32 network{largest}"
    return f"verified: {agreement} ({cases}{more}; {speed})"
