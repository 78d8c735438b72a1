"""`fcnseg models`: the shipped models, and which have their weights on this machine."""

from __future__ import annotations

import json
from typing import Any

from fcnseg.cli.console import out
from fcnseg.cli.options import AsJson
from fcnseg.recipes import find_recipe, recipe_names


def models(as_json: AsJson = False) -> None:
    """List the models with their classes, inputs, weights and published score.

    Weights are "bundled" (in the package), "stored" (pulled or imported) or "absent": download those with
    `fcnseg weights pull NAME`, or give a file of yours with `--weights FILE`.
    """
    rows = _rows()
    if as_json:
        out().print_json(json.dumps(rows), ensure_ascii=True)
        return
    from rich.table import Table

    table = Table("model", "classes", "takes", "weights", "published score", box=None, header_style="bold")
    for row in rows:
        classes = " + ".join(str(n) for n in row["classes"])
        table.add_row(row["name"], classes, ", ".join(row["takes"]), row["weights"], row["score"])
    out().print(table)


def _rows() -> list[dict[str, Any]]:
    from fcnseg.weights.store import available

    recipes = [find_recipe(name) for name in recipe_names()]
    return [
        {
            "name": recipe.name,
            "title": recipe.title,
            "classes": [head.labels.classes for head in recipe.heads],
            "takes": list(recipe.modalities),
            "weights": available(recipe),
            "score": recipe.score,
        }
        for recipe in recipes
    ]
