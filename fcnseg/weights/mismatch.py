"""Find the shipped recipes that a file fits, and word the error for a file that does not fit."""

from __future__ import annotations

import shlex
from dataclasses import replace

from fcnseg.errors import WeightsMismatchError
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import Recipe
from fcnseg.weights.matching import CLASSIFIER_LAYERS, Match, in_our_names, match
from fcnseg.weights.shipped import shipped_recipes
from fcnseg.weights.tensors import TensorFile, quoted

MOST_CLASSES = 65535
"""A label map holds no more."""


def fitting_recipes(file: TensorFile, *, transplant: bool = False) -> list[Recipe]:
    """Return the shipped recipes that a file fits by names and shapes, or whose training it starts (`transplant`)."""
    return [recipe for recipe in shipped_recipes() if _fits(file, recipe, transplant)]


def _fits(file: TensorFile, recipe: Recipe, transplant: bool) -> bool:
    matched = match(file, recipe, transplant=transplant)
    return not matched.faults and transplant == any(name.startswith("score_") for name in matched.initialised)


def mismatch(file: TensorFile, recipe: Recipe, matched: Match, transplant: bool) -> WeightsMismatchError:
    """Return the error for a file that does not fit: counts and first names in one line, every tensor in `faults`."""
    parts = []
    for kind in ("missing", "misshapen", "left over"):
        names = [quoted(fault.name) for fault in matched.faults if fault.kind == kind]
        if names:
            parts.append(f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    message = f"{file.path} does not fit {recipe.name}: {', '.join(parts)}; {_hint(file, recipe, matched, transplant)}"
    return WeightsMismatchError(message, tuple(map(str, matched.faults)))


def _hint(file: TensorFile, recipe: Recipe, matched: Match, transplant: bool) -> str:
    """Return the most likely remedy."""
    classifier = any(name.startswith(CLASSIFIER_LAYERS) for name in in_our_names(matched.source))
    if classifier and not transplant and _fits(file, recipe, transplant=True):
        return "it is an ImageNet classifier: --transplant makes a start for training of it"
    whole = fitting_recipes(file)
    if whole:
        return f"it fits {', '.join(recipe.name for recipe in whole)}: use --model {whole[0].name}"
    starts = fitting_recipes(file, transplant=True) if classifier else []
    if starts:
        return f"it is an ImageNet classifier: --transplant makes a start for training of it, e.g. of {starts[0].name}"
    for candidate in (recipe, *shipped_recipes()):
        counts = _class_counts(file, candidate)
        if counts and _fits(file, with_classes(candidate, counts), transplant):
            counted = _counts_in_words(candidate, counts)
            return f"{counted}: copy the recipe {shlex.quote(str(candidate.path))} and name its own `classes` there"
    return f"`fcnseg weights inspect {shlex.quote(str(file.path))}` shows what it holds"


def _class_counts(file: TensorFile, recipe: Recipe) -> list[int]:
    """Return the number of classes of each head by the file's score layers; an empty list if one has none."""
    tensors, suffix = match(file, recipe).canonical, recipe.streams[0].suffix
    biases = [tensors.get(f"score_fr{suffix}{head.suffix}.bias") for head in recipe.heads]
    counts = [0 if bias is None else bias.size for bias in biases]
    return counts if all(0 < n <= MOST_CLASSES for n in counts) else []


def _counts_in_words(recipe: Recipe, counts: list[int]) -> str:
    """Compare the counts of a file with those of a recipe: "it has 12 classes, voc-fcn8s 21"."""
    has, instead = (" and ".join(map(str, n)) for n in (counts, [head.labels.classes for head in recipe.heads]))
    return f"it has {has} class{'' if counts == [1] else 'es'}, {recipe.name} {instead}"


def with_classes(recipe: Recipe, counts: list[int]) -> Recipe:
    """Return a recipe with these numbers of classes in its heads, under made-up names."""
    heads = [
        replace(head, labels=LabelSpace(tuple(map(str, range(n))), tuple(voc_color(i % 256) for i in range(n)), 65535))
        for head, n in zip(recipe.heads, counts, strict=True)
    ]
    return replace(recipe, heads=tuple(heads))
