"""What CVAT and labelme export is trained on as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import SourceError
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.recipes import HeadRecipe, find_recipe
from fcnseg.training.datasets import open_samples, own_labels
from tests.training.data_sets import PALETTE, photo, text

NAMES = ("a", "b", "c", "d", "e")
COLORS = ((0, 0, 0), (250, 50, 83), (61, 61, 245))


def labels_of(name: str) -> np.ndarray:
    return (np.arange(12 * 17).reshape(12, 17) + ord(name)) % 3


def exported(folder: Path, tool: str) -> Path:
    for name in NAMES:
        photo(folder / "JPEGImages" / f"{name}.jpg", name)
        values = labels_of(name).astype(np.uint8)
        if tool == "cvat":
            image = Image.fromarray(np.array(COLORS, np.uint8)[values])
        else:
            values[0, 0] = 255
            image = Image.fromarray(values)
            image.putpalette(PALETTE)
        place = folder / ("SegmentationClass" if tool == "cvat" else "SegmentationClassPNG") / f"{name}.png"
        place.parent.mkdir(exist_ok=True)
        image.save(place)
    if tool == "cvat":
        lines = (f"{name}:{','.join(map(str, color))}::" for name, color in zip("xyz", COLORS, strict=True))
        text(folder / "labelmap.txt", ["# label:color_rgb:parts:actions", *lines])
        text(folder / "ImageSets/Segmentation/default.txt", NAMES)
    else:
        text(folder / "class_names.txt", ["_background_", "cat", "dog"])
        text(folder / "SegmentationClassVisualization/none.txt", [])
    photo(folder / "JPEGImages" / "later.jpg", "later")  # not annotated yet
    return folder


@pytest.mark.parametrize(
    ("tool", "names"), [("cvat", ("x", "y", "z")), ("labelme", ("_background_", "cat", "dog"))], ids=str
)
def test_the_export_of_a_tool_is_read_as_it_is(tmp_path: Path, tool: str, names: tuple[str, ...]) -> None:
    data = exported(tmp_path / tool, tool)
    recipe = find_recipe("street-fcn8s")
    labels = own_labels(data, recipe)
    assert labels is not None
    assert labels.names == names
    assert labels.colors == (COLORS if tool == "cvat" else tuple(map(voc_color, range(3))))
    object.__setattr__(recipe, "heads", (HeadRecipe("labels", LabelSpace(labels.names, labels.colors, 255)),))
    train, val = (open_samples(data, recipe, split) for split in ("train", "val"))
    assert sorted([*train.names, *val.names]) == list(NAMES)
    assert len(val.names) >= 1
    for sample in map(train.__getitem__, range(len(train))):
        expected = labels_of(sample.name).astype(np.uint8)
        if tool == "labelme":
            expected[0, 0] = 255
        assert np.array_equal(sample.labels["labels"], expected)


def test_lists_are_the_splits_and_what_is_missing_is_named(tmp_path: Path) -> None:
    data = exported(tmp_path, "cvat")
    recipe = find_recipe("street-fcn8s")
    labels = own_labels(data, recipe)
    assert labels is not None
    object.__setattr__(recipe, "heads", (HeadRecipe("labels", labels),))
    text(data / "ImageSets/Segmentation/train.txt", ["a", "b.jpg"])
    assert open_samples(data, recipe, "train").names == ("a", "b")
    with pytest.raises(SourceError, match=r"no list .*val\.txt"):
        open_samples(data, recipe, "val")
    text(data / "ImageSets/Segmentation/val.txt", ["later"])
    with pytest.raises(SourceError, match="names later, which has no label map"):
        open_samples(data, recipe, "val")
    (data / "JPEGImages/a.jpg").unlink()
    with pytest.raises(SourceError, match=r"a\.png has no image"):
        open_samples(data, recipe, "train")
