"""`fcnseg export`: the deployed graph as an ONNX file, for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcnseg.cli import console
from fcnseg.cli.options import Weights
from fcnseg.cli.progress import interruptible
from fcnseg.recipes import DEFAULT_MODEL


@interruptible("nothing is written")
def export(
    model: Annotated[
        str, typer.Argument(help="A name that `fcnseg models` lists, or a recipe FILE.toml.")
    ] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .onnx file to write.")] = Path("model.onnx"),
    weights: Weights = None,
    with_probabilities: Annotated[
        str | None, typer.Option(metavar="float32|float16", help="Give class probabilities too, in this type.")
    ] = None,
) -> None:
    """Write MODEL as ONNX: decoded images in, label maps out, everything between inside.

    The graph takes uint8 RGB images, N x H x W x 3, of any size (models with depth or HHA take those too), and gives
    labels, uint8 N x H x W. Mean, channel order, padding, crop and arg-max are in it.

    \b
    Example:
      fcnseg export street-fcn8s --out street.onnx
    """
    from fcnseg.engine.export import export_model

    with console.err().status("exporting"):
        lines = export_model(model, out, weights=weights, probabilities=with_probabilities)
    for line in lines:
        console.err().print(line, markup=False)
