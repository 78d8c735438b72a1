"""The store of imported weights, in the user's data folder or `FCNSEG_HOME`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fcnseg.errors import WeightsError
from fcnseg.io.user_folders import data_folder
from fcnseg.recipes import Recipe


def store_folder() -> Path:
    """Return the folder of imported weights; it need not exist yet."""
    return data_folder() / "weights"


def stored_path(name: str) -> Path:
    """Return the path in the store for the weights of the recipe of that name."""
    return store_folder() / f"{quote(name, safe=' ')}.safetensors"


def own_weights(recipe: Recipe) -> Path | None:
    """Return the weights that a recipe runs with when none are given: bundled, else stored, else None."""
    if recipe.bundled and recipe.bundled.is_file():
        return recipe.bundled
    path = stored_path(recipe.name)
    return path if path.is_file() else None


def find_weights(recipe: Recipe, weights: Path | None = None) -> Path:
    """Return the given file, else the recipe's own. Raises WeightsError, which says how to get weights, for none."""
    path = weights or own_weights(recipe)
    if path is None:
        fetch = f"`fcnseg weights pull {recipe.name}` fetches them (to {stored_path(recipe.name)}), or "
        todo = f"{fetch if any(s.url for s in recipe.weights) else ''}name a file with --weights FILE"
        raise WeightsError(f"there are no weights of {recipe.name} here; {todo}")
    return path


def available(recipe: Recipe) -> str:
    """Return "bundled", "stored" or "absent"."""
    path = own_weights(recipe)
    return "absent" if path is None else "bundled" if path == recipe.bundled else "stored"
