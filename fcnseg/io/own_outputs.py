"""Marks in the images that fcnseg writes, by which none is taken for a photograph."""

from __future__ import annotations

from PIL import Image

from fcnseg.errors import ImageError

SOFTWARE = "Software"
"""The text chunk of PNGs that names what wrote them."""

NAME = "fcnseg"
"""The first word of the marks: of SOFTWARE in PNGs, and of the comment in JPEGs."""


KINDS = {"hha": "an HHA image", "colours": "a label map in colours", "mask": "a mask", "cutout": "a cut-out"}
"""The images that have a mark of two words, by the second; a label map's is the version."""


def refuse_own_output(image: Image.Image) -> None:
    """Raise ImageError for an image that fcnseg wrote: a label map, an overlay, or one of KINDS."""
    mark = image.info.get(SOFTWARE) if image.format == "PNG" else image.info.get("comment")
    text = mark.decode("latin-1") if isinstance(mark, bytes) else str(mark or "")
    name, _, second = text.partition(" ")
    if name == NAME:
        kind = KINDS.get(second) or {"PNG": "a label map", "JPEG": "an overlay"}.get(image.format or "", "an image")
        raise ImageError(f"{kind} that fcnseg wrote, no photograph; leave its folder out")
