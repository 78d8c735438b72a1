"""Options that `fcnseg score` and `fcnseg diff` share: classes, pairing, label values, and output files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.completion import complete_models, complete_values
from fcnseg.errors import SettingsError
from fcnseg.recipes import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fcnseg.scoring.tables import TextTable

ClassesOf = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE.toml",
        autocompletion=complete_models,
        help="Model whose classes are compared.",
        show_default=f"that of the run, or {DEFAULT_MODEL}",
    ),
]

Classes = Annotated[
    str | None,
    typer.Option(metavar="N|FILE", help="Number of classes, or a file of their names, one a line; instead of --model."),
]

Binary = Annotated[bool, typer.Option("--binary", help="Binary masks: 0 is background, 255 (or 1) foreground.")]

PairBy = Annotated[
    str,
    typer.Option(
        "--pair",
        metavar="auto|path|stem",
        autocompletion=complete_values("auto", "path", "stem"),
        help="Pair files of the same relative path, or of the same name alone.",
    ),
]

ImageList = Annotated[
    Path | None,
    typer.Option("--list", metavar="FILE", help="Compare only these images: a name a line, or image and label map."),
]

GtPattern = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="File names of ground truth, e.g. '{stem}_gtFine_labelIds.png'.")
]

PredPattern = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="File names of predictions, e.g. '{stem}_leftImg8bit.png'.")
]

Ignore = Annotated[
    list[int] | None,
    typer.Option(
        metavar="VALUE", help="Ground truth value that does not count (repeatable).", show_default="the recipe's"
    ),
]

Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Ground truth has the values and colours of ade20k, camvid, camvid32, cityscapes, cityscapes-train-ids, "
        "nyud, pascalcontext or voc.",
    ),
]

PredLabels = Annotated[
    str | None, typer.Option(metavar="NAME", help="Predictions have those of one of these; void is a miss.")
]

ReduceLabels = Annotated[bool, typer.Option("--reduce-labels", help="Ground truth numbers classes from 1; 0 is void.")]

ReducePredLabels = Annotated[
    bool, typer.Option("--reduce-pred-labels", help="Predictions number classes from 1; 0 is void, a miss.")
]

Logits = Annotated[
    bool, typer.Option("--logits", help="Floats are scores before softmax, or with --binary before the sigmoid.")
]

LabelMap = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Classes of ground truth values: lines `VALUE: CLASS` or `1-3: void`."),
]

PredLabelMap = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Classes of prediction values, in the same form; void is a miss."),
]

Palette = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Classes of the colours of RGB label maps: lines `RED GREEN BLUE CLASS`."),
]

AnyPalette = Annotated[
    bool, typer.Option("--any-palette", help="Accept indexed images with other palettes than the model's.")
]

Processes = Annotated[
    int | None,
    typer.Option(
        "--workers", "-j", min=1, metavar="N", help="Number of processes.", show_default="one a core, if that pays off"
    ),
]

JsonFile = Annotated[
    Path | None, typer.Option("--json-file", metavar="FILE", help="Write all figures as JSON into a file.")
]

LatexFile = Annotated[
    Path | None,
    typer.Option("--latex", metavar="FILE", help="Write the tables as LaTeX (booktabs); - is standard output."),
]

MarkdownFile = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown; - is standard output.")
]

ReportFile = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with charts and pictures.")]

Photographs = Annotated[
    str | None,
    typer.Option("--images", metavar="SOURCE", help="Photographs for the report.", show_default="those of the run"),
]


def check_outputs(files: dict[str, Path | None], report: Path | None, images: str | None) -> None:
    """Raise SettingsError, before anything is compared, for output files that could not all be written.

    `files` are those of options by their names; the name of a flag may stand for standard output, with the file -.
    """
    if images and not report:
        raise SettingsError("--images shows photographs in the report; give --report FILE.html too")
    if report == Path("-"):
        raise SettingsError("--report is -, but a page is a file; give --report FILE.html")
    taken: dict[Path, str] = {}
    for option, file in {**files, "--report": report}.items():
        if file is None:
            continue
        if file.is_dir():
            raise SettingsError(f"{option} is {file}, which is a folder; name a file in it")
        above = next(folder for folder in file.absolute().parents if folder.exists())
        if not above.is_dir():
            raise SettingsError(f"{option} is {file}, but {above} is no folder; choose another place")
        if (other := taken.setdefault(file.absolute(), option)) != option:
            raise SettingsError(f"{other} and {option} are both {file}; give each its own file")


def write_output(file: Path, text: str) -> None:
    """Write a file, whole or not at all; - is standard output."""
    if file == Path("-"):
        typer.echo(text, nl=False)
    else:
        from fcnseg.io.atomic import whole_file  # loads NumPy, which --help does without

        with whole_file(file) as opened:
            opened.write(text.encode(errors="backslashreplace"))


def write_tables(tables: Sequence[TextTable], latex_file: Path | None, markdown_file: Path | None) -> None:
    """Write tables as LaTeX and as Markdown, to the files that are given."""
    from fcnseg.scoring.tables import latex, markdown

    for file, text_of in ((latex_file, latex), (markdown_file, markdown)):
        if file:
            write_output(file, text_of(tables))
