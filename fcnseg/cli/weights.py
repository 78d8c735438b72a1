"""`fcnseg weights`: import, inspect, pull and list weight files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnseg.cli.completion import complete_models, complete_values
from fcnseg.cli.console import out, say, shown
from fcnseg.cli.help_style import HelpfulCommand
from fcnseg.cli.options import MODEL_HELP, AsJson, JsonLogs, Model, Quiet, Verbose
from fcnseg.cli.progress import busy, bytes_progress, interruptible
from fcnseg.errors import WeightsMismatchError
from fcnseg.recipes import find_recipe, recipe_names

if TYPE_CHECKING:
    from fcnseg.weights.importing import ImportReport

Key = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The state dict to take from a PyTorch checkpoint that holds several."),
]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Import, inspect, pull and list weight files.")


@app.command("import", cls=HelpfulCommand, short_help="Convert a weight file; every tensor is accounted for.")
@interruptible("nothing is written")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .caffemodel (binary or HDF5), .pth or .safetensors file.")
    ],
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The safetensors file to write.", show_default="the model's own"
        ),
    ] = None,
    transplant: Annotated[
        bool,
        typer.Option(
            "--transplant",
            help="Start training from an ImageNet classifier: drop its last layer, with score layers of zeros.",
        ),
    ] = False,
    convention: Annotated[
        str | None,
        typer.Option(
            metavar="caffe|torchvision",
            autocompletion=complete_values("caffe", "torchvision"),
            help="Input that VGG weights under torchvision's names expect: BGR 0..255, or RGB normalised.",
            show_default="that of the file",
        ),
    ] = None,
    key: Key = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
) -> None:
    """Convert a weight file into the model's own format; every tensor is accounted for.

    Without --out they become the model's own weights. Nothing is written unless every tensor fits.

    \b
    Example:
      fcnseg weights import fcn8s-heavy-pascal.caffemodel --model voc-fcn8s
    """
    from fcnseg.weights.importing import import_weights
    from fcnseg.weights.store import stored_path

    recipe = find_recipe(model)
    try:
        with busy(f"importing {file.name}", quiet, verbose):
            target = out or stored_path(recipe.name)
            report = import_weights(file, recipe, target, transplant=transplant, convention=convention, key=key)
    except WeightsMismatchError as error:
        for fault in error.faults:
            say(f"  {fault}")
        raise
    _print_report(report)


def _print_report(report: ImportReport) -> None:
    out_file = shown(str(report.out))
    summary = f"{report.tensors} tensors, {report.parameters:,} parameters, from {report.format}: {out_file}"
    origin = f"SHA-256 of {report.source.name}: {report.sha256}"
    for line in (summary, origin, *report.notes):
        say(line)


@app.command("inspect", cls=HelpfulCommand, short_help="Print a file's tensors, and the models it fits.")
@interruptible()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any weight file.")],
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Print the tensors of a weight file, and the models that it fits.

    \b
    Example:
      fcnseg weights inspect fcn8s-heavy-pascal.caffemodel
    """
    from fcnseg.weights.inspect import inspect_weights

    with busy(f"reading {file.name}"):
        summary = inspect_weights(file, key)
    if as_json:
        out().print_json(json.dumps(asdict(summary)), ensure_ascii=True)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("tensor", "shape", "type", "least", "most", "mean", box=None, header_style="bold")
    for t in summary.tensors:
        shape = " x ".join(map(str, t.shape))
        figures = ("not finite" if v is None else f"{v:.4g}" for v in (t.least, t.most, t.mean))
        table.add_row(escape(shown(t.name)), shape, t.dtype, *figures)
    out().print(table)
    out().print(
        f"{shown(str(file))}: {summary.format}, {summary.parameters:,} numbers, SHA-256 {summary.sha256}",
        markup=False,
    )
    for key, value in summary.metadata.items():
        out().print(f"{shown(key)}: {shown(value)}", markup=False)
    for note in summary.notes:
        out().print(f"note: {shown(note)}", markup=False)
    out().print(f"fits: {', '.join(summary.fits) or 'no shipped recipe'}")
    if summary.starts:
        out().print(f"starts the training (--transplant) of: {', '.join(summary.starts)}")


@app.command("pull", cls=HelpfulCommand)
@interruptible("the same command goes on from there")
def pull(
    name: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=complete_models, help=MODEL_HELP)],
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Download from here instead of the recipe's address.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json_logs: JsonLogs = False,  # noqa: ARG001 - read by its callback
) -> None:
    """Download a model's released weights, check them, and import them.

    An interrupted download is resumed. Where no hash of the file was published, the SHA-256 of the first one is kept,
    and a later pull of another file fails.

    \b
    Example:
      fcnseg weights pull voc-fcn8s
    """
    from fcnseg.weights.pull import pull as pull_weights

    recipe = find_recipe(name)
    with bytes_progress(recipe.name, quiet, verbose) as on_bytes:
        report = pull_weights(recipe, url, on_bytes, say)
    _print_report(report)


@app.command("list", cls=HelpfulCommand, short_help="List the models that have weights here.")
@interruptible()
def list_() -> None:
    """List the models that have weights on this machine, with the files."""
    from fcnseg.weights.store import own_weights, store_folder

    for recipe in map(find_recipe, recipe_names()):
        path = own_weights(recipe)
        if path is not None:
            out().print(f"{recipe.name}  {path.stat().st_size / 2**20:.1f} MiB  {shown(str(path))}", markup=False)
    say(f"imported weights are stored in {shown(str(store_folder()))}")
