"""Parts that the pages of reports share: templates, cells of tables, heat maps, provenance."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from fcnseg import __version__
from fcnseg.io.atomic import whole_file
from fcnseg.labels import Color
from fcnseg.scoring.report.pictures import data_uri

LEVELS = 32
"""Steps of the heat map's scale."""

ENTRIES = 15
"""Number of the largest entries of a matrix that are listed."""

MAX_TABLE_CLASSES = 64
"""Number of classes up to which a heat map is a table; beyond, it is a picture."""


@dataclass(frozen=True)
class Cell:
    """A cell of a sortable table: its text, what it sorts by, the length of its bar (0..1), a colour (CSS)."""

    text: str
    sort: str | float = ""
    share: float | None = None
    color: str | None = None


@dataclass(frozen=True)
class Heat:
    """A matrix of shares, 0..1: a picture if it is large, else rows of cells (a text and a step of the scale)."""

    title: str
    note: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, int], ...], ...] = ()
    picture: str | None = None


def render(file: Path, template: str, *, with_heat_maps: bool = True, **values: Any) -> None:
    """Write a page, whole or not at all; only heat maps need Matplotlib."""
    environment = Environment(
        loader=PackageLoader("fcnseg.scoring.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(levels=Markup(_levels() if with_heat_maps else ""), **values)
    with whole_file(file) as opened:
        opened.write(text.encode(errors="backslashreplace"))


def share_cell(value: float, digits: int = 1) -> Cell:
    """Return a share 0..1 as a percentage with a bar."""
    return Cell("–") if math.isnan(value) else Cell(number(value, digits), value, round(value, 4))


def count_cell(value: int) -> Cell:
    """Return a whole number as a cell."""
    return Cell(f"{value:,}", value)


def name_cell(index: int, name: str, color: Color) -> Cell:
    """Return a class with its colour as a cell."""
    return Cell(f"{index} {name}", index, color=css_color(color))


def css_color(color: Color) -> str:
    """Return a colour as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def number(share: float, digits: int = 1) -> str:
    """Return a share 0..1 in percent, without the sign."""
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share 0..1 in percent."""
    return "–" if share is None or math.isnan(share) else f"{number(share, digits)} %"


def span(interval: tuple[float, float] | None) -> str:
    """Return an interval of shares in percent, empty if there is none."""
    return "" if interval is None or math.isnan(interval[0]) else " to ".join(map(number, interval))


def signed(interval: tuple[float, float]) -> str:
    """Return an interval of differences of shares in percent, with signs."""
    return " to ".join(f"{100 * end:+.2f}" for end in interval)


def heat_map(title: str, note: str, names: Sequence[str], counts: NDArray[np.int64]) -> Heat:
    """Return the rows of a matrix as shares of their sums, in steps of `cividis` (fit for the colour-blind).

    `counts` is K x K, or K x (K + 1) with void as the last column; classes in neither a row nor a column are left out.
    """
    occur: list[int] = np.flatnonzero(counts.any(1) | counts[:, : len(counts)].any(0)).tolist()
    names = [names[i] for i in occur]
    if counts.shape[1] > len(counts) and counts[:, -1].any():
        counts = counts[np.ix_(occur, [*occur, len(counts)])]
        columns = [*names, "void"]
    else:
        counts, columns = counts[np.ix_(occur, occur)], names
    sums = counts.sum(1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    levels = np.minimum((shares * LEVELS).astype(int), LEVELS - 1)
    if len(names) > MAX_TABLE_CLASSES:
        return Heat(
            title, note, tuple(names), tuple(columns), picture=data_uri(Image.fromarray(_scale()[levels]), "png")
        )
    rows = (zip(map(_cell_text, row), row_levels, strict=True) for row, row_levels in zip(shares, levels, strict=True))
    return Heat(title, note, tuple(names), tuple(columns), tuple(map(tuple, rows)))


def largest_entries(counts: NDArray[np.int64], names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """List the largest entries of a matrix beside its diagonal: row, column, pixels, and percent of the row.

    It is K x K, or K x (K + 1) with void as the last column.
    """
    columns = [*names, "void"]
    beside = counts.copy()
    np.fill_diagonal(beside, 0)
    sums = counts.sum(1)
    entries = []
    for index in beside.ravel().argsort(kind="stable")[::-1][:ENTRIES]:
        i, j = divmod(int(index), counts.shape[1])
        if beside[i, j]:
            entries.append((names[i], columns[j], f"{beside[i, j]:,}", f"{100 * beside[i, j] / sums[i]:.2f}"))
    return entries


def _cell_text(share: float) -> str:
    return "" if share == 0 else "<1" if share < 0.01 else f"{100 * share:.0f}"


@cache
def _scale() -> NDArray[np.uint8]:
    from matplotlib import colormaps  # only heat maps need Matplotlib

    colors: NDArray[np.uint8] = colormaps["cividis"](np.linspace(0, 1, LEVELS), bytes=True)[:, :3]
    return colors


def _levels() -> str:
    """Return the style of each step: its colour, and black or white text, whichever is read better on it."""
    rules = []
    for step, color in enumerate(_scale()):
        ink = "#000" if luminance(color) > 0.179 else "#fff"
        rules.append(f".heat .h{step} {{ background: {css_color(tuple(color))}; color: {ink}; }}")
    return "\n".join(rules)


def luminance(color: NDArray[np.uint8]) -> float:
    """Return the relative luminance of a colour, 0..1; above 0.179 black is read better on it. Source: WCAG 2."""
    levels = color / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def provenance(record: Mapping[str, Any], name: str = "") -> list[tuple[str, str]]:
    """List the origin of predictions, from the record of their run."""
    engine = record.get("engine") or {}
    settings = record.get("settings") or {}
    versions = engine.get("versions") or {}
    verification = engine.get("verification") or {}
    facts = {
        "images": settings.get("source"),
        "model": engine.get("model"),
        "weights (SHA-256)": engine.get("weights_sha256"),
        "engine": engine.get("backend"),
        "device": engine.get("device"),
        "precision": engine.get("precision"),
        "images resized to a short side of, px": settings.get("resize_short") or settings.get("resize-short"),
        "agreement with the fp32 network": percent(verification.get("agreement")),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
        "predicted": record.get("ended"),
        "predicted by": (record.get("host") or {}).get("processor"),
    }
    return [(f"{name}{key}", str(value)) for key, value in facts.items() if value not in (None, "", "–")]


def comparison(
    settings: Mapping[str, Any], sides: Mapping[str, str], left_out: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """List the settings of a comparison without those `left_out`; `sides` names those that hold the sources, and their
    titles."""
    elsewhere = {"classes", "head", "model", *sides, *left_out}
    chosen = {k: v for k, v in settings.items() if k not in elsewhere and v not in (None, False, [], (), [""])}
    return [
        *((title, str(settings[name])) for name, title in sides.items() if settings[name]),
        ("compared", datetime.now(UTC).isoformat(timespec="seconds")),
        ("compared by", f"fcnseg {__version__}, Python {platform.python_version()}, {platform.platform()}"),
        *((f"setting: {name.replace('_', ' ')}", str(value)) for name, value in chosen.items()),
    ]
