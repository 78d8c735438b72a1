"""Networks whose tensors have the same names and shapes, and what tells whose a file is.

An FCN-8s and one trained at once differ by the scales of two layers, which pytorch-fcn keeps in its code; the nets of
NYUDv2's colours and of its HHA images by their input. The wrong one runs, and labels wrongly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fcnseg.errors import WeightsMismatchError
from fcnseg.recipes import Recipe
from fcnseg.weights.matching import Match, match
from fcnseg.weights.mismatch import fitting_recipes
from fcnseg.weights.shipped import shipped_recipes
from fcnseg.weights.tensors import TensorFile, quoted

ARCHITECTURES = {"fcn8s": False, "fcn8satonce": True}
"""Names of pytorch-fcn's classes, in small letters: True if trained at once."""

AT_ONCE, STAGED = "an FCN-8s trained at once", "an FCN-8s trained in stages"


@dataclass(frozen=True)
class Evidence:
    """A file's statement about itself, in words: True if it was trained at once, and the shipped recipes it may be of;
    None and () where it says nothing."""

    words: str
    at_once: bool | None = None
    recipes: tuple[Recipe, ...] = ()


def told_by(file: TensorFile) -> Evidence | None:
    """Return what tells the network of a file: our own metadata, else the `arch` of a checkpoint, else a known name."""
    owner = file.metadata.get("recipe")
    if owner is not None:
        owners = [recipe for recipe in shipped_recipes() if recipe.name == owner]
        return _of_recipes(f"its metadata names {quoted(owner)}", owners)
    arch = file.metadata.get("arch", "")
    if _letters(arch) in ARCHITECTURES:
        return Evidence(f"its `arch` is {quoted(arch)}", ARCHITECTURES[_letters(arch)])
    name = _letters(file.path.name)
    known = [(len(source), recipe) for recipe in shipped_recipes() for source in _known_names(recipe) if source in name]
    if known:
        longest = max(length for length, _ in known)
        owners = [recipe for length, recipe in known if length == longest]
        return _of_recipes(f"its name is that of weights of {', '.join(r.name for r in owners)}", owners)
    return Evidence("its name says at-once", at_once=True) if "atonce" in name else None


def _of_recipes(words: str, recipes: list[Recipe]) -> Evidence:
    kinds = {_at_once(recipe) for recipe in recipes}
    return Evidence(words, kinds.pop() if len(kinds) == 1 else None, tuple(recipes))


def refuse_lookalike(file: TensorFile, evidence: Evidence | None, recipe: Recipe, matched: Match) -> None:
    """Raise WeightsMismatchError for a file that is of another network than the recipe's, as `evidence` tells."""
    if evidence is None or recipe.name in [other.name for other in evidence.recipes]:
        return
    fits = f"{file.path} fits {recipe.name}, but {evidence.words}"
    rename = "" if {"recipe", "arch"} & set(file.metadata) else ", or rename the file if its name is wrong"
    if evidence.recipes and not any(_inputs(other) == _inputs(recipe) for other in evidence.recipes):
        todo = f"use --model {evidence.recipes[0].name}{rename}"
        raise WeightsMismatchError(f"{fits}, which takes other images; {todo}")
    own = _at_once(recipe)
    if None not in (own, evidence.at_once) and own != evidence.at_once and not _has_scales(matched):
        others = [other.name for other in fitting_recipes(file) if _at_once(other) == evidence.at_once]
        todo = f"use --model {others[0]}" if others else f"use a recipe {_keys(evidence.at_once)}"
        kinds = f"it is {_kind(evidence.at_once)}, and {recipe.name} {_kind(own)}"
        raise WeightsMismatchError(f"{fits}: {kinds}; {todo}{rename}")


def doubts(file: TensorFile, recipe: Recipe) -> list[str]:
    """Return lines about the networks that a file without evidence fits as well as its own."""
    at_once = _at_once(recipe)
    others = [
        other.name for other in fitting_recipes(file) if _inputs(other) != _inputs(recipe) or _at_once(other) != at_once
    ]
    if not others and at_once is not None and not file.format.startswith("caffe"):
        others = [] if _has_scales(match(file, recipe)) else [_kind(not at_once)]
    if not others:
        return []
    compare = "compare the labels of both with ground truth (`fcnseg score`) before you trust them"
    return [f"nothing in the file tells {recipe.name} from {' or '.join(others)}, which it fits as well: {compare}"]


def _inputs(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the kinds of images that a network takes."""
    return [(image.modality, image.order) for stream in recipe.streams for image in stream.inputs]


def _at_once(recipe: Recipe) -> bool | None:
    """Tell whether a recipe is that of a net trained at once; None without skip layers at stride 8."""
    architecture = recipe.architecture
    return bool(architecture.skip_scales) if (architecture.backbone, architecture.stride) == ("vgg16", 8) else None


def _keys(at_once: bool | None) -> str:
    return "with `skip_scales`" if at_once else "without `skip_scales`"


def _kind(at_once: bool | None) -> str:
    return AT_ONCE if at_once else STAGED


def _has_scales(matched: Match) -> bool:
    """Tell whether the file itself holds the scales of its skip layers."""
    return any(name.startswith("scale_") for name in matched.canonical)


def _known_names(recipe: Recipe) -> set[str]:
    """Return the names, without endings, of a recipe's released files."""
    return {_letters(source.file.rpartition(".")[0]) for source in recipe.weights}


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
