"""Where imported weights are kept on this machine: the user's data folder, or `FCNSEG_HOME`."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import platformdirs

from fcnseg.recipes import Recipe


def store_folder() -> Path:
    """The folder of imported weights; it need not exist yet."""
    home = os.environ.get("FCNSEG_HOME")
    return (Path(home) if home else platformdirs.user_data_path("fcnseg", appauthor=False)) / "weights"


def stored_path(name: str) -> Path:
    """Where the weights of the recipe of that name are kept."""
    return store_folder() / f"{quote(name, safe=' ')}.safetensors"


def own_weights(recipe: Recipe) -> Path | None:
    """The weights that a recipe runs with when none are given: bundled, else stored, else None."""
    if recipe.bundled and recipe.bundled.is_file():
        return recipe.bundled
    path = stored_path(recipe.name)
    return path if path.is_file() else None


def available(recipe: Recipe) -> str:
    """One of "bundled", "stored" and "absent"."""
    path = own_weights(recipe)
    return "absent" if path is None else "bundled" if path == recipe.bundled else "stored"
