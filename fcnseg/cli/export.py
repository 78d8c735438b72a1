"""`fcnseg export`: the deployed graph as an ONNX file, for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcnseg.cli import console
from fcnseg.cli.completion import complete_values
from fcnseg.cli.options import JsonLogs, ModelArgument, Quiet, Verbose, Weights
from fcnseg.cli.progress import busy, interruptible
from fcnseg.errors import SettingsError
from fcnseg.recipes import DEFAULT_MODEL


@interruptible("nothing is written")
def export(
    model: ModelArgument = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The .onnx file to write.")] = Path(
        "model.onnx"
    ),
    weights: Weights = None,
    with_probabilities: Annotated[
        str | None,
        typer.Option(
            metavar="float32|float16",
            autocompletion=complete_values("float32", "float16"),
            help="Give class probabilities too, in this type.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Fix the images' height and width, in the order of the graph's axes.",
            show_default="any size",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Fix the images a batch.", show_default="any number")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
) -> None:
    """Write MODEL as ONNX: decoded images in, label maps out, everything between inside.

    The graph takes uint8 RGB images, N x H x W x 3, of any size (models with depth or HHA take those too), and gives
    labels, uint8 N x H x W. Mean, channel order, padding, crop and arg-max are in it.

    Runtimes that need fixed sizes, as OpenCV does, take a graph of one --size and --batch.

    \b
    Examples:
      fcnseg export street-fcn8s --out street.onnx
      fcnseg export street-fcn8s --size 360x480 --batch 1 --out street.onnx
    """
    from fcnseg.engine.export import export_model

    with busy("exporting", quiet, verbose):
        lines = export_model(
            model, out, weights=weights, probabilities=with_probabilities, size=_height_width(size), batch=batch
        )
    for line in [] if quiet else lines:
        console.say(line)


def _height_width(text: str | None) -> tuple[int, int] | None:
    """Return the height and width of a text like "360x480". Raises SettingsError for one that is none."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise SettingsError(f"--size {text!r} is no size; write HEIGHTxWIDTH, for example 360x480")
    return int(sides[0]), int(sides[1])
