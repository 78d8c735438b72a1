"""The colours of classes whose data set names them alone: those that its label maps are drawn in."""

from __future__ import annotations

from dataclasses import replace

from fcnseg.io.label_maps import read_map
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.training.datasets.images import LabelledImages
from fcnseg.training.samples import Samples


def drawn_labels(labels: LabelSpace, samples: Samples) -> LabelSpace:
    """The classes that a data set brings, in the colours of its first label map's palette, so that what is predicted
    later is drawn alike. As they are where colours are said, or the palette has not one for each class, or only levels
    of grey. Raises LabelsError for a map that cannot be read."""
    said = labels.colors != tuple(voc_color(i % 256) for i in range(labels.classes))
    if said or not isinstance(samples, LabelledImages):
        return labels
    (place,) = samples.items[0].labels.values()
    drawn = read_map(place).palette[: labels.classes]
    grey = all(color == (i, i, i) for i, color in enumerate(drawn))
    return labels if grey or len(set(drawn)) < labels.classes else replace(labels, colors=drawn)
