"""`fcnseg models`: the shipped models, or one of them whole."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnseg.cli.completion import complete_models
from fcnseg.cli.console import out, shown
from fcnseg.cli.options import AsJson
from fcnseg.cli.progress import interruptible
from fcnseg.recipes import RESNETS, Architecture, find_recipe, recipe_names

if TYPE_CHECKING:
    from fcnseg.labels import LabelSpace
    from fcnseg.recipes import Recipe

FORMS = {
    "color": "photographs",
    "depth": "depth in millimetres (--depth DIR)",
    "hha": "HHA images (--hha DIR)",
}
"""The images of each modality, in words."""


@interruptible()
def models(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", autocompletion=complete_models, help="Show all about this one: a name, or a FILE.toml."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models with their classes, inputs, weights and published score, or show one whole.

    Of one model it shows every class with its number and colour, the inputs, the sizes that engines are built for, the
    licence, and the files of weights.

    Weights are "bundled" (in the package), "stored" (pulled or imported) or "absent": download those with
    `fcnseg weights pull NAME`, or give a file of yours with `--weights FILE`.

    \b
    Examples:
      fcnseg models
      fcnseg models street-fcn8s
      fcnseg models runs/mine/model.toml --json
    """
    if model is not None:
        _show_one(find_recipe(model), as_json)
        return
    rows = [_summary(find_recipe(name)) for name in recipe_names()]
    if as_json:
        out().print_json(json.dumps(rows), ensure_ascii=True)
        return
    from rich.table import Table

    table = Table("model", "classes", "takes", "weights", "published score", box=None, header_style="bold")
    for row in rows:
        classes = " + ".join(str(n) for n in row["classes"])
        table.add_row(row["name"], classes, ", ".join(row["takes"]), row["weights"], _short(row["score"]))
    out().print(table)


def _short(score: str) -> str:
    """Return the first figure of a published score and its data set, without further ones and the source."""
    first, *more = re.split(r"[;(]", score)[0].strip().split(", ")
    return ", ".join([first, *(part for part in more[:1] if not part[:1].isdecimal())])


def _summary(recipe: Recipe) -> dict[str, Any]:
    from fcnseg.weights.store import available

    return {
        "name": recipe.name,
        "title": recipe.title,
        "classes": [head.labels.classes for head in recipe.heads],
        "takes": list(recipe.modalities),
        "weights": available(recipe),
        "score": recipe.score,
    }


# ---------------------------------------------------------------------- one model


def _show_one(recipe: Recipe, as_json: bool) -> None:
    if as_json:
        out().print_json(json.dumps(_whole(recipe)), ensure_ascii=True)
        return
    from rich.text import Text

    rows = _rows(recipe)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        out().print(Text.assemble((f"{name:<{width}}", "bold"), f"  {shown(value)}"))
    for head in recipe.heads:
        of_head = f" of {head.name}" if len(recipe.heads) > 1 else ""
        out().print()
        out().print(f"classes{of_head}: a pixel's value in the label map, its colour, its name", style="bold")
        _print_classes(head.labels)


def _print_classes(labels: LabelSpace) -> None:
    from rich.text import Text

    for value, (name, color) in enumerate(zip(labels.names, labels.colors, strict=True)):
        hexadecimal = "#{:02x}{:02x}{:02x}".format(*color)
        swatch = ("  ", f"on {hexadecimal}") if out().is_terminal and out().color_system else ""
        parts = [f"{value:>5}  ", *([swatch, " "] if swatch else []), f"{hexadecimal}  {shown(name)}"]
        out().print(Text.assemble(*parts))
    out().print(
        f"{labels.ignore:>5}  {'   ' if out().is_terminal and out().color_system else ''}         void: in no class"
    )


def _rows(recipe: Recipe) -> list[tuple[str, str]]:
    from fcnseg.weights.store import available, own_weights

    architecture, shapes = recipe.architecture, recipe.shapes
    sizes = " to ".join(f"{width} x {height}" for height, width in (shapes.smallest, shapes.largest))
    typical = f"{shapes.typical[1]} x {shapes.typical[0]}"
    cut_if = " (sides that are multiples of 8)" if architecture.backbone in RESNETS else ""
    width = "" if architecture.width == 1 else f", its layers {architecture.width:g} times as wide"
    path = own_weights(recipe)
    weights = {
        "bundled": f"bundled: {path}",
        "stored": f"stored: {path}",
        "absent": f"absent: `fcnseg weights pull {recipe.name}`, or --weights FILE",
    }[available(recipe)]
    rows = [
        ("model", recipe.name),
        ("title", recipe.title or "-"),
        ("network", f"{_network_name(architecture)}{width}"),
        ("input", "; ".join(FORMS[name] for name in recipe.modalities)),
        ("sizes", "any: larger images than an engine takes are cut, their labels stay the same" + cut_if),
        ("engines", f"for {sizes}, fastest at {typical}, up to {shapes.max_batch} images at once"),
        ("score", recipe.score or "not published"),
        ("licence", recipe.license or "not stated: ask whoever made the weights"),
        ("weights", weights),
    ]
    for source in recipe.weights:
        size = f", about {source.size_mib} MiB" if source.size_mib else ""
        rows.append(("", f"{source.file}{size}{f', {source.url}' if source.url else ''}"))
    return [*rows, ("recipe", str(recipe.path))]


def _whole(recipe: Recipe) -> dict[str, Any]:
    from dataclasses import asdict

    from fcnseg.weights.store import own_weights

    path = own_weights(recipe)
    return {
        **_summary(recipe),
        "heads": [
            {
                "name": head.name,
                "void": head.labels.ignore,
                "classes": [
                    {"index": index, "name": name, "color": list(color)}
                    for index, (name, color) in enumerate(zip(head.labels.names, head.labels.colors, strict=True))
                ],
            }
            for head in recipe.heads
        ],
        "architecture": asdict(recipe.architecture),
        "sizes": asdict(recipe.shapes),
        "license": recipe.license,
        "dataset": recipe.dataset,
        "weights_file": str(path) if path else None,
        "weight_sources": [asdict(source) for source in recipe.weights],
        "recipe": str(recipe.path),
    }


def _network_name(architecture: Architecture) -> str:
    stride, backbone = architecture.stride, architecture.backbone
    return f"FCN on {backbone}, output stride {stride}" if backbone in RESNETS else f"FCN-{stride}s on {backbone}"
