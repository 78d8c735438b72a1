"""`fcnseg view`: draw a label map over its image, into a file or on the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.comparison_options import Classes, ClassesOf
from fcnseg.cli.console import out, shown
from fcnseg.cli.options import StorageOption
from fcnseg.cli.progress import interruptible
from fcnseg.errors import ImageError, OutputError, SettingsError
from fcnseg.io.urls import is_url, local_path, split_url

if TYPE_CHECKING:
    from PIL.Image import Image

    from fcnseg.scoring.view import LabelledMap


@interruptible()
def view(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Photograph: a file, or a URL.")],
    mask: Annotated[str, typer.Argument(metavar="MASK", help="Its label map: a file, FILE.h5::/name, or a URL.")],
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
    labels: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The map has the values and colours of cityscapes, ade20k, camvid32, ..."),
    ] = None,
    ignore: Annotated[list[int] | None, typer.Option(metavar="VALUE", help="Value that is void (repeatable).")] = None,
    reduce_labels: Annotated[
        bool, typer.Option("--reduce-labels", help="The map numbers classes from 1; 0 is void.")
    ] = False,
    label_map: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Classes of label values: lines `VALUE: CLASS`, or void.")
    ] = None,
    palette: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Classes of colours: lines `RED GREEN BLUE CLASS`.")
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="A mask: 0 is background, 255 (or 1) foreground.")] = False,
    storage_option: StorageOption = None,
) -> None:
    """Draw a label map over its image.

    The classes that occur are listed with their shares. Void stays as the image. Terminals that show pictures (Sixel,
    Kitty) show it there, others in coloured blocks.

    \b
    Examples:
      fcnseg view photo.jpg masks/photo.png
      fcnseg view photo.jpg masks/photo.png --out overlay.png --legend
      fcnseg view photo.png photo_gtFine_labelIds.png --labels cityscapes
    """
    from fcnseg.io.atomic import whole_file
    from fcnseg.io.buckets import parse_storage_options
    from fcnseg.io.images import read_color
    from fcnseg.scoring.label_options import LabelOptions
    from fcnseg.scoring.view import draw, read_labelled

    if out_file is None and not _is_terminal():
        raise SettingsError("standard output is no terminal that could show the picture; give --out FILE.png")
    if out_file is not None and out_file.suffix.lower() != ".png":
        raise SettingsError(f"--out is {out_file}; overlays are written as PNG, end it with .png")
    options = LabelOptions(
        labels=labels,
        ignore=tuple(ignore or ()),
        reduce_labels=reduce_labels,
        label_map=label_map,
        palette=palette,
        binary=binary,
    )
    storage_options = parse_storage_options(storage_option or ())
    labelled = read_labelled(mask, model, classes, head, options, storage_options)
    try:
        pixels = read_color(_fetched(image, storage_options))
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


def _fetched(image: str, storage_options: dict[str, str]) -> Path | bytes:
    """Return the path of an image, or the bytes of one behind a URL."""
    from fcnseg.io.buckets import open_store

    if not is_url(place := local_path(image)):
        return Path(place)
    parent, name = split_url(place)
    return open_store(parent, storage_options).get(name)


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
