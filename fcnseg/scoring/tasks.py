"""Tasks of a score: the pairs of each head, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fcnseg.errors import SettingsError
from fcnseg.io.conventions import convention_of
from fcnseg.io.pairing import Pairing, pair_sources
from fcnseg.io.parts import Part
from fcnseg.io.run_records import key_lookup
from fcnseg.recipes import HeadRecipe
from fcnseg.scoring.counting import Comparison
from fcnseg.scoring.labelling import MAX_CLASSES, check_classes, locate_heads, recorded_classes
from fcnseg.scoring.options import ScoreOptions

BANDS = (1, 2, 3, 5, 10, 20, 40)
"""Widths, px, of the bands around boundaries that are measured."""


@dataclass(frozen=True)
class Task:
    """One head to score: its pairs, and how they are compared. `model` is the recipe's name.

    Classes in `excluded_if_absent` are in no mean if the ground truth has none of them.
    """

    model: str
    head: HeadRecipe
    pairing: Pairing
    comparison: Comparison
    excluded_if_absent: frozenset[int]


def plan(predictions: str, truth: str, options: ScoreOptions) -> tuple[Task, ...]:
    """Return the task of each head, before any map is read. Raises as `score`."""
    labelling = options.labelling(predictions)
    convention = convention_of(labelling.dataset)
    recorded = recorded_classes(predictions)
    tasks = []
    for head, predicted_in, truth_in in locate_heads(labelling, predictions, truth, options.head):
        space = head.labels
        if space.classes > MAX_CLASSES:
            raise SettingsError(f"{head.name} has {space.classes} classes; at most {MAX_CLASSES} can be scored")
        if not options.pred_label_map:
            check_classes(predictions, recorded.get(head.name, []), space, labelling.colored)
        how = options.pairing(
            excluded=convention.excluded_images,
            allow_extra=options.allow_extra,
            in_part=_part_filter(predicted_in, options),
        )
        pairing = pair_sources(predicted_in, truth_in, how)
        if not pairing.pairs and options.num_parts > 1:
            raise SettingsError(f"part {options.part_id} of {options.num_parts} has no pair; take fewer parts")
        excluded = frozenset(i for i, name in enumerate(space.names) if name in convention.excluded_classes)
        comparison = Comparison(*options.encodings(space, labelling.colored), BANDS if options.boundary else ())
        tasks.append(Task(labelling.model, head, pairing, comparison, excluded))
    return tuple(tasks)


def _part_filter(predictions: str, options: ScoreOptions) -> Callable[[str], bool]:
    """Return a function that tells, by the name of a label map, if its image is in the part to be scored."""
    if options.num_parts == 1:
        return lambda name: True
    part, key_of = Part(options.part_id, options.num_parts), key_lookup(predictions, options.pred_pattern)
    return lambda name: part.has(key_of(name))
