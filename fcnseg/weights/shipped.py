"""The shipped recipes, read once: weights are held against each of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fcnseg.errors import FcnsegError
from fcnseg.recipes import Recipe, find_recipe, recipe_folder, recipe_names


def shipped_recipes() -> tuple[Recipe, ...]:
    """Return the shipped recipes by name; one that cannot be read is left out: it is no advice."""
    return _recipes_in(recipe_folder())


@cache
def _recipes_in(folder: Path) -> tuple[Recipe, ...]:  # noqa: ARG001 - tests have recipes in other folders
    recipes = []
    for name in recipe_names():
        try:
            recipes.append(find_recipe(name))
        except FcnsegError:
            continue
    return tuple(recipes)
