"""Charts as SVG by Matplotlib, with tables of their numbers.

Colours are placeholders that the page's style sheet replaces, so that charts follow light and dark.
"""

import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from fcnseg.scoring.report.page import number
from fcnseg.scoring.result import Band, Calibration
from fcnseg.scoring.thresholds import ThresholdCurve

INK, MARK, LINE = "#010203", "#040506", "#070809"
"""Placeholders: see `page.css`."""


@dataclass(frozen=True)
class Chart:
    """A drawing (`svg` is markup) with the table of its numbers."""

    title: str
    svg: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def histogram(title: str, values: Sequence[float], unit: str, top: float = 1.0) -> Chart:
    """Draw the number of images by their share, 0 to `top`, in 20 bins."""
    known = [100 * v for v in values if v == v]
    counts, edges = np.histogram(known, 20, (0, 100 * top))
    with _axes(title) as (axes, markup):
        axes.bar(edges[:-1], counts, edges[1], align="edge", color=MARK, edgecolor=LINE, linewidth=0.5)
        axes.set(xlim=(0, edges[-1]), xlabel=f"{unit} of an image, %", ylabel="images")
        axes.yaxis.get_major_locator().set_params(integer=True)
    rows = tuple((f"{edges[i]:.3g} to {edges[i + 1]:.3g}", str(n)) for i, n in enumerate(counts))
    return Chart(title, markup(), (f"{unit}, %", "images"), rows)


def band_curve(title: str, bands: Sequence[Band]) -> Chart:
    """Draw the figures in bands of growing width around boundaries."""
    widths = [band.width_px for band in bands]
    with _axes(title) as (axes, markup):
        axes.plot(widths, [100 * b.mean_iu for b in bands], "o-", color=MARK, label="mean IoU")
        axes.plot(widths, [100 * b.pixel_accuracy for b in bands], "s--", color=INK, label="pixel accuracy")
        axes.set(xscale="log", ylim=(0, 100), xlabel="width of the band, px", ylabel="%")
        axes.set_xticks(widths, [str(w) for w in widths], minor=False)
        axes.minorticks_off()
        axes.legend(frameon=False, labelcolor=INK)
    rows = tuple((str(b.width_px), number(b.mean_iu), number(b.pixel_accuracy), f"{b.pixels:,}") for b in bands)
    return Chart(title, markup(), ("width, px", "mean IoU, %", "pixel accuracy, %", "pixels"), rows)


def reliability_curve(title: str, calibration: Calibration) -> Chart:
    """Draw the accuracy of labels by their confidence."""
    known = [b for b in calibration.bins if b.pixels]
    with _axes(title) as (axes, markup):
        axes.plot((0, 100), (0, 100), ":", color=INK)
        axes.plot([100 * b.confidence for b in known], [100 * b.accuracy for b in known], "o-", color=MARK)
        axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence, %", ylabel="accuracy, %")
    rows = tuple(
        (f"{100 * b.low:.0f} to {100 * b.high:.0f}", number(b.confidence), number(b.accuracy), f"{b.pixels:,}")
        for b in calibration.bins
    )
    return Chart(title, markup(), ("confidence, %", "mean confidence, %", "accuracy, %", "pixels"), rows)


def threshold_curve(title: str, curve: ThresholdCurve) -> Chart:
    """Draw precision, recall and IoU of the foreground by the threshold of its probability."""
    points = [p for p in curve.points if p.recall == p.recall]
    with _axes(title) as (axes, markup):
        for name, style, color in (("precision", "-", MARK), ("recall", "--", INK), ("iu", ":", INK)):
            shown = [
                (100 * p.threshold, 100 * getattr(p, name)) for p in points if getattr(p, name) == getattr(p, name)
            ]
            label = "IoU" if name == "iu" else name
            axes.plot([x for x, _ in shown], [y for _, y in shown], style, color=color, label=label)
        axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="threshold, %", ylabel="%")
        axes.legend(frameon=False, labelcolor=INK)
    rows = tuple(
        (f"{100 * p.threshold:.0f}", *map(number, (p.precision, p.recall, p.iu, p.dice))) for p in curve.points[::5]
    )
    return Chart(title, markup(), ("threshold, %", "precision, %", "recall, %", "IoU, %", "Dice, %"), rows)


def precision_recall_curve(title: str, curve: ThresholdCurve) -> Chart:
    """Draw the precision of the foreground by its recall."""
    points = sorted(
        {(p.recall, p.precision) for p in curve.points if p.recall == p.recall and p.precision == p.precision}
    )
    with _axes(title) as (axes, markup):
        axes.plot([100 * recall for recall, _ in points], [100 * precision for _, precision in points], "-", color=MARK)
        axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="recall, %", ylabel="precision, %")
    rows = tuple((number(recall), number(precision)) for recall, precision in points[:: max(1, len(points) // 20)])
    return Chart(title, markup(), ("recall, %", "precision, %"), rows)


def training_curve(
    title: str, curves: Mapping[str, Sequence[tuple[int, float]]], unit: str, top: float | None = None
) -> Chart:
    """Draw curves of (step, value) by their names, from 0 to `top` if there is one."""
    styles = itertools.cycle((("-", MARK), ("--", INK), (":", INK)))
    with _axes(title) as (axes, markup):
        for (name, points), (style, color) in zip(curves.items(), styles, strict=False):
            marker = "o" if len(points) < 40 else ""
            axes.plot(*zip(*points, strict=True), f"{marker}{style}", color=color, label=name) if points else None
        axes.set(xlabel="step", ylabel=unit, **({"ylim": (0, top)} if top else {}))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if any(curves.values()):
            axes.legend(frameon=False, labelcolor=INK)
    rows = sorted((step, name, f"{value:.5g}") for name, points in curves.items() for step, value in points)
    return Chart(title, markup(), ("step", "curve", unit), tuple((str(s), name, text) for s, name, text in rows))


@contextmanager
def _axes(title: str) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Yield axes to draw in, and a function that then returns the SVG."""
    salt = re.sub(r"\W+", "-", title).lower()
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif", "font.size": 11,
        "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": LINE,
        "axes.axisbelow": True,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        FigureCanvasSVG(figure)

        def markup() -> str:
            text = io.StringIO()
            with matplotlib.rc_context(style):
                figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            return _embedded(text.getvalue(), salt)

        yield figure.subplots(), markup


def _embedded(svg: str, name: str) -> str:
    """Return an SVG document as an element whose ids begin with `name`, so that they are unique on the page."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", element)
