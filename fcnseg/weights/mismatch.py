"""Find the shipped recipes that a file fits, and word the error for a file that does not fit."""

from __future__ import annotations

from collections.abc import Iterator

from fcnseg.errors import FcnsegError, WeightsMismatchError
from fcnseg.recipes import Recipe, find_recipe, recipe_names
from fcnseg.weights.matching import CLASSIFIER_LAYERS, Match, match
from fcnseg.weights.tensors import TensorFile
from fcnseg.weights.torchvision_vgg import renamed


def fitting_recipes(file: TensorFile, *, transplant: bool = False) -> list[str]:
    """Return the shipped recipes that a file fits by names and shapes, or whose training it starts (`transplant`)."""
    return [recipe.name for recipe in _shipped() if _fits(file, recipe, transplant)]


def _shipped() -> Iterator[Recipe]:
    for name in recipe_names():
        try:
            yield find_recipe(name)
        except FcnsegError:  # a recipe that cannot be read is no advice
            continue


def _fits(file: TensorFile, recipe: Recipe, transplant: bool) -> bool:
    matched = match(file, recipe, transplant=transplant)
    return not matched.faults and transplant == any(name.startswith("score_") for name in matched.initialised)


def mismatch(file: TensorFile, recipe: Recipe, matched: Match, transplant: bool) -> WeightsMismatchError:
    """Return the error for a file that does not fit: counts and first names in one line, every tensor in `faults`."""
    parts = []
    for kind in ("missing", "misshapen", "left over"):
        faults = (f.removeprefix(f"{kind}: ") for f in matched.faults if f.startswith(f"{kind}: "))
        names = [fault.split()[0].rstrip(",") for fault in faults]
        if names:
            parts.append(f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    message = f"{file.path} does not fit {recipe.name}: {', '.join(parts)}; {_hint(file, recipe, transplant)}"
    return WeightsMismatchError(message, matched.faults)


def _hint(file: TensorFile, recipe: Recipe, transplant: bool) -> str:
    """Return the most likely remedy."""
    classifier = any(name.startswith(CLASSIFIER_LAYERS) for name in renamed(file.tensors))
    if classifier and not transplant and _fits(file, recipe, transplant=True):
        return "it is an ImageNet classifier: --transplant makes a start for training of it"
    whole = fitting_recipes(file)
    if whole:
        return f"it fits {', '.join(whole)}: use --model {whole[0]}"
    starts = fitting_recipes(file, transplant=True) if classifier else []
    if starts:
        return f"it is an ImageNet classifier: --transplant makes a start for training of it, e.g. of {starts[0]}"
    return "`fcnseg weights inspect FILE` shows what it holds"
