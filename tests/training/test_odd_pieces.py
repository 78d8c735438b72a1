"""What people's own data sets hold besides images and labels, or instead: read as meant, or named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from fcnseg.errors import FcnsegError, SettingsError, SourceError
from fcnseg.labels import LabelSpace
from fcnseg.recipes import Recipe, find_recipe
from fcnseg.training.datasets import open_samples, own_labels
from fcnseg.training.datasets.images import JoinedImages
from fcnseg.training.preparation import with_labels
from fcnseg.training.samples import Samples
from tests.training.data_sets import (
    CATEGORIES,
    SIZE,
    Array,
    camvid,
    hdf5_groups,
    indexed,
    labels_of,
    mat,
    matlab73,
    nyud,
    nyud_original,
    pairs,
    pairs_listed,
    photo,
    pixels_of,
    put,
    sbd,
    siftflow,
    text,
    voc,
)

VOC = find_recipe("voc-fcn8s")


def own_recipe(data: Path) -> Recipe:
    """A recipe with the classes that the data set brings."""
    return with_labels(find_recipe("street-fcn8s"), own_labels(data), data)


def fault(data: Path, recipe: Recipe = VOC, split: str = "train", kind: str | None = None) -> str:
    """The one line that opening a split and reading all of it ends with."""
    with pytest.raises(FcnsegError) as caught:
        read(open_samples(data, recipe, split, kind))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(samples: Samples) -> dict[str, Array]:
    """The label maps by name."""
    return {name: samples[i].labels["labels"] for i, name in enumerate(samples.names)}


def save_grey(values: Array, path: Path) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


def folder_of(folder: Path, maps: dict[str, Array], save: Callable[[Array, Path], None] = save_grey) -> Path:
    """Images of random pixels with these label maps, all for training."""
    for name, values in maps.items():
        photo(folder / "images" / f"{name}.png", name, values.shape[:2])
        (folder / "labels").mkdir(exist_ok=True)
        save(values, folder / "labels" / f"{name}.png")
    text(folder / "train.txt", maps)
    return folder


def drawn_in(*colors: tuple[int, int, int]) -> Callable[[Array, Path], None]:
    """What saves label maps in these colours."""
    return lambda values, path: Image.fromarray(np.array(colors, np.uint8)[values]).save(path)


# ---------------------------------------------------------------------- names and folders


@pytest.mark.parametrize("write", [voc, sbd, pairs])
def test_folders_may_be_called_anything(write: Callable[[Path], Any], tmp_path: Path) -> None:
    copy = write(tmp_path / "{own} %s ünï")
    assert len(open_samples(copy.data, VOC, "train")) == len(copy.splits["train"])


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_link_to_nowhere_is_named(side: str, tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    link = tmp_path / side / "images/z.png"
    link.symlink_to(tmp_path / "nowhere.png")
    indexed(tmp_path / side / "labels/z.png", labels_of("z", 21))
    assert f"{link} cannot be read" in fault(copy.data)


def test_lists_name_images_of_any_suffix(tmp_path: Path) -> None:
    copy = pairs_listed(tmp_path)
    (tmp_path / "images/a.jpg").rename(tmp_path / "images/a.jfif")
    text(tmp_path / "train.txt", ["a.jfif"])
    assert open_samples(copy.data, VOC, "train").names == ("a",)


@pytest.mark.parametrize("name", ["notes.txt", "._train.txt"])
def test_other_texts_beside_the_lists_of_nyud(name: str, tmp_path: Path) -> None:
    copy = nyud(tmp_path, "nyud-fcn32s-color")
    (tmp_path / name).write_bytes(b"one\none\n\xff")
    assert list(open_samples(copy.data, find_recipe(copy.model), "train").names) == copy.splits["train"]


def test_a_folder_called_segmentation_is_not_nyud_yet(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    (tmp_path / "segmentation").mkdir()
    text(tmp_path / "classes.txt", range(21))
    assert own_labels(tmp_path) is not None
    assert list(open_samples(copy.data, own_recipe(tmp_path), "train").names) == copy.splits["train"]


def test_a_folder_is_no_hdf5_file(tmp_path: Path) -> None:
    assert f"{tmp_path} is no file" in fault(tmp_path, kind="hdf5")


def test_a_path_that_cannot_be_looked_at_is_named() -> None:
    name = "x" * 300
    assert fault(Path(name)).startswith(f"{name} cannot be read: ")
    with pytest.raises(SourceError, match="cannot be read"):
        own_labels(Path(name))


def test_lists_name_each_image_once(tmp_path: Path) -> None:
    camvid(tmp_path)
    text(tmp_path / "train.txt", [f"{root}/0001TP_1.png {root}/0001TP_1.png" for root in ("/a", "/b")])
    assert "names 0001TP_1 in" in fault(tmp_path, find_recipe("street-fcn8s"))


# ---------------------------------------------------------------------- label maps


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


@pytest.mark.parametrize(
    ("name", "variables", "said"),
    [
        ("classMapping40.mat", {"mapClass": np.full((1, 80), 41)}, "has the class 41"),
        ("splits.mat", {"trainNdxs": np.array([[1], [1]]), "testNdxs": np.array([[2]])}, "one twice"),
        ("splits.mat", {"trainNdxs": np.zeros((0, 1)), "testNdxs": np.array([[2]])}, "no image for train"),
        ("splits.mat", {"trainNdxs": np.array([[0]]), "testNdxs": np.array([[2]])}, "counts from 0"),
    ],
)
def test_what_lies_beside_the_file_of_nyud_is_checked(
    name: str, variables: dict[str, Array], said: str, tmp_path: Path
) -> None:
    copy = nyud_original(tmp_path)
    mat(tmp_path / name, **variables)
    found = fault(copy.data, find_recipe(copy.model))
    assert name in found
    assert said in found


def test_probabilities_are_no_ground_truth(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    (tmp_path / "train/labels/a.png").unlink()
    hot = np.eye(21, dtype=np.float32)[np.minimum(copy.labels["a"]["labels"], 20)]
    np.save(tmp_path / "train/labels/a.npy", hot.transpose(2, 0, 1))
    assert "a.npy: holds float32 21 x 12 x 17; ground truth is whole numbers" in fault(copy.data)
    volume = hdf5_groups(tmp_path)
    with h5py.File(volume.data, "r+") as file:
        del file["train/labels"]
        file["train/labels"] = np.stack([hot.transpose(2, 0, 1)] * 2)
    assert "/train/labels[0]: holds float32" in fault(volume.data)


@pytest.mark.parametrize("values", [np.array(3), np.arange(3)])
def test_arrays_without_planes_are_named(values: Array, tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    (tmp_path / "train/labels/a.png").unlink()
    np.save(tmp_path / "train/labels/a.npy", values)
    assert "a.npy: holds int64" in fault(copy.data)


@pytest.mark.parametrize("orientation", [3, 6])
def test_label_maps_with_an_orientation_are_refused(orientation: int, tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(copy.labels["a"]["labels"]).save(tmp_path / "train/labels/a.png", exif=exif)
    assert "a.png: its EXIF data turn it" in fault(copy.data)


def test_what_to_do_is_said_of_each_fault(tmp_path: Path) -> None:
    copy = pairs(tmp_path)
    path = tmp_path / "train/labels/a.png"
    Image.fromarray(copy.labels["a"]["labels"]).convert("RGB").save(path)
    assert fault(copy.data).endswith("it is grey: save it with one channel if its levels are labels")
    Image.new("LA", SIZE[::-1], (1, 5)).save(path)
    assert fault(copy.data).endswith("save it without alpha")
    Image.new("RGB", SIZE[::-1], (3, 5, 7)).save(path)
    assert fault(copy.data).endswith("name the classes with their colours in classes.txt, void as the last")


def test_masks_of_0_and_255_are_not_taken_for_void(tmp_path: Path) -> None:
    masks = {name: np.where(labels_of(name, 2) == 1, 255, 0) for name in "abc"}
    data = folder_of(tmp_path, masks)
    text(tmp_path / "classes.txt", ["background", "cell"])
    said = fault(data, own_recipe(data))
    assert said.startswith("no label map has cell (1), but 3 have 255")
    assert said.endswith("save cell as 1")
    save_grey(masks["c"] // 255, tmp_path / "labels/c.png")  # void elsewhere is fine
    assert set(np.unique(read(open_samples(data, own_recipe(data), "train"))["a"])) == {0, 255}


@pytest.mark.parametrize(("name", "written_by"), [("own.h5", matlab73), ("own.mat", lambda path: h5py.File(path, "w"))])
def test_axes_must_be_as_the_name_says(name: str, written_by: Callable[[Path], Any], tmp_path: Path) -> None:
    square = (13, 13)  # turned label maps would fit
    with written_by(tmp_path / name) as file:
        if written_by is matlab73:
            put(file, "images", np.stack([pixels_of(n, square) for n in "abc"]).transpose(1, 2, 3, 0))
            put(file, "labels", np.stack([labels_of(n, 21, size=square) for n in "abc"]).transpose(1, 2, 0))
        else:
            file["images"] = np.stack([pixels_of(n, square) for n in "abc"])
            file["labels"] = np.stack([labels_of(n, 21, size=square) for n in "abc"])
    assert "MATLAB" in fault(tmp_path / name)


# ---------------------------------------------------------------------- void, and classes that differ

BLUE, GREEN, BLACK = (0, 0, 255), (0, 255, 0), (0, 0, 0)


def described(tmp_path: Path, ignore: int, *classes: tuple[str, tuple[int, int, int]]) -> None:
    entries = [{"index": i, "name": name, "color": color} for i, (name, color) in enumerate(classes)]
    (tmp_path / "classes.json").write_text(json.dumps({"labels": {"ignore": ignore, "classes": entries}}))


def test_void_may_have_a_colour(tmp_path: Path) -> None:
    values = labels_of("a", 2, 2)
    data = folder_of(tmp_path, {"a": values, "b": values}, drawn_in(BLUE, GREEN, BLACK))
    described(tmp_path, 255, ("hay", BLUE), ("field", GREEN))
    assert "(0, 0, 0)" in fault(data, own_recipe(data))
    described(tmp_path, 2, ("hay", BLUE), ("field", GREEN), ("void", BLACK))
    assert own_labels(data) == LabelSpace(("hay", "field"), (BLUE, GREEN), 2)
    np.testing.assert_array_equal(read(open_samples(data, own_recipe(data), "train"))["a"], values)
    described(tmp_path, 255, ("hay", BLUE), ("field", GREEN), ("void", BLACK))
    with pytest.raises(SettingsError, match="another index than its ignore"):
        own_labels(data)


def test_classes_of_a_text_file_may_have_colours(tmp_path: Path) -> None:
    values = labels_of("a", 2, 2)
    data = folder_of(tmp_path, {"a": values}, drawn_in(BLUE, GREEN, BLACK))
    text(tmp_path / "classes.txt", ["0 0 255\thay bale", "0, 255, 0 field", "0 0 0 Void"])
    assert own_labels(data) == LabelSpace(("hay bale", "field"), (BLUE, GREEN), 2)
    np.testing.assert_array_equal(read(open_samples(data, own_recipe(data), "train"))["a"], values)
    text(tmp_path / "classes.txt", ["0 0 256 hay", "0 255 0 field"])
    with pytest.raises(SettingsError, match="beyond 255"):
        own_labels(data)


def test_void_among_the_attributes(tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    with h5py.File(copy.data, "r+") as file:
        colors = np.array([BLUE, GREEN, BLACK], np.uint8)
        file["train/labels"].attrs.update({"classes": ["a", "b", "Void"], "colors": colors, "ignore": 2})
    assert own_labels(copy.data) == LabelSpace(("a", "b"), (BLUE, GREEN), 2)


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
    said = fault(other, own_recipe(one))
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


def test_joint_data_sets_are_counted_through(tmp_path: Path) -> None:
    one, other = (open_samples(write(tmp_path / write.__name__).data, VOC, "train") for write in (pairs, pairs_listed))
    both = JoinedImages([one, other])
    assert [both[i].name for i in range(len(both))] == [*one.names, *other.names] == list(both.names)
    assert both[-1].name == other.names[-1]
    with pytest.raises(IndexError):
        both[len(both)]


@pytest.mark.parametrize("signature", [b"HEAP", b"TREE", b"SNOD"])
def test_a_damaged_hdf5_file_is_named(signature: bytes, tmp_path: Path) -> None:
    copy = hdf5_groups(tmp_path)
    content = copy.data.read_bytes()
    assert signature in content
    copy.data.write_bytes(content.replace(signature, b"gone"))
    for opened in (lambda: own_labels(copy.data), lambda: open_samples(copy.data, VOC, "train")):
        with pytest.raises(SourceError, match=rf"{re.escape(str(copy.data))} cannot be read"):
            opened()
