"""Opening data sets: the contract that every one keeps, and what is refused by name."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from fcnseg.errors import SettingsError, SourceError
from fcnseg.recipes import find_recipe
from fcnseg.training.datasets import KINDS, open_samples, own_labels
from tests.training.data_sets import (
    CATEGORIES,
    COPIES,
    SIZE,
    camvid,
    context,
    labels_of,
    mat,
    nyud,
    nyud_original,
    pairs,
    pairs_inside,
    pairs_listed,
    photo,
    sbd,
    siftflow,
    text,
    voc,
)
from tests.training.datasets.helpers import (
    BLUE,
    GREEN,
    VOC,
    described,
    drawn_in,
    fault,
    folder_of,
    own_recipe,
    read,
    reading_fault,
)

BROKEN_FILES = {
    "pairs": (pairs, "train/images/a.png", "train/labels/b/c.png"),
    "pairs-inside": (pairs_inside, "images/train/a.png", "labels/train/b/c.png"),
    "pairs-listed": (pairs_listed, "images/b/c.jpg", "labels/a.png"),
    "camvid": (camvid, "train/0006R0_2.png", "trainannot/0001TP_1.png"),
    "voc": (
        voc,
        "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg",
        "VOCdevkit/VOC2012/SegmentationClass/2007_000039.png",
    ),
    "sbd": (sbd, "benchmark_RELEASE/dataset/img/s2.jpg", "benchmark_RELEASE/dataset/cls/v1.mat"),
    "context": (context, "VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg", "trainval/2008_000002.mat"),
    "siftflow": (
        siftflow,
        f"Images/{CATEGORIES}/coast_natu975.jpg",
        f"GeoLabels/{CATEGORIES}/forest_cdmc304.mat",
    ),
    "nyud": (nyud, "data/hha/img_5003.png", "segmentation/img_5003.mat"),
}
"""An image and a label map of the training split of each."""


@pytest.mark.parametrize("name", COPIES)
def test_every_data_set_gives_its_images_and_labels(name: str, tmp_path: Path) -> None:
    kind, write = COPIES[name]
    copy = write(tmp_path / "data")
    recipe = find_recipe(copy.model)
    for split, names in copy.splits.items():
        samples = open_samples(copy.data, recipe, split)
        assert list(samples.names) == names
        assert len(samples) == len(names)
        for i, sample_name in enumerate(names):
            sample = samples[i]
            assert sample.name == sample_name
            assert set(sample.inputs) == set(recipe.modalities)
            assert set(sample.labels) == {head.name for head in recipe.heads}
            for head, values in copy.labels[sample_name].items():
                assert sample.labels[head].dtype == np.uint8
                np.testing.assert_array_equal(sample.labels[head], values)
            size = next(iter(sample.labels.values())).shape
            for modality, pixels in sample.inputs.items():
                assert pixels.shape == (*size, 1 if modality == "depth" else 3)
                assert pixels.dtype == (np.float32 if modality == "depth" else np.uint8)
        named = open_samples(copy.data, recipe, split, kind)
        assert list(named.names) == names
    assert set(KINDS) >= {kind for kind, _ in COPIES.values()}


@pytest.mark.parametrize("name", COPIES)
def test_training_and_validation_do_not_overlap(name: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    train, val = (open_samples(copy.data, find_recipe(copy.model), split) for split in ("train", "val"))
    seen = {train[i].inputs[next(iter(train[i].inputs))].tobytes() for i in range(len(train))}
    if name != "hdf5-groups":  # of the same made-up pixels
        assert not seen & {val[i].inputs[next(iter(val[i].inputs))].tobytes() for i in range(len(val))}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("pairs", "fork"),
        ("nyud-original", "fork"),
        ("hdf5-split", "fork"),
        pytest.param("nyud-original", "spawn", marks=pytest.mark.slow),
    ],
)
def test_worker_processes_read_the_same(name: str, method: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    samples: Any = open_samples(copy.data, find_recipe(copy.model), "train")
    samples[0]  # opens files before the fork
    loader = DataLoader(
        samples, batch_size=None, num_workers=2, multiprocessing_context=method, collate_fn=pickle.dumps
    )
    for i, sample in enumerate(pickle.loads(each) for each in loader):
        for head, values in sample.labels.items():
            np.testing.assert_array_equal(values, copy.labels[copy.splits["train"][i]][head])


@pytest.mark.parametrize("write", [voc, sbd, pairs])
def test_folders_may_be_called_anything(write: Callable[[Path], Any], tmp_path: Path) -> None:
    copy = write(tmp_path / "{own} %s ünï")
    assert len(open_samples(copy.data, VOC, "train")) == len(copy.splits["train"])


def test_a_path_that_cannot_be_looked_at_is_named() -> None:
    name = "x" * 300
    assert reading_fault(Path(name)).startswith(f"{name} cannot be read: ")
    with pytest.raises(SourceError, match="cannot be read"):
        own_labels(Path(name))


@pytest.mark.parametrize("which", [1, 2], ids=["image", "labels"])
@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_missing_file_is_named_before_the_first_step(name: str, which: int, tmp_path: Path) -> None:
    write, path = BROKEN_FILES[name][0], BROKEN_FILES[name][which]
    copy = write(tmp_path)  # type: ignore[operator]
    (tmp_path / str(path)).unlink()
    assert re.search(rf"\b{re.escape(Path(str(path)).stem)}\b", fault(copy.data, copy.model))


@pytest.mark.parametrize("which", [1, 2], ids=["image", "labels"])
@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_damaged_file_is_named(name: str, which: int, tmp_path: Path) -> None:
    write, path = BROKEN_FILES[name][0], BROKEN_FILES[name][which]
    copy = write(tmp_path)  # type: ignore[operator]
    (tmp_path / str(path)).write_bytes(b"no such thing")
    said = fault(copy.data, copy.model, read=path.endswith(".mat"))  # type: ignore[union-attr]
    assert str(tmp_path / str(path)) in said


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_another_size_is_refused(name: str, tmp_path: Path) -> None:
    write, image, _ = BROKEN_FILES[name]
    copy = write(tmp_path)  # type: ignore[operator]
    photo(tmp_path / str(image), "other", (SIZE[0] + 1, SIZE[1]))
    said = fault(copy.data, copy.model, read=name == "sbd")
    assert str(tmp_path / str(image)) in said
    assert f"{SIZE[1]} x {SIZE[0] + 1}" in said
    assert f"{SIZE[1]} x {SIZE[0]}" in said


@pytest.mark.parametrize(
    ("write", "path", "values", "value"),
    [
        (sbd, "benchmark_RELEASE/dataset/cls/s1.mat", {"GTcls": {"Segmentation": np.full(SIZE, 21, np.uint8)}}, 21),
        (context, "trainval/2008_000002.mat", {"LabelMap": np.full(SIZE, 460, np.uint16)}, 460),
        (siftflow, f"SemanticLabels/{CATEGORIES}/coast_natu975.mat", {"S": np.full(SIZE, 34, np.uint8)}, 34),
        (siftflow, f"GeoLabels/{CATEGORIES}/coast_natu975.mat", {"S": np.full(SIZE, 4, np.int16)}, 4),
        (nyud, "segmentation/img_5003.mat", {"segmentation": np.full(SIZE, 41, np.uint16)}, 41),
    ],
)
def test_wrong_ranges_of_published_data_sets(
    write: Callable[[Path], Any], path: str, values: dict[str, Any], value: int, tmp_path: Path
) -> None:
    copy = write(tmp_path)
    mat(tmp_path / path, **values)
    assert f"{tmp_path / path} has label {value} on {SIZE[0] * SIZE[1]} pixels" in fault(
        copy.data, copy.model, read=True
    )


@pytest.mark.parametrize(
    ("write", "path", "model"),
    [
        (nyud, "segmentation/img_5003.mat", "nyud-fcn32s-color"),
        (siftflow, f"SemanticLabels/{CATEGORIES}/coast_natu975.mat", "siftflow-fcn8s"),
    ],
)
def test_labels_count_from_one_whatever_their_variable(
    write: Callable[[Path], Any], path: str, model: str, tmp_path: Path
) -> None:
    write(tmp_path)
    mat(tmp_path / path, own=np.full(SIZE, 3, np.uint8))
    first = next(iter(open_samples(tmp_path, find_recipe(model), "train")[0].labels.values()))
    assert (first == 2).all()


@pytest.mark.parametrize("name", ["voc", "context", "siftflow", "nyud", "nyud-original", "hdf5-groups", "hdf5-split"])
def test_an_unknown_split_is_named(name: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    assert "night" in fault(copy.data, copy.model, "night")


@pytest.mark.parametrize("name", ["siftflow", "nyud"])
def test_lists_that_overlap_are_refused(name: str, tmp_path: Path) -> None:
    copy = COPIES[name][1](tmp_path)
    twin = copy.splits["train"][0].removeprefix("img_")
    with next(path for path in (tmp_path / "val.txt", tmp_path / "test.txt") if path.is_file()).open("a") as file:
        file.write(f"{twin}\n")
    assert twin in fault(copy.data, copy.model)


@pytest.mark.parametrize("name", ["voc", "sbd", "context", "siftflow"])
def test_inputs_that_a_data_set_has_not(name: str, tmp_path: Path) -> None:
    kind, write = COPIES[name]
    write(tmp_path)
    with pytest.raises((SettingsError, SourceError)):
        open_samples(tmp_path, find_recipe("nyud-fcn32s-color-hha"), "train", kind)


def test_what_is_understood_is_said(tmp_path: Path) -> None:
    (tmp_path / "stuff").mkdir()
    said = fault(tmp_path, "voc-fcn8s")
    assert all(kind in said for kind in KINDS)
    assert "does not exist" in fault(tmp_path / "nothing", "voc-fcn8s")
    with pytest.raises(SettingsError, match="pairs"):
        open_samples(tmp_path, VOC, "train", "kitti")


@pytest.mark.parametrize("write", [nyud, nyud_original, siftflow])
def test_published_data_sets_leave_classes_to_the_recipe(write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path)
    text(tmp_path / "classes.txt", ["prose of the release"])
    assert own_labels(tmp_path) is None


@pytest.mark.parametrize(
    "others",
    [["hay", "field", "road"], ["field", "hay"], ["hay"], ["hay", "field", "void"]],
    ids=["more", "swapped", "fewer", "another void"],
)
def test_a_data_set_of_other_classes_is_refused(others: list[str], tmp_path: Path) -> None:
    maps = {name: labels_of(name, 2) for name in "ab"}
    one, other = (folder_of(tmp_path / name, maps) for name in ("one", "other"))
    text(one / "classes.txt", ["hay", "field"])
    assert len(open_samples(other, own_recipe(one), "train")) == 2  # says nothing of its classes
    text(other / "classes.txt", others)
    said = reading_fault(other, own_recipe(one))
    assert str(other) in said
    assert "expected" in said


def test_each_data_set_is_read_by_its_own_colours(tmp_path: Path) -> None:
    values = np.minimum(labels_of("a", 2), 1)
    colors = {"one": (BLUE, GREEN), "other": (GREEN, BLUE)}
    for name, pair in colors.items():
        folder_of(tmp_path / name, {"a": values}, drawn_in(*pair))
        described(tmp_path / name, 255, ("hay", pair[0]), ("field", pair[1]))
        found = read(open_samples(tmp_path / name, own_recipe(tmp_path / "one"), "train"))
        np.testing.assert_array_equal(found["a"], values)
