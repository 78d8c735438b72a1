"""Tables of scores for papers and pages: LaTeX (booktabs) and Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from fcnseg.scoring.compare import Compared
from fcnseg.scoring.result import Score

FIGURES = {
    "mean_iu": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iu": "frequency-weighted IoU",
    "mean_dice": "mean Dice",
}

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


@dataclass(frozen=True)
class TextTable:
    """A table: a caption, the titles of columns, and rows of texts, the first column left, others right.

    `best` are the places (row, column) of the figures that are set in bold.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


def score_tables(score: Score) -> list[TextTable]:
    """Return the table of figures and that of classes, of every head."""
    tables = []
    for name, head in (score.heads or {"": score}).items():
        of = f", {name}" if name else ""
        figures = tuple(
            (title, _percent(getattr(head, figure)), _span(head.intervals.get(figure)), averaged_over(head, figure))
            for figure, title in FIGURES.items()
        )
        rows = tuple(
            (row.name, *map(_percent, (row.iu, row.accuracy, row.precision, row.dice)), _span(row.iu_interval))
            for row in head.per_class
            if row.pixels or row.predicted_pixels
        )
        caption = f"Segmentation score over {head.images:,} images{of}, %"
        tables.append(TextTable(caption, ("figure", "%", "95 %", "mean over"), figures))
        columns = ("class", "IoU", "accuracy", "precision", "Dice", "IoU 95 %")
        tables.append(TextTable(f"Classes{of}, %", columns, rows))
    return tables


def compared_tables(compared: Compared) -> list[TextTable]:
    """Return the table of the runs' figures, and that of the IoU of every class; the best of each is bold."""
    runs = compared.runs
    figures = tuple(
        (
            run.name,
            *(_percent(getattr(run.score, figure)) for figure in FIGURES),
            _signed(run.differences.get("mean_iu")),
        )
        for run in runs
    )
    columns = ("run", *FIGURES.values(), "mean IoU minus the first's, 95 %")
    best = {
        (row, column)
        for column, figure in enumerate(FIGURES, 1)
        for row in _largest([getattr(run.score, figure) for run in runs])
    }
    images, classes = runs[0].score.images, runs[0].score.per_class
    tables = [TextTable(f"Runs over the same {images:,} images, %", columns, figures, frozenset(best))]
    present = [i for i, _ in enumerate(classes) if any(_occurs(run.score, i) for run in runs)]
    ius = {i: [run.score.per_class[i].iu for run in runs] for i in present}
    rows = tuple((classes[i].name, *map(_percent, ius[i])) for i in present)
    bold = {(row, column + 1) for row, i in enumerate(present) for column in _largest(ius[i])}
    tables.append(TextTable("IoU of each class, %", ("class", *(run.name for run in runs)), rows, frozenset(bold)))
    return tables


def averaged_over(score: Score, figure: str) -> str:
    """Return of how many classes a figure is the mean, e.g. "15 of 150 classes"; empty if it is none."""
    number = score.averaged_over.get(figure)
    return "" if number is None else f"{number} of {len(score.per_class)} classes"


def latex(tables: Sequence[TextTable]) -> str:
    """Return tables as LaTeX; they need the package booktabs."""
    return "\n".join(map(_latex, tables))


def _latex(table: TextTable) -> str:
    def line(cells: Sequence[str], row: int = -1) -> str:
        texts = ("".join(LATEX.get(letter, letter) for letter in cell) for cell in cells)
        bold = (rf"\textbf{{{text}}}" if (row, i) in table.best else text for i, text in enumerate(texts))
        return " & ".join(bold) + r" \\"

    return "\n".join(
        [
            rf"% {table.caption}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            line(table.columns),
            r"\midrule",
            *(line(row, number) for number, row in enumerate(table.rows)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def markdown(tables: Sequence[TextTable]) -> str:
    """Return tables as Markdown."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: TextTable) -> str:
    def line(cells: Sequence[str], row: int = -1) -> str:
        texts = (cell.replace("\\", "\\\\").replace("|", r"\|").replace("\n", " ") for cell in cells)
        bold = (f"**{text}**" if (row, i) in table.best else text for i, text in enumerate(texts))
        return f"| {' | '.join(bold)} |"

    rule = f"|---|{'---:|' * (len(table.columns) - 1)}"
    rows = (line(row, number) for number, row in enumerate(table.rows))
    return "\n".join([f"{table.caption}:", "", line(table.columns), rule, *rows, ""])


def _occurs(score: Score, index: int) -> bool:
    row = score.per_class[index]
    return bool(row.pixels or row.predicted_pixels)


def _largest(values: Sequence[float]) -> list[int]:
    """Return the places of the largest value as it is shown; none if all are equal or unknown."""
    shown = [round(value, 4) if value == value else -1.0 for value in values]
    largest = max(shown)
    places = [i for i, value in enumerate(shown) if value == largest]
    return places if largest >= 0 and len(places) < len(values) else []


def _percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.2f}"


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None or interval[0] != interval[0] else " to ".join(map(_percent, interval))


def _signed(interval: tuple[float, float] | None) -> str:
    if interval is None or interval[0] != interval[0]:
        return ""
    return " to ".join(f"{100 * end:+.2f}" for end in interval)
