"""Colours of classes, from the palette of a data set's label maps."""

from __future__ import annotations

from dataclasses import replace

from fcnseg.io.label_maps import read_map
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.training.datasets.images import LabelledImages


def with_palette_colors(labels: LabelSpace, samples: LabelledImages) -> LabelSpace:
    """Return the classes in the colours of the first label map's palette, so that predictions are drawn alike.

    Classes stay as they are if they have colours of their own, or if the palette lacks a colour for each class or is a
    grey ramp. Raises LabelsError for a map that cannot be read.
    """
    if labels.colors != tuple(voc_color(i % 256) for i in range(labels.classes)):
        return labels
    (location,) = samples.locations[0].labels.values()
    palette = read_map(location).palette[: labels.classes]
    grey = all(color == (i, i, i) for i, color in enumerate(palette))
    return labels if grey or len(set(palette)) < labels.classes else replace(labels, colors=palette)
