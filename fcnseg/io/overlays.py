"""Label maps drawn over their images or in colours, and the legend of the classes' colours."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fcnseg.drawing import color_table, overlay
from fcnseg.labels import LabelSpace

__all__ = ["color_table", "legend", "overlay"]

LEGEND_ROW_PX, LEGEND_ROWS = 22, 20
"""The height of a row, and the most rows of a column."""


def legend(space: LabelSpace, only: Sequence[int] | None = None) -> Image.Image:
    """Draw the classes (or those of the labels in `only`) in their colours, with label and name, as an RGB image."""
    shown = range(space.classes) if only is None else only
    titles = [f"{index} {space.names[index]}" for index in shown]
    font = ImageFont.load_default(13)
    row, columns = LEGEND_ROW_PX, -(-len(shown) // LEGEND_ROWS)
    per_column = -(-len(shown) // columns)
    width = round(max(map(font.getlength, titles))) + 2 * row
    image = Image.new("RGB", (width * columns, row * per_column + row // 2), "white")
    draw = ImageDraw.Draw(image)
    for number, (index, title) in enumerate(zip(shown, titles, strict=True)):
        left, top = number // per_column * width + row // 4, number % per_column * row + row // 4
        draw.rectangle((left, top, left + row, top + row - 5), fill=space.colors[index], outline="black")
        draw.text((left + row + 6, top), title, fill="black", font=font)
    return image
