"""`fcnseg view`: draw a label map over its image, into a file or on the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.comparison_options import Classes, ClassesOf
from fcnseg.cli.console import out, shown
from fcnseg.cli.progress import interruptible
from fcnseg.errors import ImageError, OutputError, SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

    from fcnseg.scoring.view import LabelledMap


@interruptible()
def view(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Photograph.")],
    mask: Annotated[str, typer.Argument(metavar="MASK", help="Its label map: a file, or FILE.h5::/name.")],
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE.png", help="Write the overlay.", show_default="show it in the terminal"
        ),
    ] = None,
    opacity: Annotated[float, typer.Option(min=0, max=1, metavar="N", help="Opacity of the colours, 0 to 1.")] = 0.5,
    legend: Annotated[
        bool, typer.Option("--legend", help="Draw a legend of the classes that occur beside it.")
    ] = False,
    model: ClassesOf = None,
    classes: Classes = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HEAD", help="Head of the label map, for models with several.", show_default="by its folder"
        ),
    ] = None,
) -> None:
    """Draw a label map over its image.

    The classes that occur are listed with their shares. Void stays as the image. Terminals that show pictures (Sixel,
    Kitty) show it there, others in coloured blocks.

    \b
    Examples:
      fcnseg view photo.jpg masks/photo.png
      fcnseg view photo.jpg masks/photo.png --out overlay.png --legend
    """
    from fcnseg.io.atomic import whole_file
    from fcnseg.io.images import pixels_of
    from fcnseg.scoring.view import draw, read_labelled

    if out_file is None and not _is_terminal():
        raise SettingsError("standard output is no terminal that could show the picture; give --out FILE.png")
    if out_file is not None and out_file.suffix.lower() != ".png":
        raise SettingsError(f"--out is {out_file}; overlays are written as PNG, end it with .png")
    labelled = read_labelled(mask, model, classes, head)
    try:
        pixels = pixels_of(image)
    except ImageError as error:
        raise ImageError(f"{image} {error}; give the photograph") from error
    drawn = draw(pixels, labelled, opacity, legend)
    if out_file is None:
        _show(drawn)
    else:
        try:
            with whole_file(out_file) as file:
                drawn.save(file, format="PNG")
        except OSError as error:
            raise OutputError(f"{out_file} cannot be written: {error.strerror}; choose another place") from error
    _list(labelled)


def _is_terminal() -> bool:
    """Tell if standard output is a terminal that knows its size."""
    return sys.stdout.isatty() and os.get_terminal_size(sys.stdout.fileno()).columns > 0


def _show(drawn: Image) -> None:
    """Show a picture on the terminal, over its whole width."""
    from textual_image.renderable import Image as Picture

    out().print(Picture(drawn, width="auto"))


def _list(labelled: LabelledMap) -> None:
    names = labelled.space.names
    for index, share in labelled.shares.items():
        out().print(f"{100 * share:6.2f} % {index} {shown(names[index])}", markup=False)
    void = 1 - sum(labelled.shares.values())
    if void > 1e-9:
        out().print(f"{100 * void:6.2f} % void", markup=False)
